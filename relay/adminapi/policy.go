package adminapi

import (
	"net/http"

	"github.com/stsrelay/stsrelay/relay/operator"
)

func (s *Server) policyRoutes(mux *http.ServeMux) {
	o := s.operator
	mux.HandleFunc("GET /v1/policies", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, o.Policies()) })
	mux.HandleFunc("GET /v1/policies/{domain}", func(w http.ResponseWriter, r *http.Request) { answer(w)(o.Policy(r.PathValue("domain"))) })
	mux.HandleFunc("GET /v1/policies/{domain}/stored", s.storedPolicy)
	mux.HandleFunc("POST /v1/policies/{domain}/refresh", func(w http.ResponseWriter, r *http.Request) {
		answer(w)(o.RefreshPolicy(r.Context(), actorOf(r.Context()), r.PathValue("domain")))
	})
	mux.HandleFunc("DELETE /v1/policies/{domain}", func(w http.ResponseWriter, r *http.Request) {
		answer(w)(o.RemovePolicy(r.Context(), actorOf(r.Context()), r.PathValue("domain")))
	})
}

// storedPolicy answers in the form of the store, CBOR.
func (s *Server) storedPolicy(w http.ResponseWriter, r *http.Request) {
	value, err := s.operator.StoredPolicy(r.PathValue("domain"))
	if err != nil {
		refuse(w, operator.HTTPStatus(err), err)
		return
	}
	w.Header().Set("Content-Type", "application/cbor")
	_, _ = w.Write(value) //nolint:gosec // it is CBOR, on the admin socket; the client has gone if it fails
}

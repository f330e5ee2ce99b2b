package adminapi

import "net/http"

func (s *Server) publishRoutes(mux *http.ServeMux) {
	o := s.operator
	mux.HandleFunc("GET /v1/publish", func(w http.ResponseWriter, r *http.Request) { answer(w)(o.Published(r.Context())) })
	mux.HandleFunc("POST /v1/publish/{domain}/renew", func(w http.ResponseWriter, r *http.Request) {
		err := o.RenewPublished(r.Context(), actorOf(r.Context()), r.PathValue("domain"))
		answer(w)(map[string]bool{"renewed": err == nil}, err)
	})
}

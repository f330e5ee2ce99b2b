package adminapi

import (
	"net/http"

	"github.com/stsrelay/stsrelay/relay/received"
)

// receivedRoutes has the TLS reports that others sent. The arrays of reports and mails are
// streamed.
func (s *Server) receivedRoutes(mux *http.ServeMux) {
	o := s.operator
	mux.HandleFunc("GET /v1/received", func(w http.ResponseWriter, r *http.Request) {
		a, q := &array{w: w}, r.URL.Query()
		s.end(a, o.ReceivedReports(r.Context(), q.Get("domain"), q.Get("since"), func(rec *received.Record) bool { return a.add(rec) }))
	})
	mux.HandleFunc("GET /v1/received-mails", func(w http.ResponseWriter, r *http.Request) {
		a := &array{w: w}
		s.end(a, o.ReceivedMails(r.Context(), r.URL.Query().Get("since"), func(m *received.Mail) bool { return a.add(m) }))
	})
	mux.HandleFunc("GET /v1/received-summary", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		answer(w)(o.ReceivedSummaries(r.Context(), q.Get("domain"), q.Get("since")))
	})
	mux.HandleFunc("GET /v1/received/{id}", func(w http.ResponseWriter, r *http.Request) {
		answer(w)(o.ReceivedReport(r.Context(), r.PathValue("id")))
	})
	mux.HandleFunc("POST /v1/received", func(w http.ResponseWriter, r *http.Request) {
		answer(w)(o.ImportReports(r.Context(), actorOf(r.Context()), r.Body, r.URL.Query().Get("name")))
	})
}

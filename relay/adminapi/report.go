package adminapi

import (
	"net/http"

	"github.com/stsrelay/stsrelay/tlsrpt"
)

// reportRoutes has the TLS reports. The arrays are streamed.
func (s *Server) reportRoutes(mux *http.ServeMux) {
	o := s.operator
	mux.HandleFunc("GET /v1/reports", func(w http.ResponseWriter, r *http.Request) {
		a, q := &array{w: w}, r.URL.Query()
		s.end(a, o.Reports(r.Context(), q.Get("date"), q.Get("domain"), func(st tlsrpt.Status) bool { return a.add(st) }))
	})
	mux.HandleFunc("GET /v1/reports/{day}", func(w http.ResponseWriter, r *http.Request) {
		a := &array{w: w}
		s.end(a, o.PreviewReports(r.Context(), r.PathValue("day"), r.URL.Query().Get("domain"), func(rep *tlsrpt.Report) bool { return a.add(rep) }))
	})
	mux.HandleFunc("POST /v1/reports/{day}/send", func(w http.ResponseWriter, r *http.Request) {
		a := &array{w: w}
		s.end(a, o.SendReports(r.Context(), actorOf(r.Context()), r.PathValue("day"), r.URL.Query().Get("domain"), func(st tlsrpt.Status) bool { return a.add(st) }))
	})
}

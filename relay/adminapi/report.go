package adminapi

import (
	"fmt"
	"net/http"

	"github.com/stsrelay/stsrelay/tlsrpt"
)

// reportDay checks the day that is asked for, and gives the domain with it.
func (s *Server) reportDay(w http.ResponseWriter, r *http.Request) (day, domain string, ok bool) {
	day = r.PathValue("day")
	domain, err := s.reported(day, r.URL.Query().Get("domain"))
	if err != nil {
		refuse(w, err)
	}
	return day, domain, err == nil
}

// reportList streams where the reports stand, the newest day first.
func (s *Server) reportList(w http.ResponseWriter, r *http.Request) {
	a := &array{w: w}
	s.end(a, s.reports(r.Context(), r.URL.Query(), func(st tlsrpt.Status) bool { return a.add(st) }))
}

// reportPreview streams the reports of a day as they would be sent.
func (s *Server) reportPreview(w http.ResponseWriter, r *http.Request) {
	day, domain, ok := s.reportDay(w, r)
	if !ok {
		return
	}
	a := &array{w: w}
	s.end(a, s.o.Reports.Preview(r.Context(), day, domain, func(rep *tlsrpt.Report) bool { return a.add(rep) }))
}

// reportSend sends the reports of a day now and streams what came of each.
func (s *Server) reportSend(w http.ResponseWriter, r *http.Request) {
	day, domain, ok := s.reportDay(w, r)
	if !ok {
		return
	}
	a := &array{w: w}
	err := s.o.Reports.SendNow(r.Context(), day, domain, func(st tlsrpt.Status) bool { return a.add(st) })
	s.o.Logger.Info("TLS reports sent by the operator", "day", day, "domain", domain, "reports", a.n)
	if err != nil && a.n == 0 {
		err = fmt.Errorf("nothing was sent: %w", err)
	}
	s.end(a, err)
}

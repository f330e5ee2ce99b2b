package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// reportDomain is the domain that is asked for, "" for all, where reports are
// made at all.
func (s *Server) reportDomain(w http.ResponseWriter, r *http.Request) (string, bool) {
	if s.o.Reports == nil {
		refuse(w, http.StatusConflict, errors.New("TLS reports are switched off (tlsrpt.enabled)"))
		return "", false
	}
	domain := r.URL.Query().Get("domain")
	if domain == "" {
		return "", true
	}
	ascii, err := mailbox.ParseName(domain)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return "", false
	}
	return ascii, true
}

// reportDay is the day that is asked for.
func reportDay(w http.ResponseWriter, day string) bool {
	if _, err := tlsrpt.ParseDay(day); err != nil {
		refuse(w, http.StatusBadRequest, err)
		return false
	}
	return true
}

// array streams a JSON array, so that its length does not matter.
type array struct {
	w http.ResponseWriter
	n int
}

func (a *array) add(v any) bool {
	if a.n == 0 {
		a.w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(a.w, "[")
	} else {
		_, _ = io.WriteString(a.w, ",")
	}
	a.n++
	return json.NewEncoder(a.w).Encode(v) == nil
}

// end ends the array, or says what went wrong.
func (s *Server) end(a *array, err error) {
	switch {
	case err != nil && a.n > 0:
		s.o.Logger.Error("a list of TLS reports was cut short", "error", err)
		panic(http.ErrAbortHandler) // the client must not take it for the whole
	case err != nil:
		refuse(a.w, http.StatusInternalServerError, err)
	case a.n == 0:
		answer(a.w, []struct{}{})
	default:
		_, _ = io.WriteString(a.w, "]\n")
	}
}

// reportList streams where the reports stand, the newest day first.
func (s *Server) reportList(w http.ResponseWriter, r *http.Request) {
	domain, ok := s.reportDomain(w, r)
	day := r.URL.Query().Get("date")
	if !ok || day != "" && !reportDay(w, day) {
		return
	}
	a := &array{w: w}
	s.end(a, s.o.Reports.List(r.Context(), day, domain, func(st tlsrpt.Status) bool { return a.add(st) }))
}

// reportPreview streams the reports of a day as they would be sent.
func (s *Server) reportPreview(w http.ResponseWriter, r *http.Request) {
	domain, ok := s.reportDomain(w, r)
	if !ok || !reportDay(w, r.PathValue("day")) {
		return
	}
	a := &array{w: w}
	s.end(a, s.o.Reports.Preview(r.Context(), r.PathValue("day"), domain, func(rep *tlsrpt.Report) bool { return a.add(rep) }))
}

// reportSend sends the reports of a day now and streams what came of each.
func (s *Server) reportSend(w http.ResponseWriter, r *http.Request) {
	domain, ok := s.reportDomain(w, r)
	if !ok || !reportDay(w, r.PathValue("day")) {
		return
	}
	a := &array{w: w}
	err := s.o.Reports.SendNow(r.Context(), r.PathValue("day"), domain, func(st tlsrpt.Status) bool { return a.add(st) })
	s.o.Logger.Info("TLS reports sent by the operator", "day", r.PathValue("day"), "domain", domain, "reports", a.n)
	if err != nil && a.n == 0 {
		err = fmt.Errorf("nothing was sent: %w", err)
	}
	s.end(a, err)
}

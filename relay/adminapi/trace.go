package adminapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/stsrelay/stsrelay/relay/operator"
	"github.com/stsrelay/stsrelay/relay/trace"
)

func (s *Server) traceRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1/trace", s.trace)
	mux.HandleFunc("GET /v1/queue/{id}/trace", func(w http.ResponseWriter, r *http.Request) {
		answer(w)(s.operator.Transcripts(r.PathValue("id")))
	})
}

// trace streams events as JSON lines. The header of the answer is sent once the attempts
// that begin are watched.
func (s *Server) trace(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	f := trace.Filter{ID: q.Get("id"), Domain: q.Get("domain"), Host: q.Get("host")}
	if n := q.Get("attempts"); n != "" {
		var err error
		if f.Attempts, err = strconv.Atoi(n); err != nil || f.Attempts < 0 {
			refuse(w, http.StatusBadRequest, fmt.Errorf("attempts %q is not a number", n))
			return
		}
	}
	watcher, err := s.operator.Trace(f)
	if err != nil {
		refuse(w, operator.HTTPStatus(err), err)
		return
	}
	defer watcher.Close()
	w.Header().Set("Content-Type", "application/jsonl")
	w.WriteHeader(http.StatusOK)
	flush, out := http.NewResponseController(w), json.NewEncoder(w)
	for {
		if flush.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case e, ok := <-watcher.Events():
			if !ok || out.Encode(e) != nil {
				return
			}
		}
	}
}

package adminapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/stsrelay/stsrelay/relay/history"
	"github.com/stsrelay/stsrelay/relay/operator"
)

func (s *Server) historyRoutes(mux *http.ServeMux) {
	o := s.operator
	mux.HandleFunc("GET /v1/history", func(w http.ResponseWriter, r *http.Request) {
		q, err := readHistoryQuery(r.URL.Query())
		if err != nil {
			refuse(w, http.StatusBadRequest, err)
			return
		}
		a := &array{w: w}
		s.end(a, o.History(r.Context(), q, func(record *history.Record) bool { return a.add(record) }))
	})
	mux.HandleFunc("GET /v1/history/{id}", func(w http.ResponseWriter, r *http.Request) {
		answer(w)(o.Timeline(r.Context(), r.PathValue("id")))
	})
	mux.HandleFunc("GET /v1/history/{id}/evidence", func(w http.ResponseWriter, r *http.Request) {
		answer(w)(o.Evidence(r.Context(), r.PathValue("id")))
	})
	mux.HandleFunc("GET /v1/history-evidence", func(w http.ResponseWriter, r *http.Request) {
		q, err := readHistoryQuery(r.URL.Query())
		if err != nil {
			refuse(w, http.StatusBadRequest, err)
			return
		}
		answer(w)(o.EvidenceOf(r.Context(), q))
	})
	mux.HandleFunc("GET /v1/history-summary", func(w http.ResponseWriter, r *http.Request) {
		q, err := readHistoryQuery(r.URL.Query())
		if err != nil {
			refuse(w, http.StatusBadRequest, err)
			return
		}
		answer(w)(o.HistorySummary(r.Context(), q.Since, q.Until))
	})
	mux.HandleFunc("POST /v1/history/forget", func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Address string `json:"address"`
			DryRun  bool   `json:"dry_run"`
		}
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10)).Decode(&in); err != nil {
			refuse(w, http.StatusBadRequest, err)
			return
		}
		answer(w)(o.Forget(r.Context(), actorOf(r.Context()), in.Address, in.DryRun))
	})
}

// readHistoryQuery reads a query of the history; times are those of RFC 3339.
func readHistoryQuery(q url.Values) (out operator.HistoryQuery, err error) {
	out = operator.HistoryQuery{
		From: q.Get("from"), To: q.Get("to"), Domain: q.Get("domain"), MessageID: q.Get("message_id"), ID: q.Get("id"),
		Verdict: q.Get("verdict"), Proof: q.Get("proof"), Event: q.Get("event"), OldestFirst: q.Get("order") == "oldest",
	}
	for name, at := range map[string]*time.Time{"since": &out.Since, "until": &out.Until} {
		if v := q.Get(name); v != "" {
			if *at, err = time.Parse(time.RFC3339, v); err != nil {
				return out, fmt.Errorf("%s %q is not a time such as 2026-11-27T09:00:00Z", name, v)
			}
		}
	}
	if v := q.Get("limit"); v != "" {
		if out.Limit, err = strconv.Atoi(v); err != nil {
			return out, fmt.Errorf("limit %q is not a number", v)
		}
	}
	return out, nil
}

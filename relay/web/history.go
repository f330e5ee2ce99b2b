package web

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/history"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// historyFields are the parameters of a search in the history.
var historyFields = []string{"to", "from", "domain", "message_id", "verdict", "proof", "since", "until"}

// historyPage is a search in the history, and what it found.
type historyPage struct {
	Query   url.Values
	Asked   bool // something was asked for
	Records []history.Record
	Proofs  []history.Proof
}

const (
	// historyRows is how many records a search shows.
	historyRows = 200
	// documentTime is how long evidence is collected.
	documentTime = 20 * time.Second
)

// historyPages returns the handlers of the history.
func (p *pages) historyPages() map[string]http.Handler {
	return map[string]http.Handler{
		"/history":               p.page("history", p.history),
		"/history/{id}":          p.page("timeline", p.timeline),
		"/history/{id}/evidence": p.document(p.evidence),
		"/history/evidence":      p.document(p.evidenceOf),
	}
}

// Evidence returns the address of the document of how the mail travelled that was found, ""
// where none of it was delivered.
func (h *historyPage) Evidence() string {
	if !h.Asked || !slices.ContainsFunc(h.Records, func(r history.Record) bool { return r.Verdict == "delivered" }) {
		return ""
	}
	q := url.Values{}
	for key, values := range h.Query {
		if values[0] != "" {
			q[key] = values
		}
	}
	return "/history/evidence?" + q.Encode()
}

// historyQuery reads a search in the history.
func historyQuery(get func(key string) string) (operator.HistoryQuery, error) {
	q := operator.HistoryQuery{To: get("to"), From: get("from"), Domain: get("domain"), MessageID: get("message_id"), Verdict: get("verdict"), Proof: get("proof")}
	var err error
	if q.Since, err = parseDay(get("since")); err != nil {
		return q, err
	}
	if q.Until, err = parseDay(get("until")); err != nil {
		return q, err
	}
	if !q.Until.IsZero() {
		q.Until = q.Until.AddDate(0, 0, 1) // the day is part of it
	}
	return q, nil
}

func (p *pages) history(r *http.Request, v *view) error {
	v.Tab, v.Title = "history", v.T("History")
	page := &historyPage{Query: url.Values{}, Proofs: history.Proofs}
	for _, key := range historyFields {
		value := strings.TrimSpace(r.URL.Query().Get(key))
		page.Query.Set(key, value)
		page.Asked = page.Asked || value != ""
	}
	v.Page = page
	q, err := historyQuery(page.Query.Get)
	if err != nil {
		return err
	}
	q.Limit = historyRows + 1
	err = p.operator.History(r.Context(), q, func(rec *history.Record) bool {
		page.Records = append(page.Records, *rec)
		return true
	})
	page.Records = firstRows(page.Records, historyRows, v, v.T("A narrower search finds others."))
	return noteTimeout(err, v)
}

// parseDay returns the beginning of a day, in UTC; the zero time for "".
func parseDay(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return t, operator.Invalid(phrase.Errorf("a day is written as 2026-11-28"))
	}
	return t, nil
}

// timelinePage is all that the history has of a message.
type timelinePage struct {
	ID        string
	Records   []history.Record
	Delivered bool // there is evidence
}

func (p *pages) timeline(r *http.Request, v *view) error {
	v.Tab, v.Title = "history", v.T("Message %s", r.PathValue("id"))
	list, err := p.operator.Timeline(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	page := &timelinePage{ID: r.PathValue("id"), Records: list}
	for i := range list {
		page.Delivered = page.Delivered || list[i].Verdict == "delivered"
	}
	v.Page = page
	return nil
}

// evidence answers with the document of how a message travelled.
func (p *pages) evidence(r *http.Request) ([]history.Evidence, error) {
	return p.operator.Evidence(r.Context(), r.PathValue("id"))
}

// evidenceOf answers with the document of how the mail travelled that a search finds.
func (p *pages) evidenceOf(r *http.Request) ([]history.Evidence, error) {
	q, err := historyQuery(func(key string) string { return strings.TrimSpace(r.URL.Query().Get(key)) })
	if err != nil {
		return nil, err
	}
	return p.operator.EvidenceOf(r.Context(), q)
}

// document returns the handler that answers with evidence as a file: it has a style of its
// own for A4, which the pages do not allow.
func (p *pages) document(of func(*http.Request) ([]history.Evidence, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), documentTime)
		defer cancel()
		all, err := of(r.WithContext(ctx))
		var document []byte
		if err == nil {
			document, err = history.HTML(all, languageOf(r))
		}
		if err != nil {
			v := p.newView(r)
			v.Tab = "history"
			p.fail(w, v, err)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Disposition", `attachment; filename="evidence.html"`)
		_, _ = w.Write(document) //nolint:gosec // the template escapes it; the client has gone if it fails
	})
}

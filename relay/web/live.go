package web

import (
	"net/http"
	"strconv"
	"time"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/relay/live"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// liveRefresh is after how many seconds the browser asks for the live view again.
const liveRefresh = 5

// livePage is what the relay does at this moment.
type livePage struct {
	operator.Live
	Spans []string // over which the rates are measured
	Rows  []rateRow
}

// rateRow is one number over each of the spans.
type rateRow struct {
	Name   string
	Values []string
}

// live shows what the relay does at this moment, as "stsrelay top" does.
func (p *pages) live(r *http.Request, v *view) error {
	page := &livePage{Live: p.operator.Live(r.Context())}
	v.Tab, v.Title, v.Page = "live", v.T("Live"), page
	if !r.URL.Query().Has("refresh") {
		v.Refresh = liveRefresh
	}
	for i := range page.Rates {
		page.Spans = append(page.Spans, human.Span(time.Duration(page.Rates[i].Window)*time.Second))
	}
	for _, row := range []struct {
		name string
		of   func(*live.Rate) float64
	}{
		{v.T("Accepted a second"), func(r *live.Rate) float64 { return r.Accepted }},
		{v.T("Delivered a second"), func(r *live.Rate) float64 { return r.Delivered }},
		{v.T("Deferred a second"), func(r *live.Rate) float64 { return r.Deferred }},
		{v.T("Bounced a second"), func(r *live.Rate) float64 { return r.Bounced }},
		{v.T("Commit of the store in ms"), func(r *live.Rate) float64 { return r.CommitMS }},
	} {
		out := rateRow{Name: row.name}
		for i := range page.Rates {
			out.Values = append(out.Values, strconv.FormatFloat(row.of(&page.Rates[i]), 'f', 1, 64))
		}
		page.Rows = append(page.Rows, out)
	}
	return nil
}

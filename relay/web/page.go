package web

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/stsrelay/stsrelay/tlsrpt"
)

// pageRows is how many rows a list has; it is read by a person.
const pageRows = 200

// pageNames are the files of package folder page, without .html.
var pageNames = []string{"overview", "queue", "message", "confirm", "pause", "history", "timeline", "policies", "reports", "day", "received", "receiveddomain", "check", "live", "publish", "login", "error"}

// handlers returns the pages by their paths.
func (p *pages) handlers() map[string]http.Handler {
	handlers := map[string]http.Handler{
		"/{$}":           p.page("overview", p.overview),
		"/queue":         p.page("queue", p.queue),
		"/queue/{id}":    p.page("message", p.message),
		"/queue/confirm": p.page("confirm", p.confirm),
		"/pause":         p.page("pause", p.confirmPause),
		"/policies":      p.page("policies", p.policies),
		"/reports":       p.page("reports", p.reports),
		"/reports/{day}": p.page("day", p.day),
		"/check":         p.pageWithin(checkWait, "check", p.check),
		"/live":          p.page("live", p.live),
		"/publish":       p.page("publish", p.published),
	}
	maps.Copy(handlers, p.receivedPages())
	maps.Copy(handlers, p.historyPages())
	return handlers
}

// reportDay is the TLS reports of one day.
type reportDay struct {
	Day                string
	Reports            int
	Sessions, Failures int64
	states             map[tlsrpt.State]int
}

// In returns how many of the reports are in a state.
func (d reportDay) In(state tlsrpt.State) int { return d.states[state] }

// days counts the reports of the newest n days, or (0) of all days.
func (p *pages) days(ctx context.Context, n int, v *view) ([]reportDay, error) {
	var days []reportDay
	err := p.operator.Reports(ctx, "", "", func(st tlsrpt.Status) bool {
		if len(days) == 0 || days[len(days)-1].Day != st.Day {
			if len(days) == n && n > 0 {
				return false
			}
			days = append(days, reportDay{Day: st.Day, states: make(map[tlsrpt.State]int)})
		}
		d := &days[len(days)-1]
		d.Reports++
		d.Sessions += st.Sessions
		d.Failures += st.Failures
		d.states[st.State]++
		return ctx.Err() == nil
	})
	return days, noteTimeout(cmp.Or(err, ctx.Err()), v)
}

func (p *pages) reports(r *http.Request, v *view) error {
	v.Tab, v.Title = "reports", v.T("TLS reports")
	days, err := p.days(r.Context(), 0, v)
	v.Page = &reportsPage{Days: days, Chart: reportChart(days, v.T("failed"))}
	return err
}

// reportsPage is the TLS reports of all days, the newest first.
type reportsPage struct {
	Days  []reportDay
	Chart *chart // nil: there is nothing to draw
}

// reportChart draws the sessions that the reports count; failed is the word for those that
// failed.
func reportChart(newestFirst []reportDay, failed string) *chart {
	var days []chartDay
	for _, d := range slices.Backward(newestFirst) {
		days = append(days, chartDay{Day: d.Day, Good: d.Sessions - d.Failures, Bad: map[string]int64{failed: d.Failures}})
	}
	return newChart(days, []typeColour{{Type: failed}})
}

// dayPage is the reports of a day.
type dayPage struct {
	Day, Domain string
	Reports     []tlsrpt.Status
}

func (p *pages) day(r *http.Request, v *view) error {
	page := &dayPage{Day: r.PathValue("day"), Domain: strings.TrimSpace(r.URL.Query().Get("domain"))}
	v.Tab, v.Title, v.Page = "reports", v.T("TLS reports of %s", page.Day), page
	ctx := r.Context()
	err := p.operator.Reports(ctx, page.Day, page.Domain, func(st tlsrpt.Status) bool {
		page.Reports = append(page.Reports, st)
		return len(page.Reports) <= pageRows && ctx.Err() == nil
	})
	page.Reports = firstRows(page.Reports, pageRows, v, v.T("A domain finds others."))
	return noteTimeout(cmp.Or(err, ctx.Err()), v)
}

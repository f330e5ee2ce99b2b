package web

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/relay/received"
)

// receivedSpan is the time that the pages of received reports cover.
const receivedSpan = 90 * 24 * time.Hour

// receivedPages are the pages of the TLS reports that others send.
func (p *pages) receivedPages() map[string]http.Handler {
	return map[string]http.Handler{
		"/received":          p.page("received", p.received),
		"/received/{domain}": p.page("receiveddomain", p.receivedDomain),
	}
}

// receivedPage is what is known of all domains.
type receivedPage struct {
	Domains []received.Summary
	Mails   []received.Mail // without a report, the newest first
}

func (p *pages) received(r *http.Request, v *view) error {
	v.Tab, v.Title = "received", v.T("Reports about your domains")
	page := &receivedPage{}
	list, err := p.operator.ReceivedSummaries(r.Context(), "", receivedSince())
	if err != nil {
		return err
	}
	page.Domains = firstRows(list, pageRows, v, v.T("The command finds the others: stsrelay received summary DOMAIN."))
	err = p.operator.ReceivedMails(r.Context(), "", func(m *received.Mail) bool {
		page.Mails = append(page.Mails, *m)
		return true
	})
	slices.Reverse(page.Mails)
	page.Mails = page.Mails[:min(len(page.Mails), overviewProblems)]
	v.Page = page
	return err
}

func receivedSince() string { return time.Now().Add(-receivedSpan).UTC().Format(time.DateOnly) }

// receivedDomainPage is what is known of one domain.
type receivedDomainPage struct {
	received.Summary
	Chart *chart
	// Types are the result types, the most frequent first; Hosts has a row for each host, with
	// the sessions by type.
	Types []typeColour
	Hosts []hostRow
}

// typeColour is a result type with the number of its colour.
type typeColour struct {
	Type   string
	Colour int
}

// hostRow counts the failed sessions of a host by result type.
type hostRow struct {
	MX    string
	Cells []int64
}

// colours is the number of colours for result types that style.css has.
const colours = 8

func (p *pages) receivedDomain(r *http.Request, v *view) error {
	domain := r.PathValue("domain")
	v.Tab, v.Title = "received", v.T("Reports about %s", domain)
	list, err := p.operator.ReceivedSummaries(r.Context(), domain, receivedSince())
	if err != nil {
		return err
	}
	page := &receivedDomainPage{Summary: received.Summary{Domain: domain}}
	if len(list) == 1 {
		page.Summary = list[0]
	}
	for i := range page.Failures {
		f := &page.Failures[i]
		f.Remedy = strings.ReplaceAll(f.Remedy, "DOMAIN", domain)
	}
	page.fill()
	v.Page = page
	return nil
}

// fill makes the picture and the table of hosts.
func (d *receivedDomainPage) fill() {
	sessions := make(map[string]int64)
	hosts := make(map[string]map[string]int64)
	for _, f := range d.Failures {
		sessions[f.Type] += f.Sessions
		if hosts[f.MX] == nil {
			hosts[f.MX] = make(map[string]int64)
		}
		hosts[f.MX][f.Type] += f.Sessions
	}
	types := slices.SortedFunc(maps.Keys(sessions), func(a, b string) int {
		return cmp.Or(cmp.Compare(sessions[b], sessions[a]), strings.Compare(a, b))
	})
	for i, t := range types {
		d.Types = append(d.Types, typeColour{t, min(i, colours-1)})
	}
	for _, mx := range slices.Sorted(maps.Keys(hosts)) {
		row := hostRow{MX: mx}
		for _, t := range types {
			row.Cells = append(row.Cells, hosts[mx][t])
		}
		d.Hosts = append(d.Hosts, row)
	}
	d.Chart = newChart(d.Days, d.Types)
}

// chart is the picture of a time: a bar for each day, what went well above the axis and
// what failed below, each half with a scale of its own.
type chart struct {
	Width, Height, Axis int // of the picture, in its own units
	Bars                []bar
	MostGood, MostBad   int64 // of one day
	First, Last         string
}

// bar is one rectangle of a chart.
type bar struct {
	X, Y, Width, Height float64
	// Colour is -1 for what went well.
	Colour int
	Title  string
}

// The measures of a chart.
const (
	dayWidth   = 10
	goodHeight = 100
	badHeight  = 60
	maxDays    = 100
)

// newChart draws all days from the first to the last, those without a report too; nil
// where there are none.
func newChart(days []received.Day, types []typeColour) *chart {
	if len(days) == 0 {
		return nil
	}
	first, err := time.Parse(time.DateOnly, days[0].Day)
	last, err2 := time.Parse(time.DateOnly, days[len(days)-1].Day)
	if err != nil || err2 != nil {
		return nil
	}
	if from := last.AddDate(0, 0, 1-maxDays); from.After(first) {
		first = from
	}
	c := &chart{Axis: goodHeight, Height: goodHeight + badHeight, Width: dayWidth * (int(last.Sub(first)/(24*time.Hour)) + 1), First: days[0].Day, Last: days[len(days)-1].Day}
	c.Width = max(c.Width, 30*dayWidth) // so that a few days do not fill the page
	for i := range days {
		c.MostGood, c.MostBad = max(c.MostGood, days[i].Successful), max(c.MostBad, days[i].Failures())
	}
	for i := range days {
		if at, err := time.Parse(time.DateOnly, days[i].Day); err == nil && !at.Before(first) {
			c.day(&days[i], float64(dayWidth*int(at.Sub(first)/(24*time.Hour))), types)
		}
	}
	return c
}

// day draws the bars of one day.
func (c *chart) day(d *received.Day, x float64, types []typeColour) {
	if d.Successful > 0 {
		h := scale(d.Successful, c.MostGood, goodHeight)
		c.Bars = append(c.Bars, bar{X: x, Y: float64(c.Axis) - h, Width: dayWidth - 2, Height: h, Colour: -1, Title: fmt.Sprintf("%s: %d", d.Day, d.Successful)})
	}
	y := float64(c.Axis)
	for _, t := range types {
		if n := d.Failed[t.Type]; n > 0 {
			h := scale(n, c.MostBad, badHeight)
			c.Bars = append(c.Bars, bar{X: x, Y: y, Width: dayWidth - 2, Height: h, Colour: t.Colour, Title: fmt.Sprintf("%s: %d %s", d.Day, n, t.Type)})
			y += h
		}
	}
}

// scale returns the height of n where most is as high as the half: at least 1, so that one
// session is seen.
func scale(n, most int64, half float64) float64 { return max(1, half*float64(n)/float64(most)) }

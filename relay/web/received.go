package web

import (
	"cmp"
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
	days := make([]chartDay, len(d.Days))
	for i := range d.Days {
		days[i] = chartDay{Day: d.Days[i].Day, Good: d.Days[i].Successful, Bad: d.Days[i].Failed}
	}
	d.Chart = newChart(days, d.Types)
}

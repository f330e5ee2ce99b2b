package web

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/relay/operator"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

const (
	pageRows         = 200 // of a list; a page is read by a person
	overviewRows     = 50  // of domains on the overview
	overviewDays     = 2   // of reports on the overview: yesterday's, and today's
	overviewProblems = 10  // of policies on the overview
)

// pageNames are the files of package folder page, without .html.
var pageNames = []string{"overview", "queue", "message", "confirm", "policies", "reports", "day", "received", "receiveddomain", "login", "error"}

// handlers returns the pages by their paths.
func (p *pages) handlers() map[string]http.Handler {
	handlers := map[string]http.Handler{
		"/{$}":           p.page("overview", p.overview),
		"/queue":         p.page("queue", p.queue),
		"/queue/{id}":    p.page("message", p.message),
		"/queue/confirm": p.page("confirm", p.confirm),
		"/policies":      p.page("policies", p.policies),
		"/reports":       p.page("reports", p.reports),
		"/reports/{day}": p.page("day", p.day),
	}
	maps.Copy(handlers, p.receivedPages())
	return handlers
}

// overviewPage is the state of the relay.
type overviewPage struct {
	OldestAt *time.Time // of what waits
	Domains  []operator.DomainSummary
	Reasons  []operator.Reason // of all domains
	Policies policyCounts
	Days     []reportDay
	Reports  string // why there are no days, "" where they are all there
}

// policyCounts is the policy cache in numbers.
type policyCounts struct {
	Off                             string // why there is no cache, "" where there is
	Enforce, Testing, None, Missing int
	// Failing are the first policies with a problem, Problems is how many there are.
	Failing  []operator.Policy
	Problems int
}

func (p *pages) overview(r *http.Request, v *view) error {
	v.Tab, v.Title = "overview", v.T("Overview")
	o := &overviewPage{}
	domains := p.operator.Summary()
	for i := range domains {
		if at := domains[i].OldestAt; o.OldestAt == nil || at.Before(*o.OldestAt) {
			o.OldestAt = &at
		}
	}
	o.Reasons = operator.Reasons(domains)
	o.Domains = firstRows(domains, overviewRows, v, v.T("The list of messages finds those of a domain."))
	if err := p.operator.PoliciesOff(); err != nil {
		o.Policies.Off = err.Error()
	}
	for _, policy := range p.operator.Policies() {
		switch policy.Mode {
		case "enforce":
			o.Policies.Enforce++
		case "testing":
			o.Policies.Testing++
		case "none":
			o.Policies.None++
		default:
			o.Policies.Missing++
		}
		if policy.Problem() != "" {
			if o.Policies.Problems++; o.Policies.Problems <= overviewProblems {
				o.Policies.Failing = append(o.Policies.Failing, policy)
			}
		}
	}
	reports := &view{words: v.words}
	var err error
	if o.Days, err = p.days(r.Context(), overviewDays, reports); err != nil {
		o.Reports = err.Error() // the rest is worth showing without them
	} else {
		o.Reports = reports.Note
	}
	v.Page = o
	return nil
}

// policiesPage is the policy cache, the policies with a problem first.
type policiesPage struct {
	Domain   string // part of the names that are shown
	Policies []operator.Policy
}

func (p *pages) policies(r *http.Request, v *view) error {
	v.Tab, v.Title = "policies", v.T("Policies")
	if err := p.operator.PoliciesOff(); err != nil {
		return err
	}
	page := &policiesPage{Domain: strings.ToLower(strings.TrimSpace(r.URL.Query().Get("domain")))}
	for _, policy := range p.operator.Policies() {
		if strings.Contains(policy.Domain, page.Domain) {
			page.Policies = append(page.Policies, policy)
		}
	}
	slices.SortStableFunc(page.Policies, func(a, b operator.Policy) int { return cmp.Compare(failing(&b), failing(&a)) })
	page.Policies = firstRows(page.Policies, pageRows, v, v.T("A part of a domain's name finds others."))
	v.Page = page
	return nil
}

// failing returns 1 for a policy with a problem, else 0.
func failing(p *operator.Policy) int { return min(len(p.Problem()), 1) }

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
	v.Page = days
	return err
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

package web

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/internal/printable"
	"github.com/stsrelay/stsrelay/relay/operator"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

const (
	pageRows         = 200 // of a list; a page is read by a person
	overviewRows     = 50  // of domains on the overview
	overviewDays     = 2   // of reports on the overview: yesterday's, and today's
	overviewProblems = 10  // of policies on the overview
	// searchTime bounds how long a page looks for rows: with a filter that matches
	// nothing, it would read the whole of a queue of a million messages.
	searchTime = 8 * time.Second
)

//go:embed page
var pageFiles embed.FS

// pages shows what the operator can read. html/template escapes what strangers
// have written there.
type pages struct {
	operator  *operator.Operator
	log       *slog.Logger
	templates map[string]*template.Template // by file, without .html
}

// view is what a template gets.
type view struct {
	Status operator.Status
	Tab    string // of the navigation
	Title  string
	Page   any
	// Note says why the page does not have everything; "" where it does.
	Note string
}

func newPages(o *operator.Operator, log *slog.Logger) *pages {
	layout := template.Must(template.New("layout.html").Funcs(template.FuncMap{
		"size": human.Size, "span": human.Span, "until": human.Until, "ago": human.Ago, "clock": human.Clock, "plural": human.Plural,
		"age":     func(t time.Time) string { return human.Span(time.Since(t)) },
		"seconds": func(n int64) time.Duration { return time.Duration(n) * time.Second },
		"join":    strings.Join,
	}).ParseFS(pageFiles, "page/layout.html"))
	p := &pages{operator: o, log: log, templates: make(map[string]*template.Template)}
	for _, name := range []string{"overview", "queue", "message", "policies", "reports", "day", "error"} {
		p.templates[name] = template.Must(template.Must(layout.Clone()).ParseFS(pageFiles, "page/"+name+".html"))
	}
	return p
}

// handlers returns the pages by their paths.
func (p *pages) handlers() map[string]http.Handler {
	return map[string]http.Handler{
		"/{$}":           p.page("overview", p.overview),
		"/queue":         p.page("queue", p.queue),
		"/queue/{id}":    p.page("message", p.message),
		"/policies":      p.page("policies", p.policies),
		"/reports":       p.page("reports", p.reports),
		"/reports/{day}": p.page("day", p.day),
		"/style.css": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.ServeFileFS(w, r, pageFiles, "page/style.css")
		}),
	}
}

// page returns the handler of one page; fill fills in its view. An error of fill is
// shown under the title of the page.
func (p *pages) page(name string, fill func(*http.Request, *view) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), searchTime)
		defer cancel()
		v := &view{Status: p.operator.Status()}
		status, show := http.StatusOK, name
		if err := fill(r.WithContext(ctx), v); err != nil {
			status, show = operator.HTTPStatus(err), "error"
			v.Page = err.Error()
		}
		var b bytes.Buffer // whole, or an error that can still be told
		if err := p.templates[show].Execute(printable.NewWriter(&b), v); err != nil {
			p.log.Error("a web page could not be made", "page", show, "error", err)
			http.Error(w, "the page could not be made: see the log", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(status)
		_, _ = b.WriteTo(w) // the client has gone if it fails
	})
}

// firstRows returns the first n rows. If there are more, the note of the page says so.
func firstRows[T any](rows []T, n int, v *view, whatElse string) []T {
	if len(rows) <= n {
		return rows
	}
	v.Note = "There are more than these " + strconv.Itoa(n) + ". " + whatElse
	return rows[:n]
}

// noteTimeout turns the end of the search time into a note, so that the page shows
// what was found.
func noteTimeout(err error, v *view) error {
	if errors.Is(err, context.DeadlineExceeded) {
		v.Note = "This is what was found in " + human.Span(searchTime) + "; there may be more."
		return nil
	}
	return err
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
	v.Tab, v.Title = "overview", "Overview"
	o := &overviewPage{}
	domains := p.operator.Summary()
	for i := range domains {
		if at := domains[i].OldestAt; o.OldestAt == nil || at.Before(*o.OldestAt) {
			o.OldestAt = &at
		}
	}
	o.Reasons = operator.Reasons(domains)
	o.Domains = firstRows(domains, overviewRows, v, "The list of messages finds those of a domain.")
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
	reports := &view{}
	var err error
	if o.Days, err = p.days(r.Context(), overviewDays, reports); err != nil {
		o.Reports = err.Error() // the rest is worth showing without them
	} else {
		o.Reports = reports.Note
	}
	v.Page = o
	return nil
}

// queuePage is a list of messages, and the filter that it is for.
type queuePage struct {
	Query    url.Values
	Messages []operator.Message
}

func (p *pages) queue(r *http.Request, v *view) error {
	v.Tab, v.Title = "queue", "Queue"
	q := r.URL.Query()
	page := &queuePage{Query: url.Values{}}
	for _, key := range []string{"domain", "from", "to", "state", "older_than"} {
		page.Query.Set(key, strings.TrimSpace(q.Get(key)))
	}
	f := page.Query
	sel := operator.Selection{Domain: f.Get("domain"), From: f.Get("from"), To: f.Get("to"), State: f.Get("state"), OlderThan: f.Get("older_than"), All: true}
	err := p.operator.Messages(r.Context(), sel, pageRows+1, func(m *operator.Message) bool { // one more tells that there are more
		page.Messages = append(page.Messages, *m)
		return true
	})
	page.Messages = firstRows(page.Messages, pageRows, v, "They are the oldest; a filter finds others.")
	v.Page = page
	return noteTimeout(err, v)
}

func (p *pages) message(r *http.Request, v *view) error {
	v.Tab, v.Title = "queue", "Message"
	m, err := p.operator.Message(r.PathValue("id"))
	if err != nil {
		return err
	}
	v.Title, v.Page = "Message "+m.ID, &m
	return nil
}

// policiesPage is the policy cache, the policies with a problem first.
type policiesPage struct {
	Domain   string // part of the names that are shown
	Policies []operator.Policy
}

func (p *pages) policies(r *http.Request, v *view) error {
	v.Tab, v.Title = "policies", "Policies"
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
	page.Policies = firstRows(page.Policies, pageRows, v, "A part of a domain's name finds others.")
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
	v.Tab, v.Title = "reports", "TLS reports"
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
	v.Tab, v.Title, v.Page = "reports", "TLS reports of "+page.Day, page
	ctx := r.Context()
	err := p.operator.Reports(ctx, page.Day, page.Domain, func(st tlsrpt.Status) bool {
		page.Reports = append(page.Reports, st)
		return len(page.Reports) <= pageRows && ctx.Err() == nil
	})
	page.Reports = firstRows(page.Reports, pageRows, v, "A domain finds others.")
	return noteTimeout(cmp.Or(err, ctx.Err()), v)
}

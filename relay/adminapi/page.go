package adminapi

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/internal/printable"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

const (
	pageRows     = 200 // of a list; a page is read by a person
	overviewRows = 50  // of domains on the overview
	overviewDays = 2   // of reports on the overview: yesterday's, and today's
	// patience is how long a page looks for rows: a filter that fits nothing in a
	// queue of a million would read all of it.
	patience = 8 * time.Second
)

//go:embed page
var pageFiles embed.FS

// pages shows what read.go reads to people. Whatever strangers have put there is
// escaped by html/template.
type pages struct {
	s         *Server
	templates map[string]*template.Template // by file, without .html
}

// view is what a template gets.
type view struct {
	Status Status
	Tab    string // of the navigation
	Title  string
	Page   any
	// Note says why the page does not have everything; "" where it does.
	Note string
}

func newPages(s *Server) *pages {
	layout := template.Must(template.New("layout.html").Funcs(template.FuncMap{
		"size": human.Size, "span": human.Span, "until": human.Until, "ago": human.Ago, "clock": human.Clock, "plural": human.Plural,
		"age":     func(t time.Time) string { return human.Span(time.Since(t)) },
		"seconds": func(n int64) time.Duration { return time.Duration(n) * time.Second },
		"join":    strings.Join,
	}).ParseFS(pageFiles, "page/layout.html"))
	p := &pages{s: s, templates: make(map[string]*template.Template)}
	for _, name := range []string{"overview", "queue", "message", "policies", "reports", "day", "error"} {
		p.templates[name] = template.Must(template.Must(layout.Clone()).ParseFS(pageFiles, "page/"+name+".html"))
	}
	return p
}

// handlers are the pages by their paths.
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

// page is the handler of one page, which fills in the view; of an error, under its
// title, with the reason.
func (p *pages) page(name string, fill func(*http.Request, *view) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), patience)
		defer cancel()
		v := &view{Status: p.s.o.Status()}
		status, show := http.StatusOK, name
		if err := fill(r.WithContext(ctx), v); err != nil {
			status, show = statusOf(err), "error"
			v.Page = err.Error()
		}
		var b bytes.Buffer // whole, or an error that can still be told
		if err := p.templates[show].Execute(printable.NewWriter(&b), v); err != nil {
			p.s.o.Logger.Error("a web page could not be made", "page", show, "error", err)
			http.Error(w, "the page could not be made: see the log", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(status)
		_, _ = b.WriteTo(w) // the client has gone if it fails
	})
}

// cut is the rows that a page has room for.
func cut[T any](rows []T, n int, v *view, whatElse string) []T {
	if len(rows) <= n {
		return rows
	}
	v.Note = "There are more than these " + strconv.Itoa(n) + ". " + whatElse
	return rows[:n]
}

// late turns the end of the patience into a note: what was found is shown.
func late(err error, v *view) error {
	if errors.Is(err, context.DeadlineExceeded) {
		v.Note = "This is what was found in " + human.Span(patience) + "; there may be more."
		return nil
	}
	return err
}

// overviewPage is how the relay is.
type overviewPage struct {
	OldestAt *time.Time // of what waits
	Domains  []DomainSummary
	Reasons  []Why // of all domains
	Policies policyCounts
	Days     []reportDay
	Reports  string // why there are no days, "" where they are all there
}

// policyCounts is the policy cache in numbers.
type policyCounts struct {
	Off                             string // why there is no cache, "" where there is
	Enforce, Testing, None, Missing int
	// Ailing are those that something is wrong with, Ailments how many there are.
	Ailing   []Policy
	Ailments int
}

func (p *pages) overview(r *http.Request, v *view) error {
	v.Tab, v.Title = "overview", "Overview"
	o := &overviewPage{}
	domains := p.s.summary()
	for i := range domains {
		if at := domains[i].OldestAt; o.OldestAt == nil || at.Before(*o.OldestAt) {
			o.OldestAt = &at
		}
	}
	o.Reasons = Reasons(domains)
	o.Domains = cut(domains, overviewRows, v, "The list of messages finds those of a domain.")
	if p.s.o.Policies == nil {
		o.Policies.Off = errNoSTS.Error()
	}
	for _, policy := range p.s.policies() {
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
		if policy.Ailment() != "" {
			if o.Policies.Ailments++; o.Policies.Ailments <= 10 {
				o.Policies.Ailing = append(o.Policies.Ailing, policy)
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
	Messages []Message
}

func (p *pages) queue(r *http.Request, v *view) error {
	v.Tab, v.Title = "queue", "Queue"
	q := r.URL.Query()
	page := &queuePage{Query: url.Values{}}
	for _, key := range []string{"domain", "from", "to", "state", "older_than"} {
		page.Query.Set(key, strings.TrimSpace(q.Get(key)))
	}
	asked := url.Values{"limit": {strconv.Itoa(pageRows + 1)}} // one more tells that there are more
	for key, value := range page.Query {
		asked[key] = value
	}
	err := p.s.messages(r.Context(), asked, func(m *Message) bool {
		page.Messages = append(page.Messages, *m)
		return true
	})
	page.Messages = cut(page.Messages, pageRows, v, "They are the oldest; a filter finds others.")
	v.Page = page
	return late(err, v)
}

func (p *pages) message(r *http.Request, v *view) error {
	v.Tab, v.Title = "queue", "Message"
	m, err := p.s.message(r.PathValue("id"))
	if err != nil {
		return err
	}
	v.Title, v.Page = "Message "+m.ID, &m
	return nil
}

// policiesPage is the policy cache, what ails first.
type policiesPage struct {
	Domain   string // part of the names that are shown
	Policies []Policy
}

func (p *pages) policies(r *http.Request, v *view) error {
	v.Tab, v.Title = "policies", "Policies"
	if p.s.o.Policies == nil {
		return errNoSTS
	}
	page := &policiesPage{Domain: strings.ToLower(strings.TrimSpace(r.URL.Query().Get("domain")))}
	for _, policy := range p.s.policies() {
		if strings.Contains(policy.Domain, page.Domain) {
			page.Policies = append(page.Policies, policy)
		}
	}
	slices.SortStableFunc(page.Policies, func(a, b Policy) int { return cmp.Compare(ailing(&b), ailing(&a)) })
	page.Policies = cut(page.Policies, pageRows, v, "A part of a domain's name finds others.")
	v.Page = page
	return nil
}

func ailing(p *Policy) int { return min(len(p.Ailment()), 1) }

// reportDay is the TLS reports of one day.
type reportDay struct {
	Day                string
	Reports            int
	Sessions, Failures int64
	states             map[tlsrpt.State]int
}

// In is how many of the reports are in a state.
func (d reportDay) In(state tlsrpt.State) int { return d.states[state] }

// days counts the reports of the newest days, at most n, or ("0") of all.
func (p *pages) days(ctx context.Context, n int, v *view) ([]reportDay, error) {
	var days []reportDay
	err := p.s.reports(ctx, nil, func(st tlsrpt.Status) bool {
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
	return days, late(cmp.Or(err, ctx.Err()), v)
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
	err := p.s.reports(ctx, url.Values{"date": {page.Day}, "domain": {page.Domain}}, func(st tlsrpt.Status) bool {
		page.Reports = append(page.Reports, st)
		return len(page.Reports) <= pageRows && ctx.Err() == nil
	})
	page.Reports = cut(page.Reports, pageRows, v, "A domain finds others.")
	return late(cmp.Or(err, ctx.Err()), v)
}

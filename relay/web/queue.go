package web

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/failure"
	"github.com/stsrelay/stsrelay/relay/history"
	"github.com/stsrelay/stsrelay/relay/operator"
)

const (
	queueRows = 100 // of a page of the queue
	// mostListed is how many messages a list counts and sorts. Of a longer one the
	// oldest are shown.
	mostListed = 10_000
)

// queueFilter are the parameters that say which messages are listed.
var queueFilter = []string{"domain", "from", "to", "state", "older_than", "why"}

// queuePage is a page of the list of messages, and what it was asked for.
type queuePage struct {
	Query    url.Values // what was asked for, without the page and the selection
	Messages []operator.Message
	Total    int
	More     bool // there are more than Total
	First    int  // number of the first row
	Number   int  // of the page, from 1
	Pages    int
	selected map[string]bool
	// Waits is what waits for the domain that was asked for, nil: nothing, or another question.
	Waits *operator.DomainSummary
	// Pausable is that domain, "" where it is paused already, or none was asked for.
	Pausable string
}

// Selected reports whether a message is selected.
func (p *queuePage) Selected(id string) bool { return p.selected[id] }

// Filtered reports whether not all messages were asked for.
func (p *queuePage) Filtered() bool {
	return slices.ContainsFunc(queueFilter, func(key string) bool { return p.Query.Get(key) != "" })
}

// Sort returns what the list is sorted by: "age" (the oldest first), "to", "from",
// "size", "tries" or "next"; with "-" before it the other way round.
func (p *queuePage) Sort() string { return cmp.Or(p.Query.Get("sort"), "age") }

// Aria returns the value of aria-sort for a column.
func (p *queuePage) Aria(column string) string {
	switch p.Sort() {
	case column:
		return "ascending"
	case "-" + column:
		return "descending"
	}
	return "none"
}

// Reasons returns the reasons that mail can wait for.
func (p *queuePage) Reasons() []failure.Row { return failure.All() }

// Reason returns the reason that was asked for, nil for any.
func (p *queuePage) Reason() *failure.Row {
	row := failure.Of(p.Query.Get("why"))
	if row.Reason == 0 {
		return nil
	}
	return &row
}

// By returns the address of the list sorted by a column, or the other way round where
// it is already.
func (p *queuePage) By(column string) string {
	if p.Sort() == column {
		column = "-" + column
	}
	return p.address("sort", column)
}

// At returns the address of another page of the list.
func (p *queuePage) At(number int) string { return p.address("page", strconv.Itoa(number)) }

// Previous and Next return the numbers of the pages beside this one.
func (p *queuePage) Previous() int { return p.Number - 1 }

// Next is described at Previous.
func (p *queuePage) Next() int { return p.Number + 1 }

// Last returns the number of the last row.
func (p *queuePage) Last() int { return p.First + len(p.Messages) - 1 }

func (p *queuePage) address(key, value string) string {
	q := url.Values{}
	for k, v := range p.Query {
		if v[0] != "" {
			q[k] = v
		}
	}
	q.Set(key, value)
	return "/queue?" + q.Encode()
}

// selectionOf returns the messages that a filter in the parameters of a request names.
func selectionOf(q url.Values) operator.Selection {
	get := func(key string) string { return strings.TrimSpace(q.Get(key)) }
	return operator.Selection{Domain: get("domain"), From: get("from"), To: get("to"), State: get("state"), OlderThan: get("older_than"), Why: get("why"), All: true}
}

func (p *pages) queue(r *http.Request, v *view) error {
	v.Tab, v.Title = "queue", v.T("Queue")
	q := r.URL.Query()
	page := &queuePage{Query: url.Values{}, Number: 1, selected: make(map[string]bool)}
	for _, key := range append(queueFilter, "sort") {
		page.Query.Set(key, strings.TrimSpace(q.Get(key)))
	}
	for _, id := range q["id"] {
		page.selected[id] = true
	}
	if n, err := strconv.Atoi(q.Get("page")); err == nil && n > 0 {
		page.Number = min(n, mostListed)
	}
	v.Page = page
	page.Waits = p.waits(page.Query.Get("domain"))
	page.Pausable = p.pausable(page.Query.Get("domain"))
	list, err := p.listed(r.Context(), selectionOf(page.Query), page)
	if err = noteTimeout(err, v); err != nil {
		return err
	}
	if page.More && page.Sort() != "age" {
		v.Note = v.T("Only the oldest %d are sorted; a filter finds others.", mostListed)
	}
	page.Pages = max(1, (page.Total+queueRows-1)/queueRows)
	page.Number = min(page.Number, page.Pages)
	begin := min((page.Number-1)*queueRows, len(list))
	page.First = begin + 1
	page.Messages = list[begin:min(begin+queueRows, len(list))]
	return nil
}

// pausable returns a domain in the form of the queue, "" where it is paused already, or none.
func (p *pages) pausable(domain string) string {
	name, err := mailbox.ParseName(domain)
	if err != nil || slices.ContainsFunc(p.operator.Pauses(), func(pause operator.Pause) bool { return pause.Domain == name }) {
		return ""
	}
	return name
}

// waits returns what waits for a domain, nil for nothing.
func (p *pages) waits(domain string) *operator.DomainSummary {
	name, err := mailbox.ParseName(domain)
	if err != nil {
		return nil
	}
	for _, d := range p.operator.Summary() {
		if d.Domain == name && d.Reason.Code != failure.New.Code() {
			return &d
		}
	}
	return nil
}

// listed returns the messages up to the end of the page that is asked for, sorted, and
// counts them. It returns what it has with an error of time.
func (p *pages) listed(ctx context.Context, sel operator.Selection, page *queuePage) ([]operator.Message, error) {
	most := mostListed
	if whole := !page.Filtered() && page.Sort() == "age"; whole {
		most = page.Number * queueRows // how many there are is known without looking
	}
	var list []operator.Message
	err := p.operator.Messages(ctx, sel, most+1, func(m *operator.Message) bool {
		list = append(list, *m)
		return true
	})
	page.Total, page.More = len(list), len(list) > mostListed
	if most != mostListed {
		page.Total, page.More = max(len(list), p.operator.Status().Queue.Messages), false
	}
	if page.More {
		list = list[:mostListed]
		page.Total = mostListed
	}
	if compare := queueOrder[strings.TrimPrefix(page.Sort(), "-")]; compare != nil && page.Sort() != "age" {
		if strings.HasPrefix(page.Sort(), "-") {
			slices.SortStableFunc(list, func(a, b operator.Message) int { return compare(&b, &a) })
		} else {
			slices.SortStableFunc(list, func(a, b operator.Message) int { return compare(&a, &b) })
		}
	}
	return list, err
}

// queueOrder are the columns by which the list can be sorted.
var queueOrder = map[string]func(a, b *operator.Message) int{
	"age":   func(a, b *operator.Message) int { return a.ReceivedAt.Compare(b.ReceivedAt) },
	"to":    func(a, b *operator.Message) int { return cmp.Compare(domainOf(a.To()), domainOf(b.To())) },
	"from":  func(a, b *operator.Message) int { return cmp.Compare(a.From, b.From) },
	"size":  func(a, b *operator.Message) int { return cmp.Compare(a.Size, b.Size) },
	"tries": func(a, b *operator.Message) int { return cmp.Compare(a.Attempts, b.Attempts) },
	"next":  func(a, b *operator.Message) int { return orLast(a.NextAttemptAt).Compare(orLast(b.NextAttemptAt)) },
}

// orLast returns a time, and for none one that is after all others.
func orLast(t *time.Time) time.Time {
	if t == nil {
		return time.Unix(1<<40, 0)
	}
	return *t
}

// domainOf returns the domain of an address first, for a sort by domain.
func domainOf(address string) string {
	local, domain, _ := strings.Cut(address, "@")
	return domain + " " + local
}

// messagePage is a message, and its attempts so far.
type messagePage struct {
	operator.Message
	Tried []history.Record // the oldest first
	More  bool             // there are more than Tried
}

// mostTried is how many attempts a page lists.
const mostTried = 100

// ReasonDomain returns the domain that the reason is about.
func (m *messagePage) ReasonDomain() string {
	for _, r := range m.Recipients {
		if r.Reason == m.Reason.Code && r.State == "queued" {
			return r.Address[strings.LastIndexByte(r.Address, '@')+1:]
		}
	}
	return ""
}

func (p *pages) message(r *http.Request, v *view) error {
	v.Tab, v.Title = "queue", v.T("Message")
	m, err := p.operator.Message(r.PathValue("id"))
	if err != nil {
		return err
	}
	page := &messagePage{Message: m}
	v.Title, v.Page = v.T("Message %s", m.ID), page
	err = p.operator.History(r.Context(), operator.HistoryQuery{ID: m.ID, Event: string(history.Attempt), Since: m.ReceivedAt, Limit: mostTried + 1, OldestFirst: true}, func(rec *history.Record) bool {
		page.More = len(page.Tried) == mostTried
		if !page.More {
			page.Tried = append(page.Tried, *rec)
		}
		return true
	})
	return noteTimeout(err, v)
}

// confirmPage asks before messages are given up or removed.
type confirmPage struct {
	Action         operator.Action
	Query          url.Values // the filter, or the IDs
	Count          int
	Oldest, Newest *operator.Message
	Back, Reason   string
}

// errTooMany is that the messages of a filter cannot be counted in time.
var errTooMany = phrase.Errorf("these are more messages than a page can count: narrow the filter, or use the command line")

// confirm is the page between a click on bounce or remove and its effect.
func (p *pages) confirm(r *http.Request, v *view) error {
	v.Tab, v.Title = "queue", v.T("Are you sure?")
	q := r.URL.Query()
	action, err := actionOf(q, operator.Bounce, operator.Remove)
	if err != nil {
		return err
	}
	page := &confirmPage{Action: action, Query: url.Values{}, Back: backOf(r), Reason: q.Get("reason")}
	for _, key := range append(queueFilter, "id", "scope") {
		if q.Has(key) {
			page.Query[key] = q[key]
		}
	}
	sel, err := targetOf(page.Query)
	if err != nil {
		return err
	}
	err = p.operator.Messages(r.Context(), sel, -1, func(m *operator.Message) bool {
		if page.Count++; page.Oldest == nil {
			page.Oldest = m
		}
		page.Newest = m
		return true
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return errTooMany
	}
	v.Page = page
	return err
}

// targetOf returns the messages that a form names: its filter where the scope says so,
// else the selected ones.
func targetOf(q url.Values) (operator.Selection, error) {
	scope, err := optional(q, "scope", "selected", "filter")
	if err != nil {
		return operator.Selection{}, err
	}
	if scope == "filter" {
		return selectionOf(q), once(q, queueFilter...)
	}
	if slices.Contains(q["id"], "") {
		return operator.Selection{}, operator.Invalid(phrase.Errorf("the form has a field %q without a value", "id"))
	}
	return operator.Selection{IDs: q["id"]}, nil
}

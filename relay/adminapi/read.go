package adminapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// What can be read of the relay. The API answers these values as JSON, the web
// page shows them: there is no other way to either.

// messages calls yield with the messages that a query selects, the oldest first,
// until it returns false. The keys are those of GET /v1/queue.
func (s *Server) messages(ctx context.Context, q url.Values, yield func(*Message) bool) error {
	sel := Selection{Domain: q.Get("domain"), From: q.Get("from"), To: q.Get("to"), State: q.Get("state"), OlderThan: q.Get("older_than"), All: true}
	f, err := sel.filter()
	if err != nil {
		return refusal{http.StatusBadRequest, err}
	}
	limit := -1
	if l := q.Get("limit"); l != "" {
		if limit, err = strconv.Atoi(l); err != nil || limit < 0 {
			return refusal{http.StatusBadRequest, fmt.Errorf("limit %q is not a number", l)}
		}
	}
	if limit == 0 {
		return nil
	}
	n := 0
	return s.o.Queue.List(ctx, f, func(m queue.Message) bool {
		n++
		out := newMessage(&m)
		return yield(&out) && n != limit
	})
}

// filter turns a selection into the queue's.
func (s *Selection) filter() (queue.Filter, error) {
	f := queue.Filter{From: s.From, To: s.To, State: queue.State(s.State)}
	if s.Domain != "" {
		domain, err := mailbox.ParseName(s.Domain)
		if err != nil {
			return f, err
		}
		f.Domain = domain
	}
	if s.OlderThan != "" {
		d, err := time.ParseDuration(s.OlderThan)
		if err != nil {
			return f, fmt.Errorf("older_than %q is not a time such as 2h", s.OlderThan)
		}
		f.OlderThan = d
	}
	if !slices.Contains([]queue.State{"", queue.Queued, queue.Active, queue.Held}, f.State) {
		return f, fmt.Errorf("state %q is not queued, active or held", s.State)
	}
	if len(s.IDs) == 0 && !s.All && f.Domain == "" && f.From == "" && f.To == "" && f.State == "" && f.OlderThan == 0 {
		return f, errors.New("say which messages: IDs, a filter, or all")
	}
	return f, nil
}

// message is one message, by its ID or a unique beginning of it.
func (s *Server) message(id string) (Message, error) {
	m, err := s.find(id)
	if err != nil {
		return Message{}, err
	}
	return newMessage(&m), nil
}

func (s *Server) find(id string) (queue.Message, error) {
	full, err := s.o.Queue.Resolve(id)
	if err != nil {
		return queue.Message{}, refusal{http.StatusNotFound, err}
	}
	m, err := s.o.Queue.Show(full)
	if err != nil {
		return m, refusal{http.StatusNotFound, err}
	}
	return m, nil
}

// summary is what waits by domain, most messages first.
func (s *Server) summary() []DomainSummary {
	out := []DomainSummary{}
	for _, d := range s.o.Queue.Summary() {
		out = append(out, DomainSummary{Domain: d.Domain, Messages: d.Messages, Recipients: d.Recipients,
			OldestAt: d.OldestAt.UTC().Truncate(time.Millisecond), NextAttemptAt: timePointer(d.NextAttemptAt), LastError: d.Last.Text, Why: newWhy(d.Last, d.Domain, "")})
	}
	return out
}

// policies is the whole policy cache, by domain.
func (s *Server) policies() []Policy {
	out := []Policy{}
	if s.o.Policies != nil {
		for _, e := range s.o.Policies.List() {
			out = append(out, newPolicy(e))
		}
	}
	return out
}

// policy is the entry of the policy cache for a domain.
func (s *Server) policy(name string) (Policy, error) {
	domain, err := s.cachedDomain(name)
	if err != nil {
		return Policy{}, err
	}
	e, ok := s.o.Policies.Show(domain)
	if !ok {
		return Policy{}, errNotCached(domain)
	}
	return newPolicy(e), nil
}

// cachedDomain is a domain in the form of the policy cache, where that is on.
func (s *Server) cachedDomain(name string) (string, error) {
	if s.o.Policies == nil {
		return "", errNoSTS
	}
	domain, err := mailbox.ParseName(name)
	if err != nil {
		return "", refusal{http.StatusBadRequest, err}
	}
	return domain, nil
}

var errNoSTS = refusal{http.StatusConflict, errors.New("MTA-STS is switched off (sts.enabled)")}

func errNotCached(domain string) error {
	return refusal{http.StatusNotFound, fmt.Errorf("no policy of %s is cached", domain)}
}

// reports calls yield with where the TLS reports stand, the newest day first,
// until it returns false. The keys are those of GET /v1/reports.
func (s *Server) reports(ctx context.Context, q url.Values, yield func(tlsrpt.Status) bool) error {
	day := q.Get("date")
	domain, err := s.reported(day, q.Get("domain"))
	if err != nil {
		return err
	}
	return s.o.Reports.List(ctx, day, domain, yield)
}

// reported checks a day and a domain that are asked for, "" for all, where
// reports are made at all. It returns the domain in the form of the reports.
func (s *Server) reported(day, domain string) (string, error) {
	if s.o.Reports == nil {
		return "", refusal{http.StatusConflict, errors.New("TLS reports are switched off (tlsrpt.enabled)")}
	}
	if day != "" {
		if _, err := tlsrpt.ParseDay(day); err != nil {
			return "", refusal{http.StatusBadRequest, err}
		}
	}
	if domain == "" {
		return "", nil
	}
	ascii, err := mailbox.ParseName(domain)
	if err != nil {
		return "", refusal{http.StatusBadRequest, err}
	}
	return ascii, nil
}

package received

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
)

// Summary is what reports say of one domain in a time.
type Summary struct {
	Domain     string `json:"domain"`
	Successful int64  `json:"successful"` // sessions
	Failed     int64  `json:"failed"`
	// Days has the days with reports, oldest first.
	Days     []Day     `json:"days"`
	Senders  []Sender  `json:"senders"`  // the one with the most sessions first
	Failures []Failure `json:"failures"` // the most frequent first
	// Seen are the policies that senders have seen, oldest first.
	Seen    []Sighting `json:"seen,omitempty"`
	Verdict Verdict    `json:"verdict"`
}

// Day has the sessions of one day.
type Day struct {
	Day        string           `json:"day"`
	Successful int64            `json:"successful"`
	Failed     map[string]int64 `json:"failed,omitempty"` // by result type
}

// Failures returns all failed sessions of the day.
func (d *Day) Failures() (n int64) {
	for _, sessions := range d.Failed {
		n += sessions
	}
	return n
}

// Sender is an organization that has sent reports.
type Sender struct {
	Organization string `json:"organization"`
	Successful   int64  `json:"successful"`
	Failed       int64  `json:"failed"`
	LastDay      string `json:"last_day"`
}

// Failure is one way of failing at one host.
type Failure struct {
	Type string `json:"type"`
	// MX is "" where no host is named.
	MX       string   `json:"mx,omitempty"`
	Sessions int64    `json:"sessions"`
	Senders  []string `json:"senders"`
	LastDay  string   `json:"last_day"`
	// Reason is a failure-reason-code of one of them.
	Reason string `json:"reason,omitempty"`
	// Own reports whether the domain's owner can mend it, as far as one can tell.
	Own bool `json:"own"`
	// Rule is where it is written that a session must not fail so; Remedy says what to
	// do.
	Rule   string        `json:"rule"`
	Remedy phrase.Phrase `json:"mend"`
}

// Sighting is a policy that senders have seen.
type Sighting struct {
	SeenPolicy
	FirstDay string `json:"first_day"`
	LastDay  string `json:"last_day"`
	Reports  int    `json:"reports"`
}

// Summaries returns what reports say of each domain, or of one, since a day, by domain.
func (a *Archive) Summaries(ctx context.Context, domain, since string) ([]Summary, error) {
	c := collection{domains: make(map[string]*collected)}
	err := scan(a, kindSum, since, func(key []byte, s *Sum) error {
		s.Day, _ = dayOf(key)
		if domain == "" || s.Domain == domain {
			c.of(s.Domain).add(s)
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	err = scan(a, kindReport, since, func(_ []byte, r *Record) error {
		for _, seen := range r.Policies {
			if domain == "" || seen.Domain == domain {
				c.of(seen.Domain).see(seen, r.Day)
			}
		}
		return ctx.Err()
	})
	if err != nil {
		return nil, err
	}
	verdicts, err := a.Verdicts(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]Summary, 0, len(c.domains))
	for _, name := range slices.Sorted(maps.Keys(c.domains)) {
		s := c.domains[name].summary()
		s.Verdict = verdicts[name]
		if s.Verdict.Domain == "" {
			s.Verdict = newVerdict(name)
		}
		out = append(out, s)
	}
	return out, nil
}

// collection collects the sums of domains.
type collection struct{ domains map[string]*collected }

func (c *collection) of(domain string) *collected {
	d := c.domains[domain]
	if d == nil {
		d = &collected{domain: domain, days: make(map[string]*Day), senders: make(map[string]*Sender), failures: make(map[[2]string]*Failure), seen: make(map[SeenPolicy]*Sighting)}
		c.domains[domain] = d
	}
	return d
}

// collected has the sums of one domain.
type collected struct {
	domain   string
	days     map[string]*Day
	senders  map[string]*Sender
	failures map[[2]string]*Failure // by type and host
	seen     map[SeenPolicy]*Sighting
}

func (c *collected) add(s *Sum) {
	day, sender := c.days[s.Day], c.senders[s.Organization]
	if day == nil {
		day = &Day{Day: s.Day, Failed: make(map[string]int64)}
		c.days[s.Day] = day
	}
	if sender == nil {
		sender = &Sender{Organization: s.Organization}
		c.senders[s.Organization] = sender
	}
	sender.LastDay = max(sender.LastDay, s.Day)
	if s.Type == "" {
		day.Successful += s.Sessions
		sender.Successful += s.Sessions
		return
	}
	day.Failed[s.Type] += s.Sessions
	sender.Failed += s.Sessions
	at := [2]string{s.Type, s.MX}
	f := c.failures[at]
	if f == nil {
		f = &Failure{Type: s.Type, MX: s.MX}
		c.failures[at] = f
	}
	f.Sessions += s.Sessions
	f.LastDay = max(f.LastDay, s.Day)
	f.Reason = cmp.Or(s.Reason, f.Reason)
	if !slices.Contains(f.Senders, s.Organization) {
		f.Senders = append(f.Senders, s.Organization)
	}
}

func (c *collected) see(seen SeenPolicy, day string) {
	s := c.seen[seen]
	if s == nil {
		s = &Sighting{SeenPolicy: seen, FirstDay: day}
		c.seen[seen] = s
	}
	s.FirstDay, s.LastDay = min(s.FirstDay, day), max(s.LastDay, day)
	s.Reports++
}

func (c *collected) summary() Summary {
	s := Summary{Domain: c.domain, Days: []Day{}, Senders: []Sender{}, Failures: []Failure{}}
	for _, name := range slices.Sorted(maps.Keys(c.days)) {
		d := c.days[name]
		s.Successful += d.Successful
		s.Failed += d.Failures()
		s.Days = append(s.Days, *d)
	}
	for _, sender := range c.senders {
		s.Senders = append(s.Senders, *sender)
	}
	slices.SortFunc(s.Senders, func(a, b Sender) int {
		return cmp.Or(cmp.Compare(b.Successful+b.Failed, a.Successful+a.Failed), strings.Compare(a.Organization, b.Organization))
	})
	for _, f := range c.failures {
		slices.Sort(f.Senders)
		f.explain(c.domain)
		s.Failures = append(s.Failures, *f)
	}
	slices.SortFunc(s.Failures, func(a, b Failure) int {
		return cmp.Or(cmp.Compare(b.Sessions, a.Sessions), strings.Compare(a.Type, b.Type), strings.Compare(a.MX, b.MX))
	})
	for _, seen := range c.seen {
		s.Seen = append(s.Seen, *seen)
	}
	slices.SortFunc(s.Seen, func(a, b Sighting) int {
		return cmp.Or(strings.Compare(a.FirstDay, b.FirstDay), strings.Compare(a.Type, b.Type), strings.Compare(a.ID, b.ID))
	})
	return s
}

// Since returns the day from which on a span of time until now counts.
func (a *Archive) Since(span time.Duration) string {
	return a.o.Now().Add(-span).UTC().Format(time.DateOnly)
}

package sts

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

const (
	// usedWithin is how long a policy is refreshed after its last use.
	usedWithin = 30 * 24 * time.Hour
	// keptExpired and keptFailed are how long an expired policy, and a domain
	// without a policy whose fetch failed, stay visible in the cache.
	keptExpired = 7 * 24 * time.Hour
	keptFailed  = 24 * time.Hour
	// refreshLook is the interval of the search for due refreshes, refreshers the
	// number of refreshes at a time.
	refreshLook = time.Minute
	refreshers  = 16
	// refreshRound bounds one round of refreshes. Then the order is made anew.
	refreshRound = 10 * time.Minute
	// latestRefresh is the longest time to the next refresh.
	latestRefresh = 30 * time.Hour
)

// refreshAt is the time of the next refresh of a policy that was fetched now:
// a random time about a day later, and well before it ends. One that ends
// within minutes is left to the next delivery.
func refreshAt(now time.Time, maxAge time.Duration) time.Time {
	daily := between(18*time.Hour, latestRefresh)
	early := between(maxAge/2, maxAge/5*4)
	return now.Add(max(min(daily, early), minBackoff))
}

func between(a, b time.Duration) time.Duration { return a + rand.N(b-a+1) } //nolint:gosec // it spreads load; nobody gains by guessing

// Run refreshes the policies that are in use about once a day and before they
// end, and removes entries of no more use, until ctx ends. Then it closes m.
func (m *Manager) Run(ctx context.Context) error {
	defer m.Close()
	t := time.NewTicker(refreshLook)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.C:
			m.maintain(ctx)
		}
	}
}

// maintain refreshes the policies that are due and removes entries of no more use. A
// refresh fetches the policy whatever the id of the record: an unchanged id keeps no
// policy alive (RFC 8461, 3.3), and an owner may
// have changed the policy and forgotten the id.
func (m *Manager) maintain(ctx context.Context) {
	type job struct {
		domain string
		what   requestLevel
		order  int
		end    time.Time
	}
	var jobs []job
	now := m.o.Now()
	m.cache.each(func(domain string, c *card) {
		if c.over(now) {
			jobs = append(jobs, job{domain: domain, what: drop})
		} else if c.due(now) {
			jobs = append(jobs, job{domain, fetch, c.refreshOrder(), c.expires(now)})
		}
	})
	slices.SortFunc(jobs, func(a, b job) int { return cmp.Or(cmp.Compare(a.order, b.order), a.end.Compare(b.end)) })
	work := make(chan job)
	var wg sync.WaitGroup
	for range min(refreshers, len(jobs)) {
		wg.Go(func() {
			for j := range work {
				_, _ = m.do(ctx, j.domain, j.what) // log and entry tell of failures
			}
		})
	}
	over := time.NewTimer(refreshRound)
	defer over.Stop()
hand:
	for _, j := range jobs {
		select {
		case work <- j:
		case <-over.C:
			break hand
		case <-ctx.Done():
			break hand
		}
	}
	close(work)
	wg.Wait()
}

// refreshOrder is the class in which a policy is refreshed, 0 before 1 before 2; within
// a class, the policy that ends first is first. Domains with mail since the last fetch
// are first, domains whose last fetch failed are last. So the owner of thousands of
// domains with silent hosts delays no other refresh, unless mail goes to all of them.
func (c *card) refreshOrder() int {
	switch {
	case c.failedAt != 0:
		return 2
	case c.used.Load()-c.fetchedAt <= 60:
		return 1
	}
	return 0
}

// Stored is the entry of one domain as the store has it: from a Store that holds
// it, another Manager decides as this one would. ok reports whether there is one.
func (m *Manager) Stored(domain string) (value []byte, ok bool) {
	e := m.stored(domain)
	if e == nil {
		return nil, false
	}
	value, err := e.encode()
	return value, err == nil
}

// stored is the entry of a domain for display. It is nil where there is none, and where
// it cannot be read, which is logged.
func (m *Manager) stored(domain string) *entry {
	e, err := m.cache.get(domain)
	if err != nil {
		m.o.Logger.Error("the policy cache cannot be read", "domain", domain, "error", err)
	}
	return e
}

// List returns all entries by domain.
func (m *Manager) List() []Entry {
	out := m.cache.all(m.o.Now())
	slices.SortFunc(out, func(a, b Entry) int { return cmp.Compare(a.Domain, b.Domain) })
	return out
}

// Modes counts the domains in the cache by the mode of the policy that is in
// force, "" for those without one.
func (m *Manager) Modes() map[Mode]int {
	now := m.o.Now()
	out := make(map[Mode]int)
	m.cache.each(func(_ string, c *card) {
		if c.valid(now) {
			out[c.mode]++
		} else {
			out[""]++
		}
	})
	return out
}

// Show returns the entry of one domain; ok reports whether there is one.
func (m *Manager) Show(domain string) (e Entry, ok bool) {
	if e := m.stored(domain); e != nil {
		return e.export(domain, m.o.Now()), true
	}
	return Entry{}, false
}

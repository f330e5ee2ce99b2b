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
	// keptExpired is how long an expired policy stays to be looked at.
	keptExpired = 7 * 24 * time.Hour
	// refreshLook is how often due refreshes are looked for, refreshers how
	// many are made at a time.
	refreshLook = time.Minute
	refreshers  = 4
)

// refreshAt is the time of the next refresh of a policy that was fetched now:
// a random time about a day later, and well before it ends.
func refreshAt(now time.Time, maxAge time.Duration) time.Time {
	wait := time.Duration(float64(24*time.Hour) * (0.75 + 0.5*rand.Float64()))
	if early := time.Duration(float64(maxAge) * (0.5 + 0.3*rand.Float64())); early < wait {
		wait = early
	}
	return now.Add(wait)
}

// Run refreshes the policies that are in use before they end, until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	t := time.NewTicker(refreshLook)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.C:
			m.refreshDue(ctx)
		}
	}
}

// refreshDue fetches what is due, whatever the record's id says: an owner may
// have changed the policy and forgotten the id (RFC 8461, 10.2).
func (m *Manager) refreshDue(ctx context.Context) {
	var due, dead []string
	now := m.o.Now()
	m.mu.RLock()
	for domain, e := range m.entries {
		used := now.Sub(time.Unix(e.used.Load(), 0)) < usedWithin
		switch {
		case e.policy != nil && used && e.RefreshAt <= now.Unix() && e.valid(now):
			due = append(due, domain)
		case e.policy != nil && now.Sub(e.expires(now)) > keptExpired,
			e.policy == nil && now.Sub(time.Unix(e.FailedAt, 0)) > maxBackoff*24:
			dead = append(dead, domain)
		}
	}
	m.mu.RUnlock()
	for _, domain := range dead {
		_, _ = m.Remove(ctx, domain)
	}
	work := make(chan string)
	var wg sync.WaitGroup
	for range min(refreshers, len(due)) {
		wg.Go(func() {
			for domain := range work {
				_, _ = m.refetch(ctx, domain, false) // told in the log and in the entry
			}
		})
	}
	for _, domain := range due {
		select {
		case work <- domain:
		case <-ctx.Done():
		}
	}
	close(work)
	wg.Wait()
}

// refetch fetches the policy of domain whatever the id and the back-off say.
// The id that it is kept under is the record's, or the old one where the
// record cannot be had.
func (m *Manager) refetch(ctx context.Context, domain string, fresh bool) (*entry, error) {
	id := ""
	if e := m.get(domain); e != nil {
		id = e.ID
	}
	if rec, err := m.lookupRecord(ctx, domain, fresh); err == nil {
		id = rec.ID
	}
	return m.fetch(ctx, domain, id, true)
}

// Refetch fetches the policy of a domain after it has refused every host,
// whatever the id: at most once in five minutes a domain, together for all who
// ask. changed says that another policy is in force now.
func (m *Manager) Refetch(ctx context.Context, domain string) (r Result, changed bool, err error) {
	e := m.get(domain)
	now := m.o.Now()
	if e == nil || e.policy == nil {
		return Result{Domain: domain}, false, nil
	}
	last := e.forcedAt.Load()
	if since := now.Unix() - last; last != 0 && since >= 0 && since < int64(forcedEvery/time.Second) {
		return m.result(domain, e, now), false, nil
	}
	e.forcedAt.Store(now.Unix())
	n, err := m.refetch(ctx, domain, true)
	if ctx.Err() != nil {
		return Result{}, false, context.Cause(ctx)
	}
	if err != nil {
		return m.result(domain, e, now), false, nil //nolint:nilerr // the old policy stays; the failure is logged and kept
	}
	return Result{Domain: domain, Policy: n.policy, ID: n.ID, Fresh: true}, n.policy.Text() != e.policy.Text(), nil
}

// Refresh fetches the policy of a domain for the operator: the record is looked
// up past the DNS cache, and neither id nor back-off keep from it. After an
// error the old policy stays in force.
func (m *Manager) Refresh(ctx context.Context, domain string) (Entry, error) {
	if _, err := m.lookupRecord(ctx, domain, true); err != nil && m.get(domain) == nil {
		return Entry{Domain: domain}, err
	}
	e, err := m.refetch(ctx, domain, true)
	if err != nil {
		return Entry{Domain: domain}, err
	}
	return e.export(domain, m.o.Now()), nil
}

// Remove forgets a domain; ok says that there was something to forget.
func (m *Manager) Remove(ctx context.Context, domain string) (ok bool, err error) {
	m.mu.Lock()
	_, ok = m.entries[domain]
	delete(m.entries, domain)
	m.mu.Unlock()
	if !ok {
		return false, nil
	}
	return true, m.o.Store.Delete(ctx, m.key(domain))
}

// List returns all entries by domain.
func (m *Manager) List() []Entry {
	now := m.o.Now()
	m.mu.RLock()
	out := make([]Entry, 0, len(m.entries))
	for domain, e := range m.entries {
		out = append(out, e.export(domain, now))
	}
	m.mu.RUnlock()
	slices.SortFunc(out, func(a, b Entry) int { return cmp.Compare(a.Domain, b.Domain) })
	return out
}

// Show returns the entry of one domain.
func (m *Manager) Show(domain string) (Entry, bool) {
	e := m.get(domain)
	if e == nil {
		return Entry{}, false
	}
	return e.export(domain, m.o.Now()), true
}

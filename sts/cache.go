package sts

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// maxText bounds what strangers can put into memory, in octets: 100,000
// policies of the usual size are a quarter of it, but one may have 64 KiB.
const maxText = 64 << 20

// loggedMX is how many of a policy's patterns, and of its oddities, are logged.
const loggedMX = 20

// load reads all entries. One that cannot be read is as if it were not there,
// and is fetched again when it is needed.
func (m *Manager) load() error {
	return m.o.Store.Scan(m.o.Prefix, func(k, v []byte) error {
		domain := string(k[len(m.o.Prefix):])
		e, err := decode(v)
		if err != nil {
			m.o.Logger.Error("a cached policy cannot be read; it is fetched again when it is needed", "domain", domain, "error", err)
			return nil
		}
		m.entries[domain] = e
		m.text += e.size()
		return nil
	})
}

func (m *Manager) get(domain string) *entry {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.entries[domain]
}

// use is get for a delivery.
func (m *Manager) use(domain string, now time.Time) *entry {
	e := m.get(domain)
	if e != nil {
		e.used.Store(now.Unix())
	}
	return e
}

// keep makes a fetched policy the one in force. changed says that it asks for
// something else than the one before.
func (m *Manager) keep(ctx context.Context, domain, id string, old *entry, f *Fetched, what errand, now time.Time) (e *entry, changed bool) {
	r := old.copyRecord(now)
	r.ID, r.Text, r.FetchedAt, r.Failure = id, cbor.ByteString(cmp.Or(f.Text, f.Policy.Text())), now.Unix(), nil
	r.RefreshAt = refreshAt(now, f.Policy.MaxAge).Unix()
	if what == fetchRefused {
		r.RefetchedAt = now.Unix()
	}
	before := old != nil && old.policy != nil
	changed = before && !sameDemands(old.policy, f.Policy)
	log := m.o.Logger.With("domain", domain, "policy", id, "mode", string(f.Policy.Mode),
		"mx", f.Policy.MX[:min(len(f.Policy.MX), loggedMX)], "max_age", f.Policy.MaxAge.String())
	switch {
	case changed && id == old.ID:
		r.ChangedAt = now.Unix()
		log.Info("the policy has changed and its id has not; the new policy is in force")
	case changed || !before:
		log.Info("policy fetched")
	}
	for _, remark := range f.Remarks[:min(len(f.Remarks), loggedMX)] {
		log.Debug("the policy is odd", "remark", string(remark))
	}
	e = newEntry(r, f.Policy)
	if f.Policy.MaxAge > 0 {
		m.put(ctx, domain, e)
	} else if old != nil { // it replaces the old one and ends at once
		_, _ = m.forget(ctx, domain) // which logs its error
	}
	return e, changed
}

// keepFailure remembers a failed fetch beside whatever policy there is.
func (m *Manager) keepFailure(ctx context.Context, domain, id string, old *entry, failed *FetchError, what errand, now time.Time) *entry {
	r := old.copyRecord(now)
	f := &failure{
		ID: id, At: now.Unix(), Count: 1, Type: failed.Type, NoHost: errors.Is(failed, ErrNoHost),
		Why: cbor.ByteString(cut(failed.Err.Error(), keptFailure)), Text: cbor.ByteString(cut(failed.Text, keptFailure)),
	}
	if r.Failure != nil && r.Failure.ID == id {
		f.Count += r.Failure.Count
	}
	r.Failure, r.RefreshAt = f, now.Add(f.wait()).Unix()
	if what == fetchRefused {
		r.RefetchedAt = now.Unix()
	}
	var policy *Policy
	if old != nil {
		policy = old.policy
	}
	e := newEntry(r, policy)

	level, attrs := slog.LevelWarn, []any{"domain", domain, "policy", id, "error", failed}
	if e.valid(now) {
		attrs = append(attrs, "mode", string(policy.Mode), "older_policy_expires_at", e.expires(now).UTC())
	}
	if id == "" || policy != nil && policy.Mode == ModeNone {
		level = slog.LevelInfo
	}
	m.o.Logger.Log(ctx, level, "policy not fetched", attrs...)
	m.put(ctx, domain, e)
	return e
}

// put keeps e in memory whatever the store says: a store in trouble must not
// take a policy away from the delivery that waits for it. It is called in the
// domain's flight.
func (m *Manager) put(ctx context.Context, domain string, e *entry) {
	m.mu.Lock()
	m.take(domain)
	m.entries[domain] = e
	m.text += e.size()
	full := !m.fits(0)
	m.mu.Unlock()
	if full {
		m.makeRoom(domain)
	}
	if m.get(domain) == nil { // it is what had to go
		_, _ = m.forget(ctx, domain) // which logs its error
		return
	}
	value, err := e.encode()
	if err == nil {
		err = m.o.Store.Put(ctx, m.key(domain), value)
	}
	if err != nil {
		m.o.Logger.Error("the policy cache cannot be written; the policy is kept in memory", "domain", domain, "error", err)
	}
}

// fits says that the cache is within its bounds, and that spare percent of them
// are free. The caller holds the lock.
func (m *Manager) fits(spare int) bool {
	return len(m.entries) <= m.o.MaxDomains-m.o.MaxDomains*spare/100 && m.text <= m.maxText-m.maxText/100*spare
}

// makeRoom throws entries out, each in a flight of its own, until the cache is
// within its bounds with a little to spare: looking at all of them takes a
// while. It is called in the flight of domain, which has just come.
func (m *Manager) makeRoom(domain string) {
	order := m.leastWorthFirst()
	var drops []*flight
	m.mu.Lock()
	for _, d := range order {
		if m.fits(1) {
			break
		}
		switch {
		case d == domain:
			m.take(d)
		case m.flights[d] == nil: // else it is in use
			drops = append(drops, m.start(d, drop))
			m.take(d)
		}
	}
	m.mu.Unlock()
	for _, f := range drops {
		<-f.done
	}
}

// leastWorthFirst orders the domains by their last use, with those that have an
// enforced policy behind the others.
func (m *Manager) leastWorthFirst() []string {
	type worth struct {
		domain   string
		enforced int
		used     int64
	}
	m.mu.RLock()
	all := make([]worth, 0, len(m.entries))
	for d, e := range m.entries {
		w := worth{domain: d, used: e.used.Load()}
		if e.policy != nil && e.policy.Mode == ModeEnforce {
			w.enforced = 1
		}
		all = append(all, w)
	}
	m.mu.RUnlock()
	slices.SortFunc(all, func(a, b worth) int {
		return cmp.Or(cmp.Compare(a.enforced, b.enforced), cmp.Compare(a.used, b.used))
	})
	order := make([]string, len(all))
	for i, w := range all {
		order[i] = w.domain
	}
	return order
}

// take removes a domain from memory. The caller holds the lock.
func (m *Manager) take(domain string) *entry {
	e := m.entries[domain]
	m.text -= e.size()
	delete(m.entries, domain)
	return e
}

// forget removes a domain from memory and store. It is called in its flight.
func (m *Manager) forget(ctx context.Context, domain string) (*entry, error) {
	m.mu.Lock()
	e := m.take(domain)
	m.mu.Unlock()
	err := m.o.Store.Delete(ctx, m.key(domain))
	if err != nil {
		m.o.Logger.Error("a policy cannot be removed from the store", "domain", domain, "error", err)
	}
	return e, err
}

func (m *Manager) key(domain string) []byte {
	return append(append(make([]byte, 0, len(m.o.Prefix)+len(domain)), m.o.Prefix...), domain...)
}

package sts

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// loggedMX is how many of a policy's patterns are logged.
const loggedMX = 20

// keepPolicy puts a fetched policy into force. changed reports whether it asks for
// something else than the one before.
func (m *Manager) keepPolicy(ctx context.Context, domain, id string, old *entry, f *Fetched, what requestLevel, now time.Time) (e *entry, changed bool) {
	policy := f.Policy.Applied()
	r := old.copyRecord(now)
	r.ID, r.FetchedAt, r.Failure = id, now.Unix(), nil
	r.RefreshAt = refreshAt(now, policy.MaxAge).Unix()
	if what == fetchRefused {
		r.RefetchedAt = now.Unix()
	}
	before := old != nil && old.policy != nil
	changed = before && !sameDemands(old.policy, policy)
	log := m.o.Logger.With("domain", domain, "policy", id, "mode", string(policy.Mode),
		"mx", policy.MX[:min(len(policy.MX), loggedMX)], "max_age", policy.MaxAge.String())
	switch {
	case changed && id == old.ID:
		r.ChangedAt = now.Unix()
		log.Info("the policy has changed and its id has not; the new policy is in force")
	case changed || !before:
		log.Info("policy fetched")
	}
	for _, w := range f.Warnings {
		log.Debug("the policy is odd", "remark", w.Texts, "more", w.More)
	}
	e = newEntry(r, policy)
	if policy.MaxAge > 0 {
		m.put(ctx, domain, e, now)
	} else if old != nil { // it replaces the old one and ends at once
		_, _ = m.cache.remove(ctx, domain) // which logs its error
	}
	return e, changed
}

// keepFailure stores a failed fetch beside the policy that is in the cache, if any.
func (m *Manager) keepFailure(ctx context.Context, domain, id string, old *entry, failed *FetchError, what requestLevel, now time.Time) *entry {
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
		attrs = append(attrs, "mode", string(policy.Mode), "older_policy_expires_at", e.card.expires(now).UTC())
	}
	if id == "" || policy != nil && policy.Mode == ModeNone {
		level = slog.LevelInfo
	}
	m.o.Logger.Log(ctx, level, "policy not fetched", attrs...)
	m.put(ctx, domain, e, now)
	return e
}

// put puts e into the cache. Only the lookup of the domain calls it.
func (m *Manager) put(ctx context.Context, domain string, e *entry, now time.Time) {
	value, err := e.encode()
	if err != nil { // cannot be
		m.o.Logger.Error("a policy cannot be kept", "domain", domain, "error", err)
		return
	}
	fits := m.cache.fits(domain, value)
	if !fits {
		m.makeRoom(domain, now)
		fits = m.cache.fits(domain, value)
	}
	m.cache.put(ctx, domain, e, value, fits)
}

// makeRoom removes domains without a policy in force, each by a lookup of its own. A
// policy in force is never removed for another domain: the owner of many domains could
// take the protection of others away. Only the lookup of the new domain calls it.
func (m *Manager) makeRoom(domain string, now time.Time) {
	idle := m.cache.idle(now)
	var drops []*lookup
	m.mu.Lock()
	for _, d := range idle {
		if d != domain && m.lookups[d] == nil && !m.cache.card(d).valid(now) { // other domains are in use
			drops = append(drops, m.start(d, drop))
		}
	}
	m.mu.Unlock()
	for _, f := range drops {
		<-f.done
	}
}

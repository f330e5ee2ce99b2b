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

// keep makes a fetched policy the one in force. changed says that it asks for
// something else than the one before.
func (m *Manager) keep(ctx context.Context, domain, id string, old *entry, f *Fetched, what errand, now time.Time) (e *entry, changed bool) {
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
		attrs = append(attrs, "mode", string(policy.Mode), "older_policy_expires_at", e.card.expires(now).UTC())
	}
	if id == "" || policy != nil && policy.Mode == ModeNone {
		level = slog.LevelInfo
	}
	m.o.Logger.Log(ctx, level, "policy not fetched", attrs...)
	m.put(ctx, domain, e, now)
	return e
}

// put puts e into the cache. It is called in the domain's flight.
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

// makeRoom throws out domains without a policy in force, each in a flight of its
// own. What is in force is never thrown out for another domain: whoever owns
// many domains would take other people's protection away. It is called in the
// flight of domain, which has just come.
func (m *Manager) makeRoom(domain string, now time.Time) {
	idle := m.cache.idle(now)
	var drops []*flight
	m.mu.Lock()
	for _, d := range idle {
		if d != domain && m.flights[d] == nil && !m.cache.card(d).valid(now) { // else it is in use
			drops = append(drops, m.start(d, drop))
		}
	}
	m.mu.Unlock()
	for _, f := range drops {
		<-f.done
	}
}

package sts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/sync/singleflight"
)

// ErrNoTXT is what ManagerOptions.LookupTXT says of a name without TXT records,
// or of one that does not exist. Every other error means that nobody knows.
var ErrNoTXT = errors.New("no TXT record")

// Store is where the cache is kept. Its values are small.
type Store interface {
	// Put and Delete are durable when they return.
	Put(ctx context.Context, key, value []byte) error
	Delete(ctx context.Context, key []byte) error
	Scan(prefix []byte, fn func(key, value []byte) error) error
}

// ManagerOptions configures NewManager. Store, Fetch and LookupTXT are required.
type ManagerOptions struct {
	Store Store
	// Prefix begins the cache's keys.
	Prefix []byte
	// Fetch gets a policy; it is the method of a Fetcher.
	Fetch func(ctx context.Context, domain string) (*Fetched, error)
	// LookupTXT looks up TXT records, past the cache where fresh is set.
	LookupTXT func(ctx context.Context, name string, fresh bool) ([]string, error)
	// MaxDomains bounds the cache. Default 100,000.
	MaxDomains int
	// Now is the wall clock; default time.Now.
	Now    func() time.Time
	Logger *slog.Logger
}

// Manager answers which policy is in force for a domain. Its methods may be
// called from many goroutines.
type Manager struct {
	o     ManagerOptions
	group singleflight.Group

	mu      sync.RWMutex
	entries map[string]*entry
}

// Result is the policy in force for a domain, and what became of looking for it.
type Result struct {
	Domain string
	// Policy is the policy in force, nil where there is none.
	Policy *Policy
	// ID is the id that it was fetched under.
	ID string
	// Failure is why a policy that is announced could not be had; it may be
	// set beside an older Policy that is still in force.
	Failure *FetchError
	// Unknown says that nobody could tell whether there is a policy: the
	// record could not be looked up, nothing is cached, and the policy host
	// gave no answer. Delivery waits a while then instead of going on without.
	Unknown bool
	// Why tells of an Unknown.
	Why string
	// Fresh says that Policy was fetched just now, for this answer.
	Fresh bool
}

// NewManager reads the cache from the store.
func NewManager(o ManagerOptions) (*Manager, error) {
	if o.MaxDomains == 0 {
		o.MaxDomains = 100_000
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Manager{o: o, entries: make(map[string]*entry)}
	if err := m.load(); err != nil {
		return nil, fmt.Errorf("read the policy cache: %w", err)
	}
	return m, nil
}

// Lookup returns the policy in force for domain, a lower-case name in A-labels.
// The policy in the cache is used while the record's id is the same; whatever
// is wrong with the record or with a newer policy, a cached one stays in force
// until it expires (RFC 8461, 3.3). The error is ctx's.
func (m *Manager) Lookup(ctx context.Context, domain string) (Result, error) {
	if strings.HasPrefix(domain, "[") {
		return Result{Domain: domain}, nil // RFC 8461, 3.4
	}
	return m.lookup(ctx, domain, false)
}

// Recheck is Lookup with the record looked up past the DNS cache: it comes
// before a message is given up because of a policy (RFC 8461, 5.1).
func (m *Manager) Recheck(ctx context.Context, domain string) (Result, error) {
	return m.lookup(ctx, domain, true)
}

func (m *Manager) lookup(ctx context.Context, domain string, fresh bool) (Result, error) {
	e := m.get(domain)
	now := m.o.Now()
	if e != nil {
		e.used.Store(now.Unix())
	}
	rec, err := m.lookupRecord(ctx, domain, fresh)
	if ctx.Err() != nil {
		return Result{}, context.Cause(ctx)
	}
	announced := err == nil
	absent := errors.Is(err, ErrNoRecord) || errors.Is(err, ErrInvalidRecord)
	switch {
	case e.valid(now) && (!announced || rec.ID == e.ID):
		return m.result(domain, e, now), nil
	case absent:
		return Result{Domain: domain}, nil
	case e.backingOff(rec.ID, now):
		return m.without(domain, e, now, announced, err), nil
	}
	// A new id, nothing cached, or nobody knows whether there is a record: the
	// policy host is asked (for the last, with the id "").
	e, ferr := m.fetch(ctx, domain, rec.ID, false)
	if ctx.Err() != nil {
		return Result{}, context.Cause(ctx)
	}
	if ferr == nil {
		return Result{Domain: domain, Policy: e.policy, ID: e.ID, Fresh: true}, nil
	}
	return m.without(domain, e, now, announced, err), nil
}

// result is a cached policy, if one is in force.
func (m *Manager) result(domain string, e *entry, now time.Time) Result {
	r := Result{Domain: domain, ID: e.ID}
	if e.valid(now) {
		r.Policy = e.policy
	}
	return r
}

// without is the result after a failed fetch.
func (m *Manager) without(domain string, e *entry, now time.Time, announced bool, recordErr error) Result {
	r := m.result(domain, e, now)
	if announced {
		r.Failure = e.failure(domain)
		return r
	}
	if r.Policy == nil && !e.NoHost {
		r.Unknown = true
		r.Why = fmt.Sprintf("%v; and %s", recordErr, e.FailedWhy)
	}
	return r
}

func (m *Manager) lookupRecord(ctx context.Context, domain string, fresh bool) (Record, error) {
	txt, err := m.o.LookupTXT(ctx, "_mta-sts."+domain, fresh)
	if errors.Is(err, ErrNoTXT) {
		return Record{}, ErrNoRecord
	}
	if err != nil {
		return Record{}, err
	}
	return ParseRecord(txt)
}

func (m *Manager) get(domain string) *entry {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.entries[domain]
}

// fetch gets the policy that is announced under id and keeps it. All who want
// it at the same time share one fetch, and one who gives up does not end it for
// the others. On an error the entry tells of the failure. always fetches even
// what another fetch has brought in the meantime.
func (m *Manager) fetch(ctx context.Context, domain, id string, always bool) (*entry, error) {
	ch := m.group.DoChan(domain+" "+id, func() (any, error) {
		old := m.get(domain)
		if now := m.o.Now(); !always && old.valid(now) && old.ID == id && id != "" {
			return old, nil
		} else if !always && old.backingOff(id, now) {
			return old, old.failure(domain)
		}
		return m.fetchNow(context.WithoutCancel(ctx), domain, id, old)
	})
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case r := <-ch:
		return r.Val.(*entry), r.Err
	}
}

func (m *Manager) fetchNow(ctx context.Context, domain, id string, old *entry) (*entry, error) {
	f, err := m.o.Fetch(ctx, domain)
	now := m.o.Now()
	if err != nil {
		return m.failed(ctx, domain, id, old, err, now), err
	}
	for _, r := range f.Remarks {
		m.o.Logger.Debug("policy fetched with a remark", "domain", domain, "remark", string(r))
	}
	e := old.with(func(r *record) {
		*r = record{
			ID: id, Mode: f.Policy.Mode, MaxAge: int64(f.Policy.MaxAge / time.Second), MX: f.Policy.MX,
			FetchedAt: now.Unix(), UsedAt: usedAt(r, now),
		}
		r.RefreshAt = refreshAt(now, f.Policy.MaxAge).Unix()
	})
	if old == nil || old.policy == nil || old.policy.Text() != f.Policy.Text() {
		m.o.Logger.Info("policy fetched", "domain", domain, "policy", id, "mode", string(f.Policy.Mode), "mx", f.Policy.MX, "max_age", f.Policy.MaxAge)
	}
	if f.Policy.MaxAge > 0 { // else it is for this attempt only
		m.put(ctx, domain, e)
	}
	return e, nil
}

// usedAt is the last use. A refresh is none; a first fetch is.
func usedAt(r *record, now time.Time) int64 {
	if r.UsedAt == 0 {
		return now.Unix()
	}
	return r.UsedAt
}

// failed remembers a failed fetch beside whatever policy there is.
func (m *Manager) failed(ctx context.Context, domain, id string, old *entry, err error, now time.Time) *entry {
	fe, ok := errors.AsType[*FetchError](err)
	if !ok {
		fe = &FetchError{Domain: domain, Err: err}
	}
	e := old.with(func(r *record) {
		if r.FailedID != id {
			r.Failures = 0
		}
		r.Failures++
		r.FailedID, r.FailedAt, r.FailedWhy, r.FailedType, r.FailedText = id, now.Unix(), fe.Err.Error(), fe.Type, cut(fe.Text, 4096)
		r.NoHost = errors.Is(err, ErrNoHost)
		r.UsedAt = usedAt(r, now)
		r.RefreshAt = now.Add(min(minBackoff<<min(r.Failures-1, 10), maxBackoff)).Unix()
	})
	level := slog.LevelWarn
	if e.Mode == ModeNone || id == "" {
		level = slog.LevelInfo
	}
	m.o.Logger.Log(ctx, level, "policy not fetched", "domain", domain, "policy", id, "error", err, "older_policy_in_force", e.valid(now))
	m.put(ctx, domain, e)
	return e
}

// put keeps e in memory whatever the store says: a store in trouble must not
// take a policy away from the delivery that waits for it.
func (m *Manager) put(ctx context.Context, domain string, e *entry) {
	m.mu.Lock()
	m.entries[domain] = e
	victim := ""
	if len(m.entries) > m.o.MaxDomains {
		victim = m.victim(domain)
		delete(m.entries, victim)
	}
	m.mu.Unlock()
	value, err := cbor.Marshal(e.record)
	if err == nil {
		err = m.o.Store.Put(ctx, m.key(domain), value)
	}
	if err == nil && victim != "" {
		err = m.o.Store.Delete(ctx, m.key(victim))
	}
	if err != nil {
		m.o.Logger.Error("the policy cache cannot be written; the policy is kept in memory", "domain", domain, "error", err)
	}
}

// victim picks the entry that makes room: the one that was used longest ago,
// an enforced policy last. The caller holds the lock.
func (m *Manager) victim(except string) string {
	worst, worstUsed, worstEnforced := "", int64(0), true
	for domain, e := range m.entries {
		if domain == except {
			continue
		}
		used, enforced := e.used.Load(), e.Mode == ModeEnforce
		if worst == "" || worstEnforced && !enforced || worstEnforced == enforced && used < worstUsed {
			worst, worstUsed, worstEnforced = domain, used, enforced
		}
	}
	return worst
}

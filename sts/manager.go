package sts

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
)

// ErrNoTXT is the error of ManagerOptions.LookupTXT for a name that has no TXT records or
// does not exist. After any other error, it is not known whether there are records.
var ErrNoTXT = phrase.Errorf("no TXT record")

// ErrClosed is the error of a closed Manager that would have to ask the DNS or a policy
// host.
var ErrClosed = phrase.Errorf("the policy cache is closed")

// Store keeps the cache.
type Store interface {
	// Put and Delete are durable when they return.
	Put(ctx context.Context, key, value []byte) error
	Delete(ctx context.Context, key []byte) error
	// Get returns nil where there is no such key.
	Get(key []byte) ([]byte, error)
	Scan(prefix []byte, fn func(key, value []byte) error) error
}

// ManagerOptions configures NewManager. Store, Fetch and LookupTXT are required.
type ManagerOptions struct {
	Store Store
	// Prefix begins the cache's keys; a domain's name follows.
	Prefix []byte
	// Fetch gets a policy; it is the method of a Fetcher.
	Fetch func(ctx context.Context, domain string) (*Fetched, error)
	// LookupTXT looks up TXT records, each with its strings joined, past the
	// DNS cache where fresh is set. It gives up by itself after a while.
	LookupTXT func(ctx context.Context, name string, fresh bool) ([]string, error)
	// MaxDomains bounds the domains in the cache, and with them the memory it needs
	// for each. Default 100,000.
	MaxDomains int
	// Room says whether the disk has room for so many more octets, by an error; nil:
	// it always has.
	Room func(octets int64) error
	// Now is the wall clock; default time.Now.
	Now func() time.Time
	// Logger is told of policies that come, change and fail; nil discards it.
	Logger *slog.Logger
}

// Manager answers which policy is in force for a domain. Its methods may be
// called from many goroutines. The cache is the store's, and what is used of it is
// in memory. A policy in force leaves it when it ends, when its owner replaces it,
// or when the operator says so, and never to make room for another domain's.
type Manager struct {
	o     ManagerOptions
	cache *cache
	run   context.Context // of the lookups; ends with Close
	end   context.CancelFunc

	mu      sync.Mutex
	lookups map[string]*lookup
	closed  bool
	running sync.WaitGroup
}

// Result is the policy in force for a domain, and what became of looking for it.
type Result struct {
	Domain string
	// Policy is the policy in force, nil where there is none. Mode none is a
	// policy here.
	Policy *Policy
	// ID is the id that Policy was fetched under, FetchedAt when.
	ID        string
	FetchedAt time.Time
	// Failure is why a policy that a valid record announces could not be fetched.
	// It may stand beside an older Policy that is still in force.
	Failure *FetchError
	// Unknown reports whether it is not known if there is a policy: the record
	// could not be looked up, nothing is cached, and the policy host exists, or
	// may exist, and gave no policy. Delivery waits a while then.
	Unknown bool
	// Why explains Unknown; "" otherwise.
	Why string
	// Fresh reports whether Policy was fetched for this answer.
	Fresh bool
}

// NewManager reads the cache from the store. Run must have returned, or Close,
// before the store is closed.
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
	m := &Manager{o: o, lookups: make(map[string]*lookup), cache: &cache{
		store: o.Store, prefix: o.Prefix, room: o.Room, log: o.Logger,
		maxDomains: o.MaxDomains, maxMemory: maxMemory, maxStored: maxStored,
		cards: make(map[string]*card), hot: make(map[string]*entry),
	}}
	if err := m.cache.load(); err != nil {
		return nil, fmt.Errorf("read the policy cache: %w", err)
	}
	m.run, m.end = context.WithCancel(context.Background())
	return m, nil
}

// Close ends the lookups and fetches that are under way, and waits for them.
// Their callers get ErrClosed. Close may be called twice.
func (m *Manager) Close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.end()
	m.running.Wait()
}

// Lookup returns the policy in force for domain, a lower-case name in A-labels.
// The policy in the cache is used while the record's id is the same; whatever
// is wrong with the record or with a newer policy, a cached policy stays in force
// until it expires (RFC 8461, 3.3). The error is ctx's cause, ErrClosed, or that of
// a store that could not be read. It never means that there is no policy.
func (m *Manager) Lookup(ctx context.Context, domain string) (Result, error) {
	if isLiteral(domain) {
		return Result{Domain: domain}, nil
	}
	now := m.o.Now()
	e, err := m.use(domain, now)
	if err != nil {
		return Result{}, err
	}
	if e.valid(now) {
		rec, err := m.lookupRecord(ctx, domain, false)
		if ctx.Err() != nil {
			return Result{}, context.Cause(ctx)
		}
		if err != nil || rec.ID == e.ID {
			return inForce(domain, e, now), nil //nolint:nilerr // whatever is wrong with the record, the policy stays
		}
	}
	return m.result(m.do(ctx, domain, ask))
}

// Recheck is Lookup with the record looked up past the DNS cache. It is called
// before a message is given up because of a policy (RFC 8461, 5.1).
func (m *Manager) Recheck(ctx context.Context, domain string) (Result, error) {
	if isLiteral(domain) {
		return Result{Domain: domain}, nil
	}
	if _, err := m.use(domain, m.o.Now()); err != nil {
		return Result{}, err
	}
	return m.result(m.do(ctx, domain, askFresh))
}

// use is the domain's entry for a delivery, nil where there is none.
func (m *Manager) use(domain string, now time.Time) (*entry, error) {
	e, err := m.cache.get(domain)
	if e != nil {
		e.card.used.Store(now.Unix())
	}
	return e, err
}

func (m *Manager) result(f *lookup, err error) (Result, error) {
	if err == nil {
		err = f.unread
	}
	if err != nil {
		return Result{}, err
	}
	return f.result, nil
}

// Refetch fetches the policy of a domain after it has refused every host,
// whatever the id: an owner may have changed the policy and forgotten the id.
// A domain is asked at most once in five minutes, for all callers together. changed
// reports whether the new policy has other demands; Policy is set then. A failed fetch
// leaves the old policy in force, and is the Failure.
func (m *Manager) Refetch(ctx context.Context, domain string) (r Result, changed bool, err error) {
	now := m.o.Now()
	e, err := m.cache.get(domain)
	m.mu.Lock()
	running := m.lookups[domain] != nil
	m.mu.Unlock()
	switch {
	case err != nil:
		return Result{}, false, err
	case !e.valid(now):
		return Result{Domain: domain}, false, nil
	case e.recentlyRefetched(now) && !running:
		return inForce(domain, e, now), false, nil
	}
	f, err := m.do(ctx, domain, fetchRefused)
	if r, err = m.result(f, err); err != nil {
		return Result{}, false, err
	}
	return r, f.changed, nil
}

// Refresh fetches the policy of a domain for the operator: the record is looked
// up past the DNS cache, and neither the id nor the back-off prevents the fetch. The
// error is why there is no new policy. It wraps ErrNoRecord, ErrInvalidRecord or a
// *FetchError; the old policy stays in force then.
func (m *Manager) Refresh(ctx context.Context, domain string) (Entry, error) {
	if isLiteral(domain) {
		return Entry{Domain: domain}, ErrNoRecord
	}
	f, err := m.do(ctx, domain, fetch)
	switch {
	case err != nil:
	case f.unread != nil:
		err = f.unread
	case !isAbsent(f.record) || errors.Is(f.err, f.record): // nothing was in force in the second case
		err = f.err
	case f.err != nil:
		err = fmt.Errorf("%s announces no policy any more (%w), and the cached one could not be fetched again: it stays in force until it expires: %w", domain, f.record, f.err)
	default:
		err = fmt.Errorf("%s announces no policy any more (%w): the one that its policy host has stays in force until it expires", domain, f.record)
	}
	if err != nil {
		return Entry{Domain: domain}, err
	}
	return f.entry.export(domain, m.o.Now()), nil
}

// Remove removes a domain from the cache; ok reports whether it was there.
func (m *Manager) Remove(ctx context.Context, domain string) (ok bool, err error) {
	f, err := m.do(ctx, domain, drop)
	if err != nil {
		return false, err
	}
	return f.found, f.err
}

// ForgetFailures removes the domains whose policy could not be fetched and that have
// none in force. The next lookup asks for their policies again.
func (m *Manager) ForgetFailures(ctx context.Context) {
	now := m.o.Now()
	for _, e := range m.List() {
		if e.LastError != "" && !e.ExpiresAt.After(now) {
			if _, err := m.Remove(ctx, e.Domain); err != nil {
				m.o.Logger.Warn("a policy that could not be had is asked for again only later", "domain", e.Domain, "error", err)
			}
		}
	}
}

// isLiteral reports whether domain is an address literal, which has no policy (RFC 8461, 3.4).
func isLiteral(domain string) bool { return strings.HasPrefix(domain, "[") }

// inForce is the result with the cached policy, if that is in force.
func inForce(domain string, e *entry, now time.Time) Result {
	if !e.valid(now) {
		return Result{Domain: domain}
	}
	return Result{Domain: domain, Policy: e.policy, ID: e.ID, FetchedAt: unix(e.FetchedAt)}
}

func (m *Manager) lookupRecord(ctx context.Context, domain string, fresh bool) (Record, error) {
	txt, err := m.o.LookupTXT(ctx, "_mta-sts."+domain, fresh)
	if errors.Is(err, ErrNoTXT) {
		return Record{}, ErrNoRecord
	}
	if err != nil {
		return Record{}, phrase.Errorf("look up _mta-sts.%s: %w", domain, err)
	}
	return ParseRecord(txt)
}

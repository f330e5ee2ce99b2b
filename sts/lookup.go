package sts

import (
	"context"
	"errors"
	"time"
)

// lookupTime bounds the lookup of a record with the fetch of its policy.
const lookupTime = 2 * time.Minute

// requestLevel is how much a lookup does for a domain. A higher level includes the lower
// ones, except drop.
type requestLevel int

const (
	// drop removes the domain from the cache.
	drop requestLevel = iota
	// ask looks the record up and fetches what it announces, unless that is
	// cached or failed a short time ago.
	ask
	// askFresh goes past the DNS cache.
	askFresh
	// fetchRefused fetches whatever the record and the back-off say, but not
	// twice in five minutes.
	fetchRefused
	// fetch fetches in any case.
	fetch
)

// lookup is the one request that runs for a domain, shared by all callers that ask for
// its level or a lower one (as with singleflight). A caller whose context ends does not
// end it for the others. Only the lookup of a domain changes the domain's entry, in
// memory and in the store.
type lookup struct {
	level requestLevel
	done  chan struct{}

	// The rest is set when done is closed.
	record  error // what the lookup of the record said, nil if it announces a policy
	result  Result
	changed bool   // the new policy asks for something else than the old one
	entry   *entry // what was fetched, nil if nothing
	found   bool   // the domain was in the cache when it was dropped
	err     error  // why nothing was fetched or dropped
	unread  error  // the cache could not be read; nothing was looked up then
}

// do waits for a lookup of the level or a higher one, and starts it where none runs. The
// error is ctx's cause or ErrClosed.
func (m *Manager) do(ctx context.Context, domain string, what requestLevel) (*lookup, error) {
	for {
		m.mu.Lock()
		if m.closed {
			m.mu.Unlock()
			return nil, ErrClosed
		}
		f := m.lookups[domain]
		mine := f == nil || what != drop && f.level >= what
		if f == nil {
			f = m.start(domain, what)
		}
		m.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if errors.Is(f.err, ErrClosed) {
			return nil, ErrClosed
		}
		if mine {
			return f, nil
		}
	}
}

// start starts a lookup. The caller holds the lock.
func (m *Manager) start(domain string, what requestLevel) *lookup {
	f := &lookup{level: what, done: make(chan struct{})}
	m.lookups[domain] = f
	m.running.Go(func() {
		ctx, cancel := context.WithTimeout(m.run, lookupTime)
		defer cancel()
		if what == drop {
			f.found, f.err = m.cache.remove(ctx, domain)
		} else {
			m.find(ctx, domain, f)
		}
		m.mu.Lock()
		delete(m.lookups, domain)
		m.mu.Unlock()
		close(f.done)
	})
	return f
}

// find looks up the record, and fetches the policy where the level of f asks for that.
func (m *Manager) find(ctx context.Context, domain string, f *lookup) {
	old, err := m.cache.get(domain)
	if err != nil {
		f.unread = err
		return
	}
	what := f.level
	if what == fetchRefused && old.recentlyRefetched(m.o.Now()) {
		what = askFresh
	}
	rec, err := m.lookupRecord(ctx, domain, what >= askFresh)
	if m.run.Err() != nil {
		f.err = ErrClosed
		return
	}
	f.record = err
	now := m.o.Now()
	announced, id := err == nil, rec.ID
	absent, valid := isAbsent(err), old.valid(now)
	switch {
	case what >= fetchRefused && (valid || !absent):
		if !announced && old != nil {
			id = old.ID
		}
	case valid && (!announced || id == old.ID):
		f.result, f.err = inForce(domain, old, now), err
		return
	case absent:
		f.result, f.err = Result{Domain: domain}, err
		return
	case old.backingOff(id, now):
		failed := old.lastFailure(domain)
		f.result, f.err = without(domain, old, now, failed, err), failed
		return
	}
	// Where it is not known whether there is a record, the policy host is asked
	// nevertheless, with the id "": one lost packet must not hide a policy.
	fetched, fetchErr := m.o.Fetch(ctx, domain)
	now = m.o.Now()
	switch {
	case fetchErr == nil:
		f.entry, f.changed = m.keepPolicy(ctx, domain, id, old, fetched, what, now)
		f.result = Result{Domain: domain, Policy: f.entry.policy, ID: id, FetchedAt: now, Fresh: true}
	case m.run.Err() != nil:
		f.err = ErrClosed // which says nothing about the policy host
	default:
		failed := asFetchError(domain, fetchErr)
		e := m.keepFailure(ctx, domain, id, old, failed, what, now)
		f.result, f.err = without(domain, e, now, failed, err), failed
	}
}

// without is the result where no policy could be fetched. recordErr is what the
// lookup of the record said, nil if it announces a policy.
func without(domain string, e *entry, now time.Time, failed *FetchError, recordErr error) Result {
	r := inForce(domain, e, now)
	switch {
	case recordErr == nil:
		r.Failure = failed
	case r.Policy == nil && !isAbsent(recordErr) && !errors.Is(failed, ErrNoHost):
		r.Unknown = true
		r.Why = recordErr.Error() + "; and the " + failed.Error()
	}
	return r
}

// isAbsent reports whether err means that there is no usable record. After any other
// error of its lookup, it is not known whether there is one.
func isAbsent(err error) bool {
	return errors.Is(err, ErrNoRecord) || errors.Is(err, ErrInvalidRecord)
}

func asFetchError(domain string, err error) *FetchError {
	if fe, ok := errors.AsType[*FetchError](err); ok {
		return fe
	}
	return &FetchError{Type: PolicyFetchError, Domain: domain, Err: err}
}

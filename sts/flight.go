package sts

import (
	"context"
	"errors"
	"time"
)

// flightTime bounds one lookup of a record and fetch of its policy.
const flightTime = 2 * time.Minute

// errand is what a flight does for a domain. Each does at least what those
// before it do, but for drop.
type errand int

const (
	// drop removes the domain from the cache.
	drop errand = iota
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

// flight is the one errand that runs for a domain. All who want no more than it
// does share it, and one who gives up does not end it for the others. As there
// is only one at a time, nothing else changes the domain's entry, in memory and
// in the store.
type flight struct {
	errand errand
	done   chan struct{}

	// The rest is there when done is closed.
	record  error // what the lookup of the record said, nil if it announces a policy
	result  Result
	changed bool   // another policy has come
	entry   *entry // what was fetched, nil if nothing
	found   bool   // there was something to drop
	err     error  // why nothing was fetched or dropped
	unread  error  // the cache could not be read: nobody was asked
}

// join waits for a flight that does the errand, and starts it where there is
// none. The error is ctx's cause or ErrClosed.
func (m *Manager) join(ctx context.Context, domain string, what errand) (*flight, error) {
	for {
		m.mu.Lock()
		if m.closed {
			m.mu.Unlock()
			return nil, ErrClosed
		}
		f := m.flights[domain]
		mine := f == nil || what != drop && f.errand >= what
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

// start starts a flight. The caller holds the lock.
func (m *Manager) start(domain string, what errand) *flight {
	f := &flight{errand: what, done: make(chan struct{})}
	m.flights[domain] = f
	m.flying.Go(func() {
		ctx, cancel := context.WithTimeout(m.run, flightTime)
		defer cancel()
		if what == drop {
			f.found, f.err = m.cache.remove(ctx, domain)
		} else {
			m.find(ctx, domain, f)
		}
		m.mu.Lock()
		delete(m.flights, domain)
		m.mu.Unlock()
		close(f.done)
	})
	return f
}

// find does a flight's errand: record, then policy.
func (m *Manager) find(ctx context.Context, domain string, f *flight) {
	old, err := m.cache.get(domain)
	if err != nil {
		f.unread = err
		return
	}
	what := f.errand
	if what == fetchRefused && old.forced(m.o.Now()) {
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
	// Where nobody knows whether there is a record, the policy host is asked
	// all the same, with the id "": one lost packet must not hide a policy.
	fetched, fetchErr := m.o.Fetch(ctx, domain)
	now = m.o.Now()
	switch {
	case fetchErr == nil:
		f.entry, f.changed = m.keep(ctx, domain, id, old, fetched, what, now)
		f.result = Result{Domain: domain, Policy: f.entry.policy, ID: id, Fresh: true}
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

// isAbsent says that there is no usable record, which is an answer. Other
// errors of its lookup mean that nobody knows.
func isAbsent(err error) bool {
	return errors.Is(err, ErrNoRecord) || errors.Is(err, ErrInvalidRecord)
}

func asFetchError(domain string, err error) *FetchError {
	if fe, ok := errors.AsType[*FetchError](err); ok {
		return fe
	}
	return &FetchError{Type: PolicyFetchError, Domain: domain, Err: err}
}

package postgres

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
)

const (
	// One transaction has at most so many changes and octets: with more, small messages
	// in it would wait for the large ones.
	maxEntries = 6000
	maxOctets  = 8 << 20
	// deferredFor is how long a deferrable batch waits for others to share a commit.
	deferredFor = 5 * time.Millisecond
	// updateSize is reckoned for the value of an Update.
	updateSize = 1 << 10
	// leastTry is the shortest time that one attempt has.
	leastTry = 5 * time.Second
	// patienceOfClose is Options.Patience for Close.
	patienceOfClose = 5 * time.Second
)

type request struct {
	batch           *store.Batch
	done            func(error)
	move            *move // what is deleted in another space; nil: nothing
	entries, octets int
}

func weigh(b *store.Batch) (entries, octets int) {
	for _, o := range b.Ops() {
		if o.Do != nil {
			entries += o.Entries
			octets += o.Size
			continue
		}
		entries++
		octets += len(o.Key) + len(o.Value)
		if o.Update != nil {
			octets += updateSize
		}
	}
	return entries, octets
}

// Submit implements store.Store.
func (s *Store) Submit(b *store.Batch, done func(error)) { s.submit(b, nil, done) }

func (s *Store) submit(b *store.Batch, m *move, done func(error)) {
	r := &request{batch: b, done: done, move: m}
	r.entries, r.octets = weigh(b)
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		r.answer(store.ErrClosed)
		return
	}
	s.pending = append(s.pending, r)
	urgent := !b.IsDeferrable()
	s.urgent = s.urgent || urgent
	first := len(s.pending) == 1
	s.mu.Unlock()
	if urgent || first {
		s.signal()
	}
}

func (r *request) answer(err error) {
	if r.done != nil {
		r.done(err)
	}
}

func (s *Store) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// patience reports whether batches are pending and all of them are deferrable.
func (s *Store) patience() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending) > 0 && !s.urgent && !s.closed
}

// linger waits, for a limited time, while all pending batches are deferrable.
func (s *Store) linger() {
	timer := time.NewTimer(deferredFor)
	defer timer.Stop()
	for s.patience() {
		select {
		case <-s.wake:
		case <-timer.C:
			return
		}
	}
}

// commitLoop commits what is submitted, until the store is closed and all is answered.
func (s *Store) commitLoop() {
	for {
		if s.away.Load() != 0 || s.full.Load() {
			time.Sleep(retryEvery)
		} else {
			<-s.wake
			s.linger()
		}
		if s.drain() {
			return
		}
	}
}

// drain commits the pending batches until none is left, or until the server is away. It
// reports whether the store is closed and nothing more can follow.
func (s *Store) drain() (ended bool) {
	for {
		if err := s.Err(); err != nil {
			return s.refuse(err)
		}
		if s.away.Load() != 0 || s.full.Load() {
			if err := s.write.confirm(s.deadline()); err != nil {
				return s.trouble(err, nil)
			}
		}
		group, closed := s.take()
		if len(group) == 0 {
			s.there()
			return closed && len(s.write.doubt) == 0
		}
		if rest, err := s.commit(group); err != nil {
			return s.trouble(err, rest)
		}
		s.there()
		if s.patience() {
			return false // the first of the remaining batches has signalled
		}
	}
}

// there ends an outage. That a connection can be opened is not enough: where the server
// refuses each commit, or large ones do not get through, batches would wait without end.
func (s *Store) there() {
	s.setAway(nil)
	s.full.Store(false)
}

// limit is how long a batch waits while the server is away.
func (s *Store) limit() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return min(s.o.Patience, patienceOfClose)
	}
	return s.o.Patience
}

// deadline is when an attempt that begins now is given up.
func (s *Store) deadline() time.Time {
	limit := s.limit()
	return time.Now().Add(max(limit-s.awayFor(), min(leastTry, limit)))
}

// take removes from pending what fits into one transaction, and at least one batch. What
// moves rows from another space has a transaction of its own.
func (s *Store) take() (group []*request, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	entries, octets, n := 0, 0, 0
	for n < len(s.pending) {
		entries += s.pending[n].entries
		octets += s.pending[n].octets
		if n > 0 && (entries > maxEntries || octets > maxOctets || s.pending[n].move != nil) {
			break
		}
		n++
		if s.pending[n-1].move != nil {
			break
		}
	}
	group = s.pending[:n:n]
	if n == len(s.pending) {
		s.pending, s.urgent = nil, false
	} else {
		s.pending, s.urgent = s.pending[n:], true
	}
	return group, s.closed
}

// trouble handles an error that is not of a batch: group, which was not answered, waits
// again, as long as that may be. It reports whether the store is closed and everything
// was answered.
func (s *Store) trouble(err error, group []*request) (ended bool) {
	s.putBack(group)
	switch {
	case errors.Is(err, store.ErrFailed):
		s.fail(err)
		return s.refuse(err)
	case errors.Is(err, store.ErrDiskFull):
		if !s.full.Swap(true) {
			s.o.Logger.Error("the disk of PostgreSQL is full", "space", s.o.Space, "error", err)
		}
		return s.refuse(err)
	}
	first := s.setAway(err)
	if first {
		return s.drain() // another server of the DSN may be there already
	}
	if s.awayFor() < s.limit() {
		return false
	}
	return s.refuse(fmt.Errorf("%w: %w", store.ErrAway, err))
}

// putBack lets batches wait again, before all others.
func (s *Store) putBack(group []*request) {
	if len(group) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = append(group, s.pending...)
	s.urgent = true
}

// refuse answers the pending batches with err, and those in doubt with store.ErrUnknown.
// Those with RetryWhenFull stay, unless the store has failed or is closed. It reports
// whether the store is closed.
func (s *Store) refuse(err error) (closed bool) {
	s.mu.Lock()
	hope := s.failure == nil && !s.closed
	kept, refused := split(s.pending, hope)
	s.pending = kept
	closed = s.closed
	s.mu.Unlock()
	doubt, unknown := split(s.write.doubt, hope)
	s.write.doubt = doubt
	for _, r := range unknown {
		s.giveUp(r, fmt.Errorf("%w: %w", store.ErrUnknown, err))
	}
	for _, r := range refused {
		s.giveUp(r, err)
	}
	return closed
}

// split returns the batches that go on waiting, if there is hope, and those that do not.
func split(list []*request, hope bool) (kept, refused []*request) {
	for _, r := range list {
		if hope && r.batch.RetriesWhenFull() {
			kept = append(kept, r)
		} else {
			refused = append(refused, r)
		}
	}
	return kept, refused
}

func (s *Store) giveUp(r *request, err error) {
	if r.batch.RetriesWhenFull() {
		s.o.Logger.Error("a change that was due is lost", "space", s.o.Space, "error", err)
	}
	r.answer(err)
}

// commit writes group and answers it. An error is of the server; rest are those that wait
// for another attempt then.
func (s *Store) commit(group []*request) (rest []*request, err error) {
	group = slices.DeleteFunc(group, func(r *request) bool {
		err := r.batch.Check()
		if err != nil {
			r.answer(err)
		}
		return err != nil
	})
	start := time.Now()
	err = s.write.write(group, s.deadline())
	switch {
	case errors.Is(err, errRefused) && len(group) > 1: // one of the batches is at fault: each by itself
		for i := range group {
			if rest, err := s.commit(group[i : i+1 : i+1]); err != nil {
				return append(rest, group[i+1:]...), err
			}
		}
		return nil, nil
	case errors.Is(err, errLost) && len(s.write.doubt) > 0:
		return nil, err
	case err != nil && !errors.Is(err, errRefused):
		return group, err
	}
	if err == nil {
		s.o.Committed(len(group), time.Since(start))
	}
	for _, r := range group {
		r.answer(err)
	}
	return nil, nil
}

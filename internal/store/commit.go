package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"
)

const (
	valueThreshold   = 1 << 10
	valueLogFileSize = 64 << 20
	memTableSize     = 8 << 20
	// One transaction holds at most 15 % of the memtable in keys and small
	// values, and as many entries as that divided by the size of a node
	// (Badger refuses more); these limits stay well below both.
	maxTreeBytes = 768 << 10
	maxEntries   = 6000
	// More body bytes in one transaction make the small messages in it wait
	// for the large ones.
	maxBodyBytes = 8 << 20
	// unhurriedFor is how long a batch that nobody waits for waits for others. A
	// commit costs two syncs and some 0.15 ms of the processors, whatever is in it.
	unhurriedFor = 3 * time.Millisecond
)

type request struct {
	batch   *Batch
	done    func(error)
	changed bool // by another, before it was written
}

// Submit hands b to the committer and returns at once; batches are committed
// in the order of Submit. done is called from the committer when b is durable
// or has failed; it must be quick. After Close it is called at once, with
// ErrClosed. done may be nil.
func (s *Store) Submit(b *Batch, done func(error)) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		if done != nil {
			done(ErrClosed)
		}
		return
	}
	s.space.inFlight.Add(int64(b.body + b.tree))
	s.pending = append(s.pending, &request{batch: b, done: done})
	hurry := !b.IsUnhurried()
	s.hurried = s.hurried || hurry
	first := len(s.pending) == 1
	s.mu.Unlock()
	if hurry || first {
		s.signal()
	}
}

// Commit submits b and waits until it is durable. When ctx ends first, its
// error is returned and b may or may not be committed.
func (s *Store) Commit(ctx context.Context, b *Batch) error {
	done := make(chan error, 1)
	s.Submit(b, func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Put durably stores one value.
func (s *Store) Put(ctx context.Context, key, value []byte) error {
	var b Batch
	b.Set(key, value)
	return s.Commit(ctx, &b)
}

// Remove durably deletes one key.
func (s *Store) Remove(ctx context.Context, key []byte) error {
	var b Batch
	b.Delete(key)
	return s.Commit(ctx, &b)
}

func (s *Store) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Store) commitLoop() {
	for {
		var again <-chan time.Time
		if s.stalled.Load() {
			again = time.After(watchEvery)
		}
		select {
		case <-s.wake:
			s.linger()
		case <-again:
		}
		if s.drain() {
			return
		}
	}
}

// patience says that something is pending, and that all of it can wait.
func (s *Store) patience() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending) > 0 && !s.hurried && !s.closed
}

// linger waits while all that is pending can wait.
func (s *Store) linger() {
	if !s.patience() {
		return
	}
	timer := time.NewTimer(s.lingers)
	defer timer.Stop()
	for s.patience() {
		select {
		case <-s.wake:
		case <-timer.C:
			return
		}
	}
}

// drain commits what waits, or refuses it, until the rest can wait for others.
// It reports whether the store was closed, so that nothing more can come.
func (s *Store) drain() (closed bool) {
	for {
		err := s.latch.err()
		if err == nil {
			err = s.space.critical()
		}
		s.stalled.Store(err != nil)
		if err != nil {
			return s.refuse(err)
		}
		group, closed := s.take()
		if len(group) == 0 {
			return closed
		}
		s.reserve.ahead()
		s.commit(group)
		if s.patience() {
			return false // the first of them has signalled
		}
	}
}

// refuse answers what waits, except for the patient while there is hope.
func (s *Store) refuse(err error) (closed bool) {
	s.mu.Lock()
	hope := s.latch.err() == nil && !s.closed
	var kept, refused []*request
	for _, r := range s.pending {
		if hope && r.batch.patient {
			kept = append(kept, r)
		} else {
			refused = append(refused, r)
		}
	}
	s.pending = kept
	closed = s.closed
	s.mu.Unlock()
	for _, r := range refused {
		if r.batch.patient {
			s.log.Error("a change that was due is lost", "error", err)
		}
		s.answer(r, err)
	}
	return closed
}

// Stalled says that nothing can be written now: the store has failed, or the
// disk is full.
func (s *Store) Stalled() bool { return s.stalled.Load() }

// take removes from pending what fits into one transaction: always at least
// one batch, so that a batch larger than the limits is tried by itself.
func (s *Store) take() (group []*request, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var entries, tree, body int
	n := 0
	for n < len(s.pending) {
		b := s.pending[n].batch
		entries += len(b.ops) + b.extra
		tree += b.tree
		body += b.body
		if n > 0 && (entries > maxEntries || tree > maxTreeBytes || body > maxBodyBytes) {
			break
		}
		n++
	}
	group = s.pending[:n:n]
	if n == len(s.pending) {
		s.pending, s.hurried = nil, false
	} else {
		s.pending, s.hurried = s.pending[n:], true // more than a transaction holds
	}
	return group, s.closed
}

func (s *Store) commit(group []*request) {
	group = slices.DeleteFunc(group, func(r *request) bool {
		err := r.batch.Check()
		if err != nil {
			s.answer(r, err)
		}
		return err != nil
	})
	start := time.Now()
	err := s.latch.err()
	if err == nil {
		err = s.write(group)
	}
	if errors.Is(err, errNotWritten) {
		s.epoch++
		if len(group) > 1 { // one of them is at fault: each by itself
			for _, r := range group {
				s.commit([]*request{r})
			}
			return
		}
	} else if err != nil {
		s.latch.set(err)
	}
	// Badger reports a failed msync of the value log only to its logger, on
	// this path and before Commit returns.
	if e := s.latch.err(); e != nil {
		err = e
		s.stalled.Store(true)
	}
	if err == nil {
		if e := s.identity.write(&s.state, false); e != nil {
			s.log.Warn("the store's identity cannot be written; it is tried again", "error", e)
		}
	}
	s.commits.Add(1)
	s.committed(len(group), time.Since(start))
	for _, r := range group {
		if err == nil && r.changed {
			s.answer(r, ErrChanged)
		} else {
			s.answer(r, err)
		}
	}
}

func (s *Store) answer(r *request, err error) {
	s.space.inFlight.Add(-int64(r.batch.body + r.batch.tree))
	if r.done != nil {
		r.done(err)
	}
}

// errNotWritten is wrapped by the errors of a batch that Badger will not take,
// and that has changed nothing.
var errNotWritten = errors.New("the change was not written")

// write makes the changes of group in one transaction, with the State that they
// lead to, except for batches whose comparisons fail: they get an outcome of
// ErrChanged. For no group (nil) it writes the State alone.
func (s *Store) write(group []*request) error {
	txn := s.db.NewTransaction(true)
	defer txn.Discard()
	state, changes := s.state, group == nil
	for _, r := range group {
		r.changed = false
		for _, c := range r.batch.compares {
			now, err := present(txn, c.Key, []byte{})
			if err != nil {
				return fmt.Errorf("%w: %q: %w", errNotWritten, c.Key, err)
			}
			r.changed = r.changed || !c.Same(now)
		}
		if r.changed {
			continue
		}
		for _, o := range r.batch.ops {
			changes = true
			if err := s.apply(txn, o, &state); err != nil {
				return fmt.Errorf("%w: %q: %w", errNotWritten, o.Key, err)
			}
		}
	}
	if !changes {
		return nil
	}
	state.Commits++
	if err := txn.SetEntry(seal(keyState, state.encode())); err != nil {
		return fmt.Errorf("%w: %w", errNotWritten, err)
	}
	if err := txn.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	s.state = state
	return nil
}

// transaction is what a Change may do.
type transaction struct {
	txn   *badger.Txn
	epoch int
}

func (t *transaction) Epoch() int                     { return t.epoch }
func (t *transaction) Get(key []byte) ([]byte, error) { return present(t.txn, key, nil) }
func (t *transaction) Set(key, value []byte) error    { return t.txn.SetEntry(seal(key, value)) }
func (t *transaction) Delete(key []byte) error        { return t.txn.Delete(key) }

// present is the value of key, nil where there is none, damaged where it cannot
// be read.
func present(txn *badger.Txn, key, damaged []byte) (value []byte, err error) {
	err = view(txn, key, func(v []byte) error {
		value = append([]byte{}, v...)
		return nil
	})
	if _, unreadable := errors.AsType[*ValueError](err); unreadable {
		return damaged, nil
	}
	return value, err
}

func (s *Store) apply(txn *badger.Txn, o Op, state *State) error {
	if o.Change != nil {
		return o.Change(&transaction{txn, s.epoch})
	}
	value := o.Value
	if o.Update != nil {
		old, err := present(txn, o.Key, nil)
		if err != nil {
			return err
		}
		value = o.Update(old)
	}
	if n, ok := isMessage(o.Key); ok {
		if there, err := has(txn, o.Key); err != nil {
			return err
		} else if there != (value != nil) {
			state.add(n, !there)
		}
	}
	if value == nil {
		return txn.Delete(o.Key)
	}
	return txn.SetEntry(seal(o.Key, value))
}

func has(txn *badger.Txn, key []byte) (bool, error) {
	_, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return false, nil
	}
	return err == nil, err
}

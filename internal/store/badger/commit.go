package badger

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/stsrelay/stsrelay/internal/badgerfile"
	"github.com/stsrelay/stsrelay/internal/store"
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
	// With more body bytes in one transaction, small messages in it would wait
	// for the large ones.
	maxBodyBytes = 8 << 20
	// deferredFor is how long a deferrable batch waits for others to share a commit.
	// A commit costs two syncs and some 0.15 ms of processor time, whatever its size.
	deferredFor = 3 * time.Millisecond
)

type request struct {
	batch *store.Batch
	done  func(error)
	size  weight
}

// weight is the size of a batch against the limits of a transaction.
type weight struct{ entries, tree, body int }

// weigh adds up the changes of a batch: octets that go into the tree, octets that go
// into the value log, and entries.
func weigh(b *store.Batch) (w weight) {
	for _, o := range b.Ops() {
		if o.Do != nil {
			w.entries += o.Entries
			w.tree += o.Size + 64*o.Entries
			continue
		}
		size := len(o.Value)
		if o.Update != nil {
			size = valueThreshold - 1
		}
		w.entries++
		w.tree += len(o.Key) + 32
		if size < valueThreshold {
			w.tree += size
		} else {
			w.body += size
		}
	}
	return w
}

// Submit hands b to the committer and returns at once; batches are committed
// in the order of Submit. done is called from the committer when b is durable
// or has failed; it must be quick. After Close it is called at once, with
// ErrClosed. done may be nil.
func (s *Store) Submit(b *store.Batch, done func(error)) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		if done != nil {
			done(store.ErrClosed)
		}
		return
	}
	size := weigh(b)
	s.space.inFlight.Add(int64(size.body + size.tree))
	s.pending = append(s.pending, &request{batch: b, done: done, size: size})
	urgent := !b.IsDeferrable()
	s.urgent = s.urgent || urgent
	first := len(s.pending) == 1
	s.mu.Unlock()
	if urgent || first {
		s.signal()
	}
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

// patience reports whether batches are pending and all of them are deferrable.
func (s *Store) patience() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending) > 0 && !s.urgent && !s.closed
}

// linger waits, for a limited time, while all pending batches are deferrable.
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

// drain commits or refuses the pending batches until none is left or all that are left
// are deferrable. It reports whether the store was closed, so that no more can follow.
func (s *Store) drain() (closed bool) {
	for {
		err := s.failure.err()
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
		if s.reserve.ahead() {
			s.filling.begun()
		}
		s.commit(group)
		if s.patience() {
			return false // the first of the remaining batches has signalled
		}
	}
}

// refuse answers the pending batches with err. Batches with RetryWhenFull stay pending
// unless the store has failed or is closed.
func (s *Store) refuse(err error) (closed bool) {
	s.mu.Lock()
	hope := s.failure.err() == nil && !s.closed
	var kept, refused []*request
	for _, r := range s.pending {
		if hope && r.batch.RetriesWhenFull() {
			kept = append(kept, r)
		} else {
			refused = append(refused, r)
		}
	}
	s.pending = kept
	closed = s.closed
	s.mu.Unlock()
	for _, r := range refused {
		if r.batch.RetriesWhenFull() {
			s.log.Error("a change that was due is lost", "error", err)
		}
		s.answer(r, err)
	}
	return closed
}

// Stalled reports whether nothing can be written now: the store has failed, or the
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
		size := &s.pending[n].size
		entries += size.entries
		tree += size.tree
		body += size.body
		if n > 0 && (entries > maxEntries || tree > maxTreeBytes || body > maxBodyBytes) {
			break
		}
		n++
	}
	group = s.pending[:n:n]
	if n == len(s.pending) {
		s.pending, s.urgent = nil, false
	} else {
		s.pending, s.urgent = s.pending[n:], true // more than a transaction holds
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
	err := s.failure.err()
	if err == nil {
		err = s.write(group)
	}
	if errors.Is(err, errNotWritten) {
		s.epoch++
		if len(group) > 1 { // one of the batches is at fault: commit each by itself
			for _, r := range group {
				s.commit([]*request{r})
			}
			return
		}
	} else if err != nil {
		s.failure.set(err)
	}
	// Badger reports a failed msync of the value log only to its logger, on
	// this path and before Commit returns.
	if e := s.failure.err(); e != nil {
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
		s.answer(r, err)
	}
}

func (s *Store) answer(r *request, err error) {
	s.space.inFlight.Add(-int64(r.size.body + r.size.tree))
	if r.done != nil {
		r.done(err)
	}
}

// errNotWritten is wrapped by the error for a batch that Badger refused. The batch has
// changed nothing.
var errNotWritten = errors.New("the change was not written")

// write makes the changes of group in one transaction, together with the resulting
// State. If group is nil, it writes the State alone.
func (s *Store) write(group []*request) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	txn := s.db.NewTransaction(true)
	defer txn.Discard()
	t := &transaction{Txn: txn, epoch: s.epoch, state: s.state}
	changes := group == nil
	var tree int64
	for _, r := range group {
		tree += int64(r.size.tree)
		for _, o := range r.batch.Ops() {
			changes = true
			if err := t.apply(o); err != nil {
				return fmt.Errorf("%w: %q: %w", errNotWritten, o.Key, err)
			}
		}
	}
	if !changes {
		return nil
	}
	if err := fill(txn, s.filling.add(t.deleted, tree)); err != nil {
		return fmt.Errorf("%w: %w", errNotWritten, err)
	}
	t.state.Commits++
	if err := txn.SetEntry(seal(keyState, t.state.encode())); err != nil {
		return fmt.Errorf("%w: %w", errNotWritten, err)
	}
	if err := txn.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	s.state = t.state
	return nil
}

// transaction is one transaction, and store.Txn for the function of a Do.
type transaction struct {
	*badger.Txn
	epoch   int
	state   State // that results
	deleted int64 // octets of the values that it deletes
}

func (t *transaction) Epoch() int                     { return t.epoch }
func (t *transaction) Get(key []byte) ([]byte, error) { return present(t.Txn, key) }

func (t *transaction) Set(key, value []byte) error {
	if len(key) > badgerfile.MaxKey { // after a crash it would be taken for damage
		return fmt.Errorf("a key of %d octets is longer than %d", len(key), badgerfile.MaxKey)
	}
	return t.SetEntry(seal(key, value))
}

func (t *transaction) Delete(key []byte) error {
	size, _, err := t.stored(key)
	if err != nil {
		return err
	}
	t.deleted += size
	return t.Txn.Delete(key)
}

// stored returns the size of the value of key, and whether there is one.
func (t *transaction) stored(key []byte) (size int64, there bool, err error) {
	item, err := t.Txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return 0, false, nil
	} else if err != nil {
		return 0, false, err
	}
	return item.EstimatedSize(), true, nil
}

// present returns the value of key, nil if there is none or if it cannot be read.
func present(txn *badger.Txn, key []byte) (value []byte, err error) {
	err = view(txn, key, func(v []byte) error {
		value = append([]byte{}, v...)
		return nil
	})
	if _, unreadable := errors.AsType[*store.ValueError](err); unreadable {
		return nil, nil
	}
	return value, err
}

func (t *transaction) apply(o store.Op) error {
	if o.Do != nil {
		return o.Do(t)
	}
	value := o.Value
	if o.Update != nil {
		old, err := t.Get(o.Key)
		if err != nil {
			return err
		}
		value = o.Update(old)
	}
	n, message := isMessage(o.Key)
	if value != nil && !message {
		return t.Set(o.Key, value)
	}
	size, there, err := t.stored(o.Key)
	if err != nil {
		return err
	}
	if message && there != (value != nil) {
		t.state.add(n, !there)
	}
	if value != nil {
		return t.Set(o.Key, value)
	}
	t.deleted += size
	return t.Txn.Delete(o.Key)
}

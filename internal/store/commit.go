package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
)

const (
	valueThreshold = 1 << 10
	// One transaction holds at most 15 % of the memtable in keys and small
	// values, and as many entries as that divided by the size of a node
	// (Badger refuses more); these limits stay well below both.
	maxTreeBytes = 768 << 10
	maxEntries   = 6000
	// More body bytes in one transaction make the small messages in it wait
	// for the large ones.
	maxBodyBytes = 8 << 20
)

// Batch is a set of changes that are made together or not at all. It is not
// safe for use by several goroutines, and must not be changed once submitted;
// the same holds for the keys and values in it.
type Batch struct {
	ops     []op
	tree    int // bytes that go into the tree
	body    int // bytes that go into the value log
	extra   int // entries beyond one an op
	patient bool
	check   func() error
}

type op struct {
	key    []byte
	value  []byte                  // nil: delete
	update func(old []byte) []byte // if set, value is made inside the transaction
	change func(*Txn) error        // if set, it makes all changes itself
}

// Set stores value under key.
func (b *Batch) Set(key, value []byte) {
	if value == nil {
		value = []byte{}
	}
	b.add(op{key: key, value: value}, len(value))
}

// Delete removes key; that it is not there is no error.
func (b *Batch) Delete(key []byte) { b.add(op{key: key}, 0) }

// Update stores under key what fn makes of its present value (nil where there
// is none); a nil result deletes it. fn runs in the committer, after all
// batches submitted before, perhaps more than once: it must be quick, must not
// call the store, and must not count on being the last call. A present value
// that cannot be read counts as none.
func (b *Batch) Update(key []byte, fn func(old []byte) []byte) {
	b.add(op{key: key, update: fn}, valueThreshold-1)
}

// Change runs fn inside the transaction, where several keys depend on each
// other: it sees all batches submitted before. entries and size bound what it
// writes, in keys and in bytes. What is said of Update's fn holds for it too;
// an error of it is the answer to the whole batch, which then changes nothing.
func (b *Batch) Change(entries, size int, fn func(*Txn) error) {
	b.ops = append(b.ops, op{change: fn})
	b.extra += entries - 1
	b.tree += size + 64*entries
}

// Txn is what a Change may do. It is valid only during the call.
type Txn struct {
	txn   *badger.Txn
	epoch int
}

// Epoch changes whenever changes were made that then were not written. Who
// remembers what he wrote, instead of reading it again, may believe it as long
// as the epoch is the same.
func (t *Txn) Epoch() int { return t.epoch }

// Get returns a copy of the value of key, nil where there is none or where it
// cannot be read.
func (t *Txn) Get(key []byte) ([]byte, error) {
	var value []byte
	err := view(t.txn, key, func(v []byte) error {
		value = append([]byte{}, v...)
		return nil
	})
	if _, unreadable := errors.AsType[*ValueError](err); unreadable {
		return nil, nil
	}
	return value, err
}

// Set stores value under key; both must not be changed afterwards.
func (t *Txn) Set(key, value []byte) error { return t.txn.Set(key, value) }

// Delete removes key.
func (t *Txn) Delete(key []byte) error { return t.txn.Delete(key) }

// Append adds the changes of other behind those of b.
func (b *Batch) Append(other *Batch) {
	b.ops = append(b.ops, other.ops...)
	b.tree += other.tree
	b.body += other.body
	b.extra += other.extra
}

// Patient makes the batch wait while the disk is full instead of failing. It is
// meant for what has happened already and cannot be taken back, such as the
// result of a delivery. A patient batch still fails with the store, and when
// the disk is full at Close.
func (b *Batch) Patient() { b.patient = true }

// If makes the batch depend on check, which the committer calls just before it
// writes the batch, when every batch that was not written has its answer. The
// error of check is then the answer to this batch.
func (b *Batch) If(check func() error) { b.check = check }

// Len is the number of changes.
func (b *Batch) Len() int { return len(b.ops) }

func (b *Batch) add(o op, size int) {
	b.ops = append(b.ops, o)
	b.tree += len(o.key) + 32
	if size < valueThreshold {
		b.tree += size
	} else {
		b.body += size
	}
}

type request struct {
	batch *Batch
	done  func(error)
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
	s.mu.Unlock()
	s.signal()
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
		case <-again:
		}
		if s.drain() {
			return
		}
	}
}

// drain commits what waits, or refuses it. It reports whether the store was
// closed, so that nothing more can come.
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
		s.commit(group)
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
		s.pending = nil
	} else {
		s.pending = s.pending[n:]
	}
	return group, s.closed
}

func (s *Store) commit(group []*request) {
	group = slices.DeleteFunc(group, func(r *request) bool {
		if r.batch.check == nil {
			return false
		}
		err := r.batch.check()
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
	s.stats.add(len(group), time.Since(start))
	for _, r := range group {
		s.answer(r, err)
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

func (s *Store) write(group []*request) error {
	txn := s.db.NewTransaction(true)
	defer txn.Discard()
	for _, r := range group {
		for _, o := range r.batch.ops {
			if err := s.apply(txn, o); err != nil {
				return fmt.Errorf("%w: %q: %w", errNotWritten, o.key, err)
			}
		}
	}
	if err := txn.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

func (s *Store) apply(txn *badger.Txn, o op) error {
	if o.change != nil {
		return o.change(&Txn{txn, s.epoch})
	}
	value := o.value
	if o.update != nil {
		var old []byte
		err := view(txn, o.key, func(v []byte) error {
			old = append([]byte{}, v...)
			return nil
		})
		if _, unreadable := errors.AsType[*ValueError](err); err != nil && !unreadable {
			return err
		}
		value = o.update(old)
	}
	if value == nil {
		return txn.Delete(o.key)
	}
	return txn.Set(o.key, value)
}

// Stats are counts since Open.
type Stats struct {
	Commits int64         // transactions
	Batches int64         // batches in them
	Busy    time.Duration // time spent in transactions
}

type stats struct{ commits, batches, busy atomic.Int64 }

func (s *stats) add(batches int, d time.Duration) {
	s.commits.Add(1)
	s.batches.Add(int64(batches))
	s.busy.Add(int64(d))
}

// Stats returns the counts of the committer.
func (s *Store) Stats() Stats {
	return Stats{
		Commits: s.stats.commits.Load(),
		Batches: s.stats.batches.Load(),
		Busy:    time.Duration(s.stats.busy.Load()),
	}
}

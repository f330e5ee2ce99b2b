package store

import (
	"context"
	"errors"
	"fmt"
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
	maxBodyBytes = 4 << 20
)

// Batch is a set of changes that are made together or not at all. It is not
// safe for use by several goroutines, and must not be changed once submitted;
// the same holds for the keys and values in it.
type Batch struct {
	ops  []op
	tree int // bytes that go into the tree
	body int // bytes that go into the value log
}

type op struct {
	key    []byte
	value  []byte                  // nil: delete
	update func(old []byte) []byte // if set, value is made inside the transaction
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
// batches submitted before: it must be quick and must not call the store.
func (b *Batch) Update(key []byte, fn func(old []byte) []byte) {
	b.add(op{key: key, update: fn}, valueThreshold-1)
}

// Append adds the changes of other behind those of b.
func (b *Batch) Append(other *Batch) {
	b.ops = append(b.ops, other.ops...)
	b.tree += other.tree
	b.body += other.body
}

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
	at    time.Time
}

// Submit hands b to the committer and returns at once; batches are committed
// in the order of Submit. done is called from the committer when b is durable
// or has failed; it must be quick. done may be nil.
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
	s.pending = append(s.pending, &request{batch: b, done: done, at: time.Now()})
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
	for range s.wake {
		for {
			group, closed := s.take()
			if len(group) > 0 {
				s.commit(group)
				continue
			}
			if closed {
				return
			}
			break
		}
	}
}

// take removes from pending what fits into one transaction: always at least
// one batch, so that a batch larger than the limits is tried by itself.
func (s *Store) take() (group []*request, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var entries, tree, body int
	n := 0
	for n < len(s.pending) {
		b := s.pending[n].batch
		entries += len(b.ops)
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
	start := time.Now()
	err := s.latch.err()
	if err == nil {
		err = s.space.critical()
	}
	if err == nil {
		if err = s.write(group); err != nil && !errors.Is(err, errTooLarge) {
			s.latch.set(err)
			err = s.latch.err()
		}
	}
	// Badger reports a failed msync of the value log only to its logger, on
	// this path and before Commit returns.
	if err == nil {
		err = s.latch.err()
	}
	s.stats.add(len(group), time.Since(start))
	for _, r := range group {
		s.space.inFlight.Add(-int64(r.batch.body + r.batch.tree))
		if r.done != nil {
			r.done(err)
		}
	}
}

var errTooLarge = errors.New("the change is too large for one transaction")

func (s *Store) write(group []*request) error {
	txn := s.db.NewTransaction(true)
	defer txn.Discard()
	for _, r := range group {
		for _, o := range r.batch.ops {
			if err := apply(txn, o); errors.Is(err, badger.ErrTxnTooBig) && len(group) == 1 {
				return errTooLarge
			} else if err != nil {
				return fmt.Errorf("write %q: %w", o.key, err)
			}
		}
	}
	if err := txn.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

func apply(txn *badger.Txn, o op) error {
	value := o.value
	if o.update != nil {
		var old []byte
		item, err := txn.Get(o.key)
		if err == nil {
			old, err = item.ValueCopy(nil)
		}
		if err != nil && !errors.Is(err, badger.ErrKeyNotFound) {
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

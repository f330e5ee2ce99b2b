// Package memory is an engine of the store for tests: it keeps the promises of the
// contract as simply as they allow, and nothing of it outlives the process.
package memory

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/stsrelay/stsrelay/internal/store"
)

// Store is an open store. New makes one.
type Store struct {
	mu     sync.Mutex // the values
	values map[string][]byte
	epoch  int

	pendingMu sync.Mutex
	pending   []request
	closed    bool
	wake      chan struct{} // capacity 1
	committer sync.WaitGroup
}

type request struct {
	batch *store.Batch
	done  func(error)
}

var _ store.Store = (*Store)(nil)

// New returns an empty store. Close ends it.
func New() *Store {
	s := &Store{values: make(map[string][]byte), wake: make(chan struct{}, 1)}
	s.start()
	return s
}

func (s *Store) start() {
	s.committer.Go(func() {
		for range s.wake {
			for r, ok := s.next(); ok; r, ok = s.next() {
				r.done(s.apply(r.batch))
			}
		}
	})
}

func (s *Store) next() (r request, ok bool) {
	s.pendingMu.Lock()
	defer s.pendingMu.Unlock()
	if len(s.pending) == 0 {
		return r, false
	}
	r = s.pending[0]
	s.pending = s.pending[1:]
	return r, true
}

// Close commits what waits. It returns nil.
func (s *Store) Close() error {
	s.pendingMu.Lock()
	if !s.closed {
		s.closed = true
		close(s.wake)
	}
	s.pendingMu.Unlock()
	s.committer.Wait()
	return nil
}

// Reopen returns a store with what a closed one has.
func (s *Store) Reopen() *Store {
	next := &Store{values: maps.Clone(s.values), wake: make(chan struct{}, 1)}
	next.start()
	return next
}

// Submit implements store.Store.
func (s *Store) Submit(b *store.Batch, done func(error)) {
	if done == nil {
		done = func(error) {}
	}
	s.pendingMu.Lock()
	if s.closed {
		s.pendingMu.Unlock()
		done(store.ErrClosed)
		return
	}
	defer s.pendingMu.Unlock()
	s.pending = append(s.pending, request{b, done})
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Store) apply(b *store.Batch) error {
	if err := b.Check(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := maps.Clone(s.values) // readers see all of the batch, or nothing
	for _, o := range b.Ops() {
		if o.Do != nil {
			if err := o.Do(&transaction{values: changed, epoch: s.epoch}); err != nil {
				s.epoch++
				return err
			}
			continue
		}
		value := o.Value
		if o.Update != nil {
			value = o.Update(changed[string(o.Key)])
		}
		if value == nil {
			delete(changed, string(o.Key))
		} else {
			changed[string(o.Key)] = append([]byte{}, value...)
		}
	}
	s.values = changed
	return nil
}

// transaction is what the function of a Do may do.
type transaction struct {
	values map[string][]byte
	epoch  int
}

func (t *transaction) Epoch() int { return t.epoch }

func (t *transaction) Get(key []byte) ([]byte, error) {
	return bytes.Clone(t.values[string(key)]), nil
}

func (t *transaction) Set(key, value []byte) error {
	t.values[string(key)] = append([]byte{}, value...)
	return nil
}

func (t *transaction) Delete(key []byte) error {
	delete(t.values, string(key))
	return nil
}

// View implements store.Reader.
func (s *Store) View(key []byte, fn func([]byte) error) error {
	s.mu.Lock()
	v, ok := s.values[string(key)]
	s.mu.Unlock()
	if !ok {
		return nil
	}
	return fn(v)
}

// Scan implements store.Reader.
func (s *Store) Scan(prefix, from []byte, fn func(key, value []byte) error) error {
	s.mu.Lock()
	values := s.values // a batch makes a map of its own
	s.mu.Unlock()
	for _, k := range slices.Sorted(maps.Keys(values)) {
		if !strings.HasPrefix(k, string(prefix)) || k < string(from) {
			continue
		}
		if err := fn([]byte(k), values[k]); errors.Is(err, store.Stop) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// ScanKeys implements store.Reader.
func (s *Store) ScanKeys(prefix, from []byte, fn func([]byte) error) error {
	return s.Scan(prefix, from, func(k, _ []byte) error { return fn(k) })
}

// CheckSpace implements store.Store: there is always room.
func (s *Store) CheckSpace(int64) error { return nil }

// Err implements store.Store.
func (s *Store) Err() error { return nil }

// Stalled implements store.Store.
func (s *Store) Stalled() bool { return false }

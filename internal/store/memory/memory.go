// Package memory is an engine for tests: a map that keeps the promises of store.Store as
// simply as they allow, with a disk that fills up, fails or is damaged when a test says so.
package memory

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/stsrelay/stsrelay/internal/store"
)

// Place is where a Store keeps its values: what a folder is to an engine with a disk. Its
// zero value is empty.
type Place struct {
	mu      sync.Mutex
	values  map[string][]byte // the slices are never changed
	damaged map[string]bool
	full    bool
	failed  error
	unknown *bool // the answer to the next batch is ErrUnknown; whether it is written
	open    *Store
}

// Open opens the store of the place. It panics if the store is open.
func (p *Place) Open() *Store {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open != nil {
		panic("memory: the store is open already")
	}
	if p.values == nil {
		p.values = make(map[string][]byte)
	}
	p.failed = nil
	s := &Store{place: p}
	s.wake.L = &p.mu
	p.open = s
	s.committer.Go(s.commitLoop)
	return s
}

// Crash returns a place with what is durable at this moment.
func (p *Place) Crash() *Place {
	p.mu.Lock()
	defer p.mu.Unlock()
	return &Place{values: maps.Clone(p.values), damaged: maps.Clone(p.damaged)}
}

// Fill makes the disk full, or gives it space again.
func (p *Place) Fill(full bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.full = full
	if p.open != nil {
		p.open.wake.Signal()
	}
}

// Fail makes the disk fail until the store is opened anew.
func (p *Place) Fail() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed = fmt.Errorf("%w: the disk fails", store.ErrFailed)
}

// LoseAnswer lets the next batch be answered with store.ErrUnknown, written or not. A
// batch that retries when the disk is full is not meant: nobody waits for its answer, and
// the queue writes some at times of its own.
func (p *Place) LoseAnswer(written bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unknown = &written
}

// Damage damages the value of key until it is stored again.
func (p *Place) Damage(key []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.damaged == nil {
		p.damaged = make(map[string]bool)
	}
	p.damaged[string(key)] = true
}

// trouble returns why nothing can be written now.
func (p *Place) trouble() error {
	if p.failed == nil && p.full {
		return fmt.Errorf("%w: as the test says", store.ErrDiskFull)
	}
	return p.failed
}

// Store is an open store of a Place, which has its lock.
type Store struct {
	place     *Place
	wake      sync.Cond // there is something in pending, or it can be written, or closed
	pending   []request
	closed    bool
	committer sync.WaitGroup
	epoch     int // of Txn.Epoch; only the committer uses it
}

var _ store.Store = (*Store)(nil)

type request struct {
	batch *store.Batch
	done  func(error)
}

// Submit implements store.Store.
func (s *Store) Submit(b *store.Batch, done func(error)) {
	if done == nil {
		done = func(error) {}
	}
	s.place.mu.Lock()
	closed := s.closed
	if !closed {
		s.pending = append(s.pending, request{b, done})
		s.wake.Signal()
	}
	s.place.mu.Unlock()
	if closed {
		done(store.ErrClosed)
	}
}

// commitLoop answers batches one by one until the store is closed.
func (s *Store) commitLoop() {
	for {
		r, ok, trouble := s.next()
		if !ok {
			return
		}
		if trouble == nil {
			trouble = r.batch.Check()
		}
		if trouble == nil {
			if trouble = s.apply(r.batch); trouble != nil {
				s.epoch++
			}
		}
		r.done(trouble)
	}
}

// next waits for a batch that can be written, or must be refused with trouble. ok is
// false after Close, when there are no more.
func (s *Store) next() (r request, ok bool, trouble error) {
	s.place.mu.Lock()
	defer s.place.mu.Unlock()
	for {
		trouble = s.place.trouble()
		waits := func(r request) bool {
			return r.batch.RetriesWhenFull() && errors.Is(trouble, store.ErrDiskFull) && !s.closed
		}
		if i := slices.IndexFunc(s.pending, func(r request) bool { return !waits(r) }); i >= 0 {
			r = s.pending[i]
			s.pending = slices.Delete(s.pending, i, i+1)
			return r, true, trouble
		}
		if s.closed {
			return request{}, false, nil
		}
		s.wake.Wait()
	}
}

// apply makes the changes of b, all or none. Functions run without the lock, so changes
// are made to a copy.
func (s *Store) apply(b *store.Batch) error {
	t := &transaction{place: s.place, epoch: s.epoch, changed: make(map[string][]byte)}
	for _, o := range b.Ops() {
		if err := t.apply(&o); err != nil {
			return fmt.Errorf("%q: %w", o.Key, err)
		}
	}
	s.place.mu.Lock()
	defer s.place.mu.Unlock()
	if s.place.failed != nil {
		return s.place.failed
	}
	answer := error(nil)
	if unknown := s.place.unknown; unknown != nil && !b.RetriesWhenFull() {
		s.place.unknown = nil
		if answer = fmt.Errorf("%w: as the test says", store.ErrUnknown); !*unknown {
			return answer
		}
	}
	for k, v := range t.changed {
		delete(s.place.damaged, k)
		if v == nil {
			delete(s.place.values, k)
		} else {
			s.place.values[k] = v
		}
	}
	return answer
}

// transaction implements store.Txn.
type transaction struct {
	place   *Place
	epoch   int
	changed map[string][]byte // nil: deleted
}

func (t *transaction) Epoch() int { return t.epoch }

func (t *transaction) apply(o *store.Op) error {
	value := o.Value
	switch {
	case o.Do != nil:
		return o.Do(t)
	case o.Update != nil:
		old, err := t.Get(o.Key)
		if err != nil {
			return err
		}
		value = o.Update(old)
	}
	if value == nil {
		return t.Delete(o.Key)
	}
	return t.Set(o.Key, value)
}

func (t *transaction) Get(key []byte) ([]byte, error) {
	v, changed := t.changed[string(key)]
	if !changed {
		t.place.mu.Lock()
		defer t.place.mu.Unlock()
		if !t.place.damaged[string(key)] {
			v = t.place.values[string(key)]
		}
	}
	return bytes.Clone(v), nil
}

func (t *transaction) Set(key, value []byte) error {
	if len(key) == 0 {
		return errors.New("the key is empty")
	}
	t.changed[string(key)] = append([]byte{}, value...)
	return nil
}

func (t *transaction) Delete(key []byte) error {
	if len(key) == 0 {
		return errors.New("the key is empty")
	}
	t.changed[string(key)] = nil
	return nil
}

// pair is a key with its value, or with the error of reading it.
type pair struct {
	key   string
	value []byte
	err   error
}

// pairs returns the keys that begin with prefix and are not below from, in order.
func (s *Store) pairs(prefix, from []byte) (list []pair) {
	s.place.mu.Lock()
	for k, v := range s.place.values {
		if strings.HasPrefix(k, string(prefix)) && k >= string(from) {
			p := pair{key: k, value: v}
			if s.place.damaged[k] {
				p.err = &store.ValueError{Key: []byte(k)}
			}
			list = append(list, p)
		}
	}
	s.place.mu.Unlock()
	slices.SortFunc(list, func(a, b pair) int { return strings.Compare(a.key, b.key) })
	return list
}

// View implements store.Store.
func (s *Store) View(key []byte, fn func(value []byte) error) error {
	s.place.mu.Lock()
	v, ok := s.place.values[string(key)]
	damaged := s.place.damaged[string(key)]
	s.place.mu.Unlock()
	if !ok {
		return nil
	}
	err := error(&store.ValueError{Key: bytes.Clone(key)})
	if !damaged {
		err = fn(v)
	}
	if err != nil {
		return fmt.Errorf("read %q: %w", key, err)
	}
	return nil
}

// Scan implements store.Store.
func (s *Store) Scan(prefix, from []byte, fn func(key, value []byte) error) error {
	return s.scan(prefix, from, func(p pair) error {
		if p.err != nil {
			return p.err
		}
		return fn([]byte(p.key), p.value)
	})
}

// ScanKeys implements store.Store.
func (s *Store) ScanKeys(prefix, from []byte, fn func(key []byte) error) error {
	return s.scan(prefix, from, func(p pair) error { return fn([]byte(p.key)) })
}

func (s *Store) scan(prefix, from []byte, fn func(pair) error) error {
	for _, p := range s.pairs(prefix, from) {
		if err := fn(p); errors.Is(err, store.Stop) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// CheckSpace implements store.Store.
func (s *Store) CheckSpace(int64) error {
	s.place.mu.Lock()
	defer s.place.mu.Unlock()
	if s.place.full {
		return fmt.Errorf("%w: as the test says", store.ErrDiskFull)
	}
	return nil
}

// Err implements store.Store.
func (s *Store) Err() error {
	s.place.mu.Lock()
	defer s.place.mu.Unlock()
	return s.place.failed
}

// Stalled implements store.Store.
func (s *Store) Stalled() bool {
	s.place.mu.Lock()
	defer s.place.mu.Unlock()
	return s.place.trouble() != nil
}

// Close writes what was submitted before it, and waits for the answers. It returns nil.
func (s *Store) Close() error {
	s.place.mu.Lock()
	s.closed = true
	s.wake.Signal()
	s.place.mu.Unlock()
	s.committer.Wait()
	s.place.mu.Lock()
	defer s.place.mu.Unlock()
	if s.place.open == s {
		s.place.open = nil
	}
	return nil
}

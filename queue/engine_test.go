package queue

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/badger"
)

// memory is a second engine: a map that several queues can stand on, as relays
// on a replicated store would. It is as simple as the promises allow.
type memory struct {
	mu      sync.Mutex
	values  map[string][]byte
	epoch   int
	handles []*memoryHandle
}

// memoryHandle is the Store of one of them.
type memoryHandle struct {
	*memory
	prefix  []byte
	changed func(key []byte)

	queueMu sync.Mutex
	queue   []func()
	closed  bool
	wake    chan struct{}
	done    sync.WaitGroup
}

func (m *memory) open(t *testing.T) *memoryHandle {
	h := &memoryHandle{memory: m, wake: make(chan struct{}, 1)}
	m.mu.Lock()
	m.handles = append(m.handles, h)
	m.mu.Unlock()
	h.done.Go(func() {
		for range h.wake {
			for f := h.next(); f != nil; f = h.next() {
				f()
			}
		}
	})
	t.Cleanup(h.close)
	return h
}

func (h *memoryHandle) next() func() {
	h.queueMu.Lock()
	defer h.queueMu.Unlock()
	if len(h.queue) == 0 {
		return nil
	}
	f := h.queue[0]
	h.queue = h.queue[1:]
	return f
}

func (h *memoryHandle) close() {
	h.queueMu.Lock()
	if !h.closed {
		h.closed = true
		close(h.wake)
	}
	h.queueMu.Unlock()
	h.done.Wait()
}

func (h *memoryHandle) Submit(b *store.Batch, done func(error)) {
	if done == nil {
		done = func(error) {}
	}
	h.queueMu.Lock()
	defer h.queueMu.Unlock()
	if h.closed {
		done(store.ErrClosed)
		return
	}
	h.queue = append(h.queue, func() {
		keys, err := h.apply(b)
		done(err)
		h.tell(keys)
	})
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

func (h *memoryHandle) apply(b *store.Batch) (keys [][]byte, err error) {
	if err := b.Check(); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range b.Compares() {
		if !c.Same(h.values[string(c.Key)]) {
			return nil, store.ErrChanged
		}
	}
	before := maps.Clone(h.values)
	for _, o := range b.Ops() {
		if o.Change != nil {
			t := &memoryTxn{values: h.values, epoch: h.epoch}
			if err := o.Change(t); err != nil {
				h.values = before
				h.epoch++
				return nil, err
			}
			keys = append(keys, t.keys...)
			continue
		}
		value := o.Value
		if o.Update != nil {
			value = o.Update(h.values[string(o.Key)])
		}
		if value == nil {
			delete(h.values, string(o.Key))
		} else {
			h.values[string(o.Key)] = bytes.Clone(value)
		}
		keys = append(keys, o.Key)
	}
	return keys, nil
}

// memoryTxn is what a change may do.
type memoryTxn struct {
	values map[string][]byte
	epoch  int
	keys   [][]byte
}

func (t *memoryTxn) Epoch() int                     { return t.epoch }
func (t *memoryTxn) Get(key []byte) ([]byte, error) { return bytes.Clone(t.values[string(key)]), nil }
func (t *memoryTxn) Set(key, value []byte) error {
	t.values[string(key)] = bytes.Clone(value)
	t.keys = append(t.keys, key)
	return nil
}
func (t *memoryTxn) Delete(key []byte) error {
	delete(t.values, string(key))
	t.keys = append(t.keys, key)
	return nil
}

// tell lets the others know.
func (h *memoryHandle) tell(keys [][]byte) {
	h.mu.Lock()
	others := slices.Clone(h.handles)
	h.mu.Unlock()
	for _, other := range others {
		other.mu.Lock()
		changed, prefix := other.changed, other.prefix
		other.mu.Unlock()
		for _, k := range keys {
			if other != h && changed != nil && bytes.HasPrefix(k, prefix) {
				changed(k)
			}
		}
	}
}

func (h *memoryHandle) Watch(prefix []byte, changed func([]byte)) (stop func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.prefix, h.changed = prefix, changed
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.changed = nil
	}
}

func (h *memoryHandle) View(key []byte, fn func([]byte) error) error {
	h.mu.Lock()
	v, ok := h.values[string(key)]
	h.mu.Unlock()
	if !ok {
		return nil
	}
	return fn(v)
}

func (h *memoryHandle) Scan(prefix, from []byte, fn func(key, value []byte) error) error {
	type pair struct{ k, v []byte }
	var pairs []pair
	h.mu.Lock()
	for k, v := range h.values {
		if strings.HasPrefix(k, string(prefix)) && k >= string(from) {
			pairs = append(pairs, pair{[]byte(k), v})
		}
	}
	h.mu.Unlock()
	slices.SortFunc(pairs, func(a, b pair) int { return bytes.Compare(a.k, b.k) })
	for _, p := range pairs {
		if err := fn(p.k, p.v); err != nil {
			if errors.Is(err, store.Stop) {
				return nil
			}
			return err
		}
	}
	return nil
}

func (h *memoryHandle) ScanKeys(prefix, from []byte, fn func([]byte) error) error {
	return h.Scan(prefix, from, func(k, _ []byte) error { return fn(k) })
}

func (h *memoryHandle) Room(int64) error { return nil }
func (h *memoryHandle) Err() error       { return nil }
func (h *memoryHandle) Stalled() bool    { return false }

// engines are the engines that keep the promises of Store.
var engines = map[string]func(*testing.T) (s Store, close func()){
	"badger": func(t *testing.T) (Store, func()) {
		s, err := badger.Open(badger.Options{Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s, func() { s.Close() }
	},
	"memory": func(t *testing.T) (Store, func()) {
		h := (&memory{values: make(map[string][]byte)}).open(t)
		return h, h.close
	},
}

func TestAnEngineKeepsItsPromises(t *testing.T) {
	for name, open := range engines {
		t.Run(name, func(t *testing.T) {
			s, closeStore := open(t)
			commit := func(change func(*store.Batch)) error {
				var b store.Batch
				change(&b)
				done := make(chan error, 1)
				s.Submit(&b, func(err error) { done <- err })
				return <-done
			}
			get := func(key string) (v []byte) {
				if err := s.View([]byte(key), func(b []byte) error { v = append([]byte{}, b...); return nil }); err != nil {
					t.Error(err)
				}
				return v
			}
			if err := commit(func(b *store.Batch) {
				b.Set([]byte("e1"), []byte("one"))
				b.Set([]byte("b1"), bytes.Repeat([]byte("x"), chunkSize))
				b.Set([]byte("e0"), nil)
			}); err != nil || string(get("e1")) != "one" || len(get("b1")) != chunkSize || get("e0") == nil || get("e2") != nil {
				t.Fatalf("a batch: %v", err)
			}

			// Nothing of a batch is written whose comparison or condition fails.
			for what, change := range map[string]func(*store.Batch){
				"another value": func(b *store.Batch) {
					b.Compare([]byte("e1"), func(now []byte) bool { return string(now) == "two" })
				},
				"no value": func(b *store.Batch) { b.Compare([]byte("none"), func(now []byte) bool { return now != nil }) },
				"one of two": func(b *store.Batch) {
					b.Compare([]byte("e1"), func([]byte) bool { return true })
					b.Compare([]byte("e0"), func(now []byte) bool { return now == nil })
				},
			} {
				err := commit(func(b *store.Batch) {
					b.Set([]byte("e9"), []byte(what))
					change(b)
					b.Delete([]byte("e1"))
				})
				if !errors.Is(err, store.ErrChanged) || get("e9") != nil || get("e1") == nil {
					t.Errorf("%s: %v, e9 %q", what, err, get("e9"))
				}
			}
			no := errors.New("no")
			if err := commit(func(b *store.Batch) {
				b.Set([]byte("e9"), nil)
				b.Precondition(func() error { return no })
			}); !errors.Is(err, no) || get("e9") != nil {
				t.Errorf("a condition: %v", err)
			}

			if err := commit(func(b *store.Batch) {
				b.Set([]byte("e9"), nil)
				b.Do(1, 10, func(t store.Txn) error {
					_ = t.Set([]byte("e8"), nil)
					return no
				})
			}); !errors.Is(err, no) || get("e9") != nil || get("e8") != nil {
				t.Errorf("a change that fails: %v", err)
			}

			// A thousand batches at once: in order, each seeing those before.
			var wg sync.WaitGroup
			var order []int
			for i := range 1000 {
				var b store.Batch
				b.Compare([]byte("q"), func(now []byte) bool { return len(now) == i })
				b.Update([]byte("q"), func(old []byte) []byte { return append(bytes.Clone(old), byte(i)) })
				wg.Add(1)
				s.Submit(&b, func(err error) {
					if err != nil {
						t.Errorf("batch %d: %v", i, err)
					}
					order = append(order, i)
					wg.Done()
				})
			}
			wg.Wait()
			if q := get("q"); len(q) != 1000 || !slices.IsSorted(order) {
				t.Errorf("%d of 1000 in order, sorted %v", len(q), slices.IsSorted(order))
			}

			var keys []string
			if err := s.Scan([]byte("e"), []byte("e1"), func(k, v []byte) error { keys = append(keys, fmt.Sprintf("%s=%s", k, v)); return nil }); err != nil || !slices.Equal(keys, []string{"e1=one"}) {
				t.Errorf("scan %v %v", keys, err)
			}
			keys = nil
			if err := s.ScanKeys([]byte("e"), nil, func(k []byte) error { keys = append(keys, string(k)); return store.Stop }); err != nil || !slices.Equal(keys, []string{"e0"}) {
				t.Errorf("scan of keys %v %v", keys, err)
			}
			closeStore()
			if err := commit(func(*store.Batch) {}); !errors.Is(err, store.ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
		})
	}
}

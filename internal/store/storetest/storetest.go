// Package storetest has the promises of the store's contract as tests. Every engine
// runs them.
package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/stsrelay/stsrelay/internal/store"
)

// Engine is a store that can be closed.
type Engine interface {
	store.Store
	Close() error
}

// Opener opens a store: the first time an empty one, then the same one again after it
// was closed.
type Opener func() (Engine, error)

// Run tries all promises. each makes the opener for one of them.
func Run(t *testing.T, each func(t *testing.T) Opener) {
	for name, try := range map[string]func(*bench){
		"a batch is made as a whole":                          (*bench).whole,
		"a failed precondition leaves nothing":                (*bench).precondition,
		"a failed function leaves nothing, and the next sees": (*bench).failedDo,
		"batches take effect in their order":                  (*bench).order,
		"an update sees what came before":                     (*bench).update,
		"a function sees the batch's own changes":             (*bench).doSees,
		"done is called once, and readers see the batch then": (*bench).done,
		"a reader sees a batch at once":                       (*bench).moment,
		"a scan is in order, from a key on, until Stop":       (*bench).scan,
		"a deferrable batch is committed all the same":        (*bench).deferrable,
		"what was acknowledged is there after a restart":      (*bench).restart,
		"a closed store takes nothing":                        (*bench).closed,
		"a store that works has room and no error":            (*bench).healthy,
		"the epoch changes when changes were not written":     (*bench).epoch,
	} {
		t.Run(name, func(t *testing.T) {
			b := &bench{T: t, opener: each(t)}
			b.open()
			defer b.close()
			try(b)
		})
	}
}

// bench is a store of one test.
type bench struct {
	*testing.T
	opener Opener
	s      Engine
}

func (b *bench) open() {
	b.Helper()
	s, err := b.opener()
	if err != nil {
		b.Fatal(err)
	}
	b.s = s
}

func (b *bench) close() {
	b.Helper()
	if err := b.s.Close(); err != nil {
		b.Error(err)
	}
}

func (b *bench) commit(change func(*store.Batch)) error {
	var batch store.Batch
	change(&batch)
	return store.Commit(b.Context(), b.s, &batch)
}

func (b *bench) must(change func(*store.Batch)) {
	b.Helper()
	if err := b.commit(change); err != nil {
		b.Fatal(err)
	}
}

// get returns a value, nil where there is none.
func (b *bench) get(key string) []byte {
	b.Helper()
	v, err := store.Get(b.s, []byte(key))
	if err != nil {
		b.Error(err)
	}
	return v
}

// is fails where a value is another one; "-" stands for none.
func (b *bench) is(key, want string) {
	b.Helper()
	got := "-"
	if v := b.get(key); v != nil {
		got = string(v)
	}
	if got != want {
		b.Errorf("%s is %q, not %q", key, got, want)
	}
}

var errNo = errors.New("no")

const chunk = 256 << 10

func (b *bench) whole() {
	body := bytes.Repeat([]byte("x"), chunk)
	b.must(func(batch *store.Batch) {
		batch.Set([]byte("e1"), []byte("one"))
		batch.Set([]byte("b1"), body)
		batch.Set([]byte("e0"), nil)
		batch.Set([]byte("e3"), []byte("three"))
		batch.Delete([]byte("e3"))
		batch.Delete([]byte("never there"))
	})
	b.is("e1", "one")
	b.is("e0", "") // an empty value is a value
	b.is("e2", "-")
	b.is("e3", "-") // later changes of a batch win
	if !bytes.Equal(b.get("b1"), body) {
		b.Error("the body is another one")
	}
	b.must(func(*store.Batch) {}) // an empty one is no error
}

func (b *bench) precondition() {
	err := b.commit(func(batch *store.Batch) {
		batch.Set([]byte("e9"), nil)
		batch.Precondition(func() error { return errNo })
	})
	if !errors.Is(err, errNo) {
		b.Errorf("the answer is %v", err)
	}
	b.is("e9", "-")
	// It is asked when the batch before has its answer.
	answered := false
	var first, second store.Batch
	first.Set([]byte("e1"), nil)
	second.Set([]byte("e2"), nil)
	second.Precondition(func() error {
		if !answered {
			return errNo
		}
		return nil
	})
	var refused store.Batch
	refused.Precondition(func() error { return errNo })
	done := make(chan error, 2)
	b.s.Submit(&refused, func(error) { answered = true })
	b.s.Submit(&first, func(err error) { done <- err })
	b.s.Submit(&second, func(err error) { done <- err })
	for range 2 {
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
}

func (b *bench) failedDo() {
	err := b.commit(func(batch *store.Batch) {
		batch.Set([]byte("e9"), nil)
		batch.Do(1, 10, func(t store.Txn) error {
			_ = t.Set([]byte("e8"), nil)
			return errNo
		})
	})
	if !errors.Is(err, errNo) {
		b.Errorf("the answer is %v", err)
	}
	b.is("e9", "-")
	b.is("e8", "-")
	b.must(func(batch *store.Batch) { batch.Set([]byte("e9"), []byte("next")) })
	b.is("e9", "next")
}

func (b *bench) order() {
	const n = 1000
	var wg sync.WaitGroup
	var answers []int
	for i := range n {
		var batch store.Batch
		batch.Update([]byte("q"), func(old []byte) []byte { return append(bytes.Clone(old), byte(i)) })
		wg.Add(1)
		b.s.Submit(&batch, func(err error) {
			if err != nil {
				b.Errorf("batch %d: %v", i, err)
			}
			answers = append(answers, i)
			wg.Done()
		})
	}
	wg.Wait()
	if !slices.IsSorted(answers) || len(answers) != n {
		b.Errorf("%d answers, in order %v", len(answers), slices.IsSorted(answers))
	}
	q := b.get("q")
	for i := range q {
		if q[i] != byte(i) {
			b.Fatalf("batch %d took effect at place %d", q[i], i)
		}
	}
	if len(q) != n {
		b.Errorf("%d of %d took effect", len(q), n)
	}
}

func (b *bench) update() {
	b.must(func(batch *store.Batch) {
		batch.Update([]byte("k"), func(old []byte) []byte {
			if old != nil {
				b.Errorf("there is %q", old)
			}
			return []byte("1")
		})
	})
	b.must(func(batch *store.Batch) {
		batch.Set([]byte("k"), []byte("2"))
		batch.Update([]byte("k"), func(old []byte) []byte { return append([]byte("was "), old...) })
	})
	b.is("k", "was 2")
	b.must(func(batch *store.Batch) { batch.Update([]byte("k"), func([]byte) []byte { return nil }) })
	b.is("k", "-")
}

func (b *bench) doSees() {
	b.must(func(batch *store.Batch) {
		batch.Set([]byte("a"), []byte("1"))
		batch.Do(3, 30, func(t store.Txn) error {
			a, err := t.Get([]byte("a"))
			if err != nil {
				return err
			}
			none, err := t.Get([]byte("none"))
			if none != nil || err != nil {
				return fmt.Errorf("none is %q, %w", none, err)
			}
			return errors.Join(t.Set([]byte("b"), append(a, '2')), t.Set([]byte("c"), nil), t.Delete([]byte("a")))
		})
	})
	b.is("a", "-")
	b.is("b", "12")
	b.is("c", "")
}

func (b *bench) done() {
	calls := make(chan string, 10)
	for i := range 5 {
		key := fmt.Sprint("k", i)
		var batch store.Batch
		batch.Set([]byte(key), []byte("v"))
		b.s.Submit(&batch, func(err error) {
			v, readErr := store.Get(b.s, []byte(key))
			if err != nil || readErr != nil || string(v) != "v" {
				b.Errorf("%s: %v, %q, %v", key, err, v, readErr)
			}
			calls <- key
		})
	}
	var got []string
	for range 5 {
		got = append(got, <-calls)
	}
	b.must(func(*store.Batch) {})
	if len(calls) > 0 || !slices.Equal(got, []string{"k0", "k1", "k2", "k3", "k4"}) {
		b.Errorf("done of %v, and %d more", got, len(calls))
	}
	var unheard store.Batch
	unheard.Set([]byte("nobody"), []byte("waits"))
	b.s.Submit(&unheard, nil)
	b.must(func(*store.Batch) {})
	b.is("nobody", "waits")
}

// moment reads pairs of keys that every batch makes the same.
func (b *bench) moment() {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			values := make(map[string]bool)
			if err := b.s.Scan([]byte("p"), nil, func(_, v []byte) error { values[string(v)] = true; return nil }); err != nil || len(values) > 1 {
				b.Errorf("a scan saw %v, %v", values, err)
				return
			}
		}
	}()
	for i := range 50 {
		b.must(func(batch *store.Batch) {
			for k := range 20 {
				batch.Set(fmt.Appendf(nil, "p%02d", k), fmt.Append(nil, i))
			}
		})
	}
	close(stop)
	<-stopped
}

func (b *bench) scan() {
	b.must(func(batch *store.Batch) {
		for _, k := range []string{"e2", "e0", "d9", "f", "e1", "e\xff"} {
			batch.Set([]byte(k), []byte("of "+k))
		}
	})
	var got []string
	note := func(k, v []byte) error { got = append(got, string(k)+"="+string(v)); return nil }
	if err := b.s.Scan([]byte("e"), []byte("e1"), note); err != nil || !slices.Equal(got, []string{"e1=of e1", "e2=of e2", "e\xff=of e\xff"}) {
		b.Errorf("%q, %v", got, err)
	}
	got = nil
	if err := b.s.ScanKeys([]byte("e"), nil, func(k []byte) error { got = append(got, string(k)); return store.Stop }); err != nil || !slices.Equal(got, []string{"e0"}) {
		b.Errorf("keys until Stop: %q, %v", got, err)
	}
	if err := b.s.Scan([]byte("e"), nil, func(_, _ []byte) error { return errNo }); !errors.Is(err, errNo) {
		b.Errorf("an error of the function: %v", err)
	}
	got = nil
	if err := b.s.Scan([]byte("none"), nil, note); err != nil || got != nil {
		b.Errorf("of nothing: %q, %v", got, err)
	}
}

func (b *bench) deferrable() {
	done := make(chan error, 1)
	var batch store.Batch
	batch.Deferrable()
	batch.RetryWhenFull()
	batch.Set([]byte("k"), []byte("v"))
	b.s.Submit(&batch, func(err error) { done <- err })
	if err := <-done; err != nil {
		b.Error(err)
	}
	b.is("k", "v")
}

func (b *bench) restart() {
	for i := range 100 {
		b.must(func(batch *store.Batch) {
			batch.Set(fmt.Appendf(nil, "k%02d", i), bytes.Repeat([]byte{byte(i)}, i*100))
			if i%3 == 2 {
				batch.Delete(fmt.Appendf(nil, "k%02d", i-1))
			}
		})
	}
	b.close()
	b.open()
	for i := range 100 {
		v := b.get(fmt.Sprintf("k%02d", i))
		if gone := i%3 == 1 && i < 99; gone != (v == nil) || !gone && !bytes.Equal(v, bytes.Repeat([]byte{byte(i)}, i*100)) {
			b.Errorf("k%02d has %d octets", i, len(v))
		}
	}
}

func (b *bench) closed() {
	b.close()
	if err := b.commit(func(batch *store.Batch) { batch.Set([]byte("k"), nil) }); !errors.Is(err, store.ErrClosed) {
		b.Errorf("%v", err)
	}
	b.open()
	b.is("k", "-")
}

func (b *bench) healthy() {
	if err := errors.Join(b.s.CheckSpace(1), b.s.Err()); err != nil || b.s.Stalled() {
		b.Errorf("%v, stalled %v", err, b.s.Stalled())
	}
}

func (b *bench) epoch() {
	epoch := func() (n int) {
		b.must(func(batch *store.Batch) { batch.Do(1, 16, func(t store.Txn) error { n = t.Epoch(); return nil }) })
		return n
	}
	before := epoch()
	if epoch() != before {
		b.Error("it changes without need")
	}
	if err := b.commit(func(batch *store.Batch) { batch.Do(1, 16, func(store.Txn) error { return errNo }) }); !errors.Is(err, errNo) {
		b.Error(err)
	}
	if epoch() == before {
		b.Error("it does not change")
	}
}

// Package storetest tries the promises of store.Store on an engine.
package storetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stsrelay/stsrelay/internal/store"
)

// Engine is a store that can be closed. Close writes what was submitted before it, and
// returns when every answer was given.
type Engine interface {
	store.Store
	Close() error
}

// Place is where an engine keeps one store: a folder, say. The functions below Open are
// nil if the engine cannot do what they say; the promises that need them are skipped.
type Place struct {
	// Open opens the store. It is called again after Close.
	Open func(t *testing.T) Engine
	// Crash returns a place with the store as the next process finds it if the present
	// one dies at this moment. The store may be open.
	Crash func(t *testing.T) Place
	// Fill makes the disk full, or gives it space again.
	Fill func(full bool)
	// Fail makes writing to the open store fail.
	Fail func(s Engine)
	// LoseAnswer lets nobody know whether the next batch is written. written is what in
	// truth becomes of it.
	LoseAnswer func(written bool)
	// Damage damages the value of key, which is longer than 1 KiB. The store is closed.
	Damage func(t *testing.T, key []byte)
}

// Run tries all promises. newPlace returns a place for a new store.
func Run(t *testing.T, newPlace func(t *testing.T) Place) {
	for name, try := range map[string]func(*promise){
		"a batch is made together or not at all":                           wholeBatch,
		"a failing function fails its batch and spares the others":         failingFunction,
		"a batch that cannot be written spares the others":                 refusedBatch,
		"batches take effect and are answered in the order of Submit":      order,
		"functions see what came before, and run one at a time":            functions,
		"the epoch changes when what a function did was not written":       epoch,
		"a precondition is asked when the batches before have answers":     preconditions,
		"a reader sees every batch that was answered, whole":               readers,
		"each batch is answered once, and can be read then":                answers,
		"values are kept octet for octet, empty ones and large ones":       values,
		"keys and values may be reused after the answer":                   reuse,
		"a scan is in the order of octets, from a key, and stops":          scans,
		"a scan is of one moment":                                          scanOfOneMoment,
		"the error of a reader is returned":                                readerErrors,
		"Submit answers nothing itself, and may be called from answers":    locks,
		"a deferrable batch is written without others and at Close":        deferrable,
		"waiting for a commit ends with the context":                       contexts,
		"Close writes what was submitted, and nothing is taken after":      closing,
		"what was answered is there after a restart":                       restart,
		"what was answered is there after a crash":                         crash,
		"a full disk refuses what can be refused, and keeps the rest":      fullDisk,
		"a full disk at Close refuses what waits":                          fullAtClose,
		"a store that has failed acknowledges nothing more":                failed,
		"after an unknown outcome a batch is whole, and the store goes on": unknown,
		"a damaged value is an error for its reader and no other":          damagedValue,
		"many writers at once lose nothing":                                manyWriters,
	} {
		t.Run(name, func(t *testing.T) {
			p := &promise{T: t, place: newPlace(t)}
			p.open()
			try(p)
		})
	}
}

// promise is the trial of one promise.
type promise struct {
	*testing.T
	place Place
	Engine
}

// open opens the store. It is closed at the end of the test, if not before.
func (p *promise) open() {
	s := p.place.Open(p.T)
	p.Engine = s
	p.Cleanup(func() { _ = s.Close() })
}

func (p *promise) reopen() {
	p.Helper()
	if err := p.Close(); err != nil {
		p.Fatal(err)
	}
	p.open()
}

func (p *promise) commit(change func(*store.Batch)) error {
	var b store.Batch
	change(&b)
	return store.Commit(context.Background(), p.Engine, &b)
}

func (p *promise) must(change func(*store.Batch)) {
	p.Helper()
	if err := p.commit(change); err != nil {
		p.Fatal(err)
	}
}

func (p *promise) set(key, value string) {
	p.Helper()
	p.must(func(b *store.Batch) { b.Set([]byte(key), []byte(value)) })
}

// get returns a value, "none" if there is none.
func (p *promise) get(key string) string {
	p.Helper()
	v, err := store.Get(p.Engine, []byte(key))
	if err != nil {
		p.Error(err)
	}
	if v == nil {
		return "none"
	}
	return string(v)
}

func (p *promise) want(key, value string) {
	p.Helper()
	if got := p.get(key); got != value {
		p.Errorf("%s is %.40q, want %.40q", key, got, value)
	}
}

func (p *promise) wantError(err, want error) {
	p.Helper()
	if !errors.Is(err, want) {
		p.Errorf("answered with %v, want %v", err, want)
	}
}

// block keeps the store busy with a batch until release is called, so that what is
// submitted meanwhile waits.
func (p *promise) block() (release func()) {
	entered, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var b store.Batch
	b.Update([]byte("kblock"), func([]byte) []byte {
		once.Do(func() { close(entered) })
		<-leave
		return nil
	})
	p.Submit(&b, nil)
	<-entered
	return func() { close(leave) }
}

var errNo = errors.New("no")

func wholeBatch(p *promise) {
	p.set("k1", "one")
	p.must(func(b *store.Batch) {
		b.Set([]byte("k1"), []byte("two"))
		b.Set([]byte("k2"), []byte("new"))
		b.Delete([]byte("k2"))
		b.Set([]byte("k3"), []byte("new"))
		b.Delete([]byte("k4")) // which is not there
	})
	p.want("k1", "two")
	p.want("k2", "none")
	p.want("k3", "new")
	p.must(func(b *store.Batch) {
		b.Update([]byte("k3"), func([]byte) []byte { return nil })
		b.Update([]byte("k4"), func(old []byte) []byte { return fmt.Append(nil, old == nil) })
	})
	p.want("k3", "none")
	p.want("k4", "true")
	p.must(func(*store.Batch) {}) // an empty batch is answered too
}

func failingFunction(p *promise) {
	p.set("k1", "one")
	release := p.block()
	answers := make(chan error, 3)
	for i := range 3 {
		var b store.Batch
		b.Update([]byte("k1"), func(old []byte) []byte { return fmt.Append(old, i) })
		b.Set(fmt.Append(nil, "k9", i), nil)
		b.Do(1, 10, func(txn store.Txn) error {
			if err := txn.Set(fmt.Append(nil, "k8", i), []byte("done")); err != nil || i != 1 {
				return err
			}
			return errNo
		})
		p.Submit(&b, func(err error) {
			if (i == 1) != errors.Is(err, errNo) || i != 1 && err != nil {
				p.Errorf("batch %d is answered with %v", i, err)
			}
			answers <- err
		})
	}
	release()
	for range 3 {
		<-answers
	}
	p.want("k1", "one02")
	for i, want := range []string{"done", "none", "done"} {
		p.want(fmt.Sprint("k8", i), want)
		p.want(fmt.Sprint("k9", i), map[string]string{"done": "", "none": "none"}[want])
	}
	if p.Err() != nil || p.Stalled() {
		p.Errorf("the store has failed: %v", p.Err())
	}
}

func refusedBatch(p *promise) {
	release := p.block()
	answers := make([]error, 3)
	for i := range answers {
		var b store.Batch
		b.Set(fmt.Append(nil, "k", i), []byte("v"))
		if i == 1 {
			b.Set(nil, []byte("an empty key"))
		}
		p.Submit(&b, func(err error) { answers[i] = err })
	}
	release()
	p.must(func(*store.Batch) {})
	if answers[0] != nil || answers[1] == nil || answers[2] != nil {
		p.Errorf("answers %v", answers)
	}
	p.want("k0", "v")
	p.want("k1", "none")
	p.want("k2", "v")
	if p.Err() != nil {
		p.Errorf("the store has failed: %v", p.Err())
	}
}

func order(p *promise) {
	const n = 1000
	var answered []int
	var wg sync.WaitGroup
	for i := range n {
		var b store.Batch
		b.Update([]byte("klist"), func(old []byte) []byte { return binary.BigEndian.AppendUint16(slices.Clone(old), uint16(i)) })
		wg.Add(1)
		p.Submit(&b, func(err error) {
			if err != nil {
				p.Errorf("batch %d: %v", i, err)
			}
			answered = append(answered, i)
			wg.Done()
		})
	}
	wg.Wait()
	list := p.get("klist")
	if len(list) != 2*n || len(answered) != n || !slices.IsSorted(answered) {
		p.Fatalf("%d octets of %d batches; answered in order: %v", len(list), n, slices.IsSorted(answered))
	}
	for i := range n {
		if got := binary.BigEndian.Uint16([]byte(list[2*i:])); int(got) != i {
			p.Fatalf("batch %d took effect as number %d", got, i)
		}
	}
}

func functions(p *promise) {
	running := 0
	alone := func() func() {
		if running++; running > 1 {
			p.Error("two functions run at the same time")
		}
		return func() { running-- }
	}
	for range 50 {
		var b store.Batch
		b.Set([]byte("kset"), []byte("5"))
		b.Update([]byte("kset"), func(old []byte) []byte {
			defer alone()()
			if string(old) != "5" {
				p.Errorf("Update sees %q, want what the batch has set before", old)
			}
			return append(slices.Clone(old), '6')
		})
		b.Do(2, 100, func(txn store.Txn) error {
			defer alone()()
			set, err := txn.Get([]byte("kset"))
			if string(set) != "56" || err != nil {
				p.Errorf("Do sees %q, %v, want what the batch has set before", set, err)
			}
			if none, err := txn.Get([]byte("knone")); none != nil || err != nil {
				p.Errorf("Do sees %q, %v where nothing is", none, err)
			}
			count, err := txn.Get([]byte("kcount"))
			if err != nil {
				return err
			}
			if err := txn.Delete([]byte("kset")); err != nil {
				return err
			}
			if gone, err := txn.Get([]byte("kset")); gone != nil || err != nil {
				p.Errorf("Do sees %q, %v after it has deleted it", gone, err)
			}
			return txn.Set([]byte("kcount"), append(count, '.'))
		})
		p.Submit(&b, func(err error) {
			if err != nil {
				p.Error(err)
			}
		})
	}
	p.must(func(*store.Batch) {})
	p.want("kcount", strings.Repeat(".", 50))
	p.want("kset", "none")
}

func epoch(p *promise) {
	now := func() (n int) {
		p.must(func(b *store.Batch) { b.Do(0, 0, func(txn store.Txn) error { n = txn.Epoch(); return nil }) })
		return n
	}
	before := now()
	if now() != before {
		p.Error("it changes without need")
	}
	refused := []func(*store.Batch){
		func(b *store.Batch) { b.Do(0, 0, func(store.Txn) error { return errNo }) },
		func(b *store.Batch) {
			b.Do(1, 10, func(txn store.Txn) error { return txn.Set([]byte("k1"), nil) })
			b.Set(nil, []byte("an empty key"))
		},
	}
	for i, change := range refused {
		before = now()
		if err := p.commit(change); err == nil {
			p.Fatalf("batch %d was taken", i)
		}
		if now() == before {
			p.Errorf("batch %d: it does not change", i)
		}
	}
	p.want("k1", "none")

	// What is remembered by that rule is right, whoever shares a transaction with it.
	type memory struct{ epoch, n int }
	var remembered *memory
	release := p.block()
	for i := range 100 {
		var b store.Batch
		b.Do(1, 20, func(txn store.Txn) error {
			n := 0
			if remembered != nil && remembered.epoch == txn.Epoch() {
				n = remembered.n
			} else if old, err := txn.Get([]byte("kn")); err != nil {
				return err
			} else if old != nil {
				n = int(binary.BigEndian.Uint32(old))
			}
			remembered = &memory{txn.Epoch(), n + 1}
			return txn.Set([]byte("kn"), binary.BigEndian.AppendUint32(nil, uint32(n+1)))
		})
		if i%10 == 3 {
			b.Do(0, 0, func(store.Txn) error { return errNo })
		}
		p.Submit(&b, nil)
	}
	release()
	p.must(func(*store.Batch) {})
	p.want("kn", string(binary.BigEndian.AppendUint32(nil, 90)))
}

func preconditions(p *promise) {
	var verdict error
	var b store.Batch
	b.Set([]byte("k1"), []byte("v"))
	b.Precondition(func() error { return verdict })
	verdict = errNo // it is asked later than at Submit
	p.wantError(store.Commit(context.Background(), p.Engine, &b), errNo)
	p.want("k1", "none")
	verdict = nil
	p.wantError(store.Commit(context.Background(), p.Engine, &b), nil)
	p.want("k1", "v")

	// Of what depends on a batch that was not written, nothing is written.
	release := p.block()
	var mu sync.Mutex
	var before error
	var first, second store.Batch
	first.Do(0, 0, func(store.Txn) error { return errNo })
	p.Submit(&first, func(err error) {
		mu.Lock()
		defer mu.Unlock()
		before = err
	})
	second.Set([]byte("k2"), nil)
	second.Precondition(func() error {
		mu.Lock()
		defer mu.Unlock()
		return before
	})
	answer := make(chan error, 1)
	p.Submit(&second, func(err error) { answer <- err })
	release()
	p.wantError(<-answer, errNo)
	p.want("k2", "none")
}

func readers(p *promise) {
	p.must(func(b *store.Batch) {
		b.Set([]byte("k1"), []byte("0"))
		b.Set([]byte("k2"), []byte("0"))
	})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				var seen []string
				err := p.Scan([]byte("k"), nil, func(_, v []byte) error { seen = append(seen, string(v)); return nil })
				if err != nil || len(seen) != 2 || seen[0] != seen[1] {
					p.Errorf("a reader sees %q, %v: a part of a batch", seen, err)
					return
				}
			}
		})
	}
	for i := range 100 {
		v := fmt.Sprint(i)
		p.must(func(b *store.Batch) {
			b.Set([]byte("k1"), []byte(v))
			b.Set([]byte("k2"), []byte(v))
		})
		p.want("k2", v)
	}
	close(stop)
	wg.Wait()
}

// answers reads what was written from within the answer, before anything else is done.
func answers(p *promise) {
	if err := errors.Join(p.CheckSpace(1), p.Err()); err != nil || p.Stalled() {
		p.Errorf("a store that works: %v, stalled %v", err, p.Stalled())
	}
	calls := make(chan string, 10)
	for i := range 5 {
		key := fmt.Sprint("k", i)
		var b store.Batch
		b.Set([]byte(key), []byte("v"))
		p.Submit(&b, func(err error) {
			v, readErr := store.Get(p.Engine, []byte(key))
			if err != nil || readErr != nil || string(v) != "v" {
				p.Errorf("%s: %v, %q, %v", key, err, v, readErr)
			}
			calls <- key
		})
	}
	var unheard store.Batch
	unheard.Set([]byte("knobody"), []byte("waits"))
	p.Submit(&unheard, nil)
	p.must(func(*store.Batch) {})
	var got []string
	for len(calls) > 0 {
		got = append(got, <-calls)
	}
	if !slices.Equal(got, []string{"k0", "k1", "k2", "k3", "k4"}) {
		p.Errorf("answers to %q", got)
	}
	p.want("knobody", "waits")
}

func values(p *promise) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	want := map[string]string{
		"kempty": "", "ksmall": string(all), "kzero": strings.Repeat("\x00", 2000),
		"k1023": strings.Repeat("x", 1023), "k1024": strings.Repeat("y", 1024), // where an engine may keep them elsewhere
		"klarge":            string(bytes.Repeat(all, 1024)), // 256 KiB
		"k\x00\xff\x80/é\n": "a key of any octets",
	}
	p.must(func(b *store.Batch) {
		for k, v := range want {
			if v == "" {
				b.Set([]byte(k), nil)
			} else {
				b.Set([]byte(k), []byte(v))
			}
		}
	})
	for range 2 {
		for k, v := range want {
			p.want(k, v)
		}
		p.reopen()
	}
	p.must(func(b *store.Batch) {
		b.Update([]byte("kempty"), func(old []byte) []byte { return fmt.Append(nil, old != nil) })
	})
	p.want("kempty", "true") // an empty value is not none
}

func reuse(p *promise) {
	key, value := []byte("k1"), bytes.Repeat([]byte("a"), 5000)
	p.must(func(b *store.Batch) { b.Set(key, value) })
	copy(key, "k2")
	for i := range value {
		value[i] = 'b'
	}
	p.want("k1", strings.Repeat("a", 5000))
	p.want("k2", "none")
}

func scans(p *promise) {
	keys := []string{"k", "k\x00", "k1", "k10", "k2", "kA", "ka", "k\x7f", "k\xff", "k\xff\xff"}
	p.must(func(b *store.Batch) {
		for i, k := range []string{"j\xff", "l", "K1"} {
			b.Set([]byte(k), fmt.Append(nil, "another prefix ", i))
		}
		for i := range keys {
			k := keys[(i*7)%len(keys)]
			b.Set([]byte(k), []byte("of "+k))
		}
	})
	for _, row := range []struct {
		prefix, from string
		stop         int // after so many
		want         []string
	}{
		{"k", "", 0, keys},
		{"k", "k10", 0, keys[3:]},
		{"k", "k100", 0, keys[4:]}, // which is not there
		{"k", "k", 3, keys[:3]},
		{"k1", "", 0, keys[2:4]},
		{"k\xff", "", 0, keys[8:]},
		{"k\xff", "k\xff\x00", 0, keys[9:]},
		{"x", "", 0, nil},
	} {
		var from []byte
		if row.from != "" {
			from = []byte(row.from)
		}
		var got, only []string
		err := p.Scan([]byte(row.prefix), from, func(k, v []byte) error {
			if string(v) != "of "+string(k) {
				p.Errorf("%q has the value %q", k, v)
			}
			got = append(got, string(k))
			if len(got) == row.stop {
				return store.Stop
			}
			return nil
		})
		if err == nil {
			err = p.ScanKeys([]byte(row.prefix), from, func(k []byte) error {
				only = append(only, string(k))
				if len(only) == row.stop {
					return store.Stop
				}
				return nil
			})
		}
		if err != nil || !slices.Equal(got, row.want) || !slices.Equal(only, row.want) {
			p.Errorf("prefix %q from %q: %q and keys %q, %v; want %q", row.prefix, row.from, got, only, err, row.want)
		}
	}
}

func scanOfOneMoment(p *promise) {
	p.must(func(b *store.Batch) {
		for i := range 10 {
			b.Set(fmt.Append(nil, "k", i), []byte("before"))
		}
	})
	n := 0
	err := p.Scan([]byte("k"), nil, func(_, v []byte) error {
		if n == 0 { // a reader may write
			p.must(func(b *store.Batch) {
				b.Delete([]byte("k5"))
				b.Set([]byte("k6"), []byte("after"))
				b.Set([]byte("k99"), []byte("after"))
			})
		}
		if n++; string(v) != "before" {
			p.Errorf("value %d is %q", n, v)
		}
		return nil
	})
	if err != nil || n != 10 {
		p.Errorf("%d values, %v", n, err)
	}
}

func readerErrors(p *promise) {
	p.set("k1", "v")
	p.wantError(p.View([]byte("k1"), func([]byte) error { return errNo }), errNo)
	p.wantError(p.View([]byte("k2"), func([]byte) error { p.Error("called for a key that is not there"); return nil }), nil)
	p.wantError(p.Scan([]byte("k"), nil, func(_, _ []byte) error { return errNo }), errNo)
	p.wantError(p.ScanKeys([]byte("k"), nil, func([]byte) error { return errNo }), errNo)
}

func locks(p *promise) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	wg.Add(200)
	for range 100 {
		var b store.Batch
		b.Update([]byte("k1"), func(old []byte) []byte {
			mu.Lock()
			defer mu.Unlock()
			return append(slices.Clone(old), '.')
		})
		b.Precondition(func() error {
			mu.Lock()
			defer mu.Unlock()
			return nil
		})
		mu.Lock()
		p.Submit(&b, func(err error) {
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				p.Error(err)
			}
			var next store.Batch
			next.Set([]byte("k2"), []byte("from an answer"))
			p.Submit(&next, func(error) { wg.Done() })
			wg.Done()
		})
		mu.Unlock()
	}
	wg.Wait()
	p.want("k1", strings.Repeat(".", 100))
	p.want("k2", "from an answer")
}

func deferrable(p *promise) {
	submit := func(key string) chan error {
		answer := make(chan error, 1)
		var b store.Batch
		b.Deferrable()
		b.Set([]byte(key), []byte("v"))
		p.Submit(&b, func(err error) { answer <- err })
		return answer
	}
	p.wantError(<-submit("k1"), nil)
	p.want("k1", "v")
	last := submit("k2")
	p.reopen()
	p.wantError(<-last, nil)
	p.want("k2", "v")
}

func contexts(p *promise) {
	release := p.block()
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errNo)
	p.wantError(store.Put(ctx, p.Engine, []byte("k1"), nil), errNo)
	release()
	p.must(func(*store.Batch) {})
	p.want("k1", "") // it was submitted all the same
	p.wantError(store.Remove(context.Background(), p.Engine, []byte("k1")), nil)
	p.want("k1", "none")
}

func closing(p *promise) {
	const n = 100
	answers := make(chan error, n)
	for i := range n {
		var b store.Batch
		if i%2 == 0 {
			b.Deferrable()
		}
		if i%3 == 0 {
			b.RetryWhenFull()
		}
		b.Set(fmt.Append(nil, "k", i), []byte("v"))
		p.Submit(&b, func(err error) { answers <- err })
	}
	if err := p.Close(); err != nil {
		p.Fatal(err)
	}
	if len(answers) != n {
		p.Errorf("%d of %d batches were answered when Close returned", len(answers), n)
	}
	for range n {
		p.wantError(<-answers, nil)
	}
	p.wantError(p.commit(func(b *store.Batch) { b.Set([]byte("klate"), nil) }), store.ErrClosed)
	p.Submit(new(store.Batch), nil) // nobody wants the answer
	if err := p.Close(); err != nil {
		p.Errorf("the second Close: %v", err)
	}
	p.open()
	for i := range n {
		p.want(fmt.Sprint("k", i), "v")
	}
	p.want("klate", "none")
}

func restart(p *promise) {
	for round := range 3 {
		p.set(fmt.Sprint("k", round), strings.Repeat("v", 700*round))
		p.must(func(b *store.Batch) {
			b.Update([]byte("kall"), func(old []byte) []byte { return fmt.Append(old, round) })
		})
		p.reopen()
		for i := range round + 1 {
			p.want(fmt.Sprint("k", i), strings.Repeat("v", 700*i))
		}
	}
	p.want("kall", "012")
	p.must(func(b *store.Batch) { b.Delete([]byte("kall")) })
	p.reopen()
	p.want("kall", "none")
}

// crash writes while the store crashes, and again after it.
func crash(p *promise) {
	if p.place.Crash == nil {
		p.Skip("this engine does not crash here")
	}
	var mu sync.Mutex
	for round := range 3 {
		submitted, answered := 0, 0
		for i := range 200 {
			var b store.Batch
			if i%5 == 0 {
				b.Deferrable()
			}
			b.Set(fmt.Appendf(nil, "k%d/%03d/a", round, i), bytes.Repeat([]byte{byte(i)}, 100*i%3000))
			b.Set(fmt.Appendf(nil, "k%d/%03d/b", round, i), nil)
			submitted++
			p.Submit(&b, func(err error) {
				if err != nil {
					p.Error(err)
				}
				mu.Lock()
				answered++
				mu.Unlock()
			})
			if i == 100 {
				p.must(func(*store.Batch) {})
			}
		}
		mu.Lock()
		durable := answered // at the least: more may become so until the crash
		mu.Unlock()
		p.place = p.place.Crash(p.T)
		if err := p.Close(); err != nil { // the process that has not died
			p.Error(err)
		}
		p.open()
		var parts []string
		err := p.Scan(fmt.Appendf(nil, "k%d/", round), nil, func(k, v []byte) error {
			i := len(parts) / 2
			if n := 100 * i % 3000; strings.HasSuffix(string(k), "a") && !bytes.Equal(v, bytes.Repeat([]byte{byte(i)}, n)) {
				p.Errorf("the value of %s is not what was written", k)
			}
			parts = append(parts, string(k))
			return nil
		})
		if err != nil || len(parts)%2 != 0 || len(parts)/2 < durable {
			p.Errorf("round %d: %d batches were answered, and %d halves are there; %v", round, durable, len(parts), err)
		}
		for i, k := range parts { // a prefix of what was submitted, in whole batches
			if want := fmt.Sprintf("k%d/%03d/%c", round, i/2, 'a'+i%2); k != want {
				p.Fatalf("round %d: key %d is %s, want %s", round, i, k, want)
			}
		}
		for before := range round {
			n := 0
			if err := p.ScanKeys(fmt.Appendf(nil, "k%d/", before), nil, func([]byte) error { n++; return nil }); err != nil || n%2 != 0 {
				p.Errorf("%d keys of round %d, %v", n, before, err)
			}
		}
	}
}

func fullDisk(p *promise) {
	if p.place.Fill == nil {
		p.Skip("this engine has no disk of its own")
	}
	p.set("k1", "v")
	if err := p.CheckSpace(1); err != nil {
		p.Errorf("there is space: %v", err)
	}
	p.place.Fill(true)
	p.wantError(p.CheckSpace(1), store.ErrDiskFull)
	kept := make(chan error, 1)
	var b store.Batch
	b.RetryWhenFull()
	b.Set([]byte("k2"), []byte("kept"))
	p.Submit(&b, func(err error) { kept <- err })
	p.wantError(p.commit(func(b *store.Batch) { b.Set([]byte("k3"), nil) }), store.ErrDiskFull)
	if !p.Stalled() || p.Err() != nil {
		p.Errorf("stalled %v, Err %v", p.Stalled(), p.Err())
	}
	p.want("k1", "v") // reading goes on
	p.want("k2", "none")
	if len(kept) != 0 {
		p.Error("a batch with RetryWhenFull was answered")
	}
	p.place.Fill(false)
	p.wantError(<-kept, nil)
	p.want("k2", "kept")
	p.want("k3", "none")
	p.set("k4", "v")
	if p.Stalled() || p.CheckSpace(1) != nil {
		p.Error("there is space again")
	}
}

func fullAtClose(p *promise) {
	if p.place.Fill == nil {
		p.Skip("this engine has no disk of its own")
	}
	p.place.Fill(true)
	kept := make(chan error, 1)
	var b store.Batch
	b.RetryWhenFull()
	b.Set([]byte("k1"), nil)
	p.Submit(&b, func(err error) { kept <- err })
	if err := p.Close(); err != nil {
		p.Fatal(err)
	}
	p.wantError(<-kept, store.ErrDiskFull)
	p.place.Fill(false)
	p.open()
	p.want("k1", "none")
}

func failed(p *promise) {
	if p.place.Fail == nil {
		p.Skip("this engine cannot be made to fail")
	}
	p.set("k1", "v")
	if p.Err() != nil || p.Stalled() {
		p.Errorf("it has failed before: %v", p.Err())
	}
	p.place.Fail(p.Engine)
	for _, retry := range []bool{false, true} {
		p.wantError(p.commit(func(b *store.Batch) {
			if retry {
				b.RetryWhenFull()
			}
			b.Set([]byte("k2"), nil)
		}), store.ErrFailed)
	}
	p.wantError(p.Err(), store.ErrFailed)
	if !p.Stalled() {
		p.Error("it is not stalled")
	}
	p.want("k2", "none")
	p.want("k1", "v")
	p.reopen()
	p.want("k1", "v")
	p.want("k2", "none")
	p.set("k3", "v") // as good as new
}

func unknown(p *promise) {
	if p.place.LoseAnswer == nil {
		p.Skip("this engine knows every outcome")
	}
	for _, written := range []bool{true, false} {
		epoch := func() (n int) {
			p.must(func(b *store.Batch) { b.Do(0, 0, func(txn store.Txn) error { n = txn.Epoch(); return nil }) })
			return n
		}
		p.set("k1", "before")
		p.must(func(b *store.Batch) { b.Delete([]byte("k2")) })
		before := epoch()
		p.place.LoseAnswer(written)
		p.wantError(p.commit(func(b *store.Batch) {
			b.Set([]byte("k1"), []byte("after"))
			b.Set([]byte("k2"), []byte("after"))
		}), store.ErrUnknown)
		if got := p.get("k1") + " " + p.get("k2"); got != "after after" && got != "before none" {
			p.Errorf("a part of the batch was written: %s", got)
		}
		if p.Err() != nil || p.Stalled() {
			p.Errorf("the store has failed: %v", p.Err())
		}
		if epoch() == before {
			p.Error("the epoch is the same")
		}
		p.set("k1", "later") // takes effect after it
		p.want("k1", "later")
		p.reopen()
		p.want("k1", "later")
	}
}

func damagedValue(p *promise) {
	if p.place.Damage == nil {
		p.Skip("this engine cannot be damaged here")
	}
	large := strings.Repeat("0123456789", 1000)
	for i := range 3 {
		p.set(fmt.Sprint("k", i), fmt.Sprint(i, large))
	}
	if err := p.Close(); err != nil {
		p.Fatal(err)
	}
	p.place.Damage(p.T, []byte("k1"))
	p.open()
	var damaged *store.ValueError
	if _, err := store.Get(p.Engine, []byte("k1")); !errors.As(err, &damaged) || string(damaged.Key) != "k1" {
		p.Errorf("reading it: %v", err)
	}
	p.want("k0", "0"+large)
	p.want("k2", "2"+large)
	var seen []string
	add := func(k []byte) error { seen = append(seen, string(k)); return nil } //nolint:unparam // as Scan wants it
	addPair := func(k, _ []byte) error { return add(k) }
	err := p.Scan([]byte("k"), nil, addPair)
	if damaged = nil; !errors.As(err, &damaged) || string(damaged.Key) != "k1" {
		p.Fatalf("Scan saw %q and ended with %v", seen, err)
	}
	if err := p.Scan([]byte("k"), append(damaged.Key, 0), addPair); err != nil || !slices.Equal(seen, []string{"k0", "k2"}) {
		p.Errorf("behind it: %q, %v", seen, err)
	}
	seen = nil
	if err := p.ScanKeys([]byte("k"), nil, add); err != nil || !slices.Equal(seen, []string{"k0", "k1", "k2"}) {
		p.Errorf("keys %q, %v", seen, err)
	}
	p.must(func(b *store.Batch) {
		b.Do(0, 0, func(txn store.Txn) error {
			if v, err := txn.Get([]byte("k1")); v != nil || err != nil {
				p.Errorf("Do sees %d octets, %v", len(v), err)
			}
			return nil
		})
		b.Update([]byte("k1"), func(old []byte) []byte { return fmt.Append(nil, "anew ", old == nil) })
	})
	p.want("k1", "anew true")
	if p.Err() != nil {
		p.Errorf("the store has failed: %v", p.Err())
	}
}

func manyWriters(p *promise) {
	var wg sync.WaitGroup
	for w := range 32 {
		wg.Go(func() {
			for i := range 20 {
				err := p.commit(func(b *store.Batch) {
					if i%4 == 0 {
						b.Deferrable()
					}
					b.Set(fmt.Appendf(nil, "k/%02d/%02d", w, i), bytes.Repeat([]byte{byte(w)}, 2000))
					b.Update([]byte("ncount"), func(old []byte) []byte { return append(slices.Clone(old), '.') })
				})
				if err != nil {
					p.Error(err)
				}
			}
		})
	}
	wg.Wait()
	p.reopen()
	p.want("ncount", strings.Repeat(".", 32*20))
	n := 0
	err := p.Scan([]byte("k/"), nil, func(k, v []byte) error {
		if want := fmt.Sprintf("k/%02d/%02d", n/20, n%20); string(k) != want || !bytes.Equal(v, bytes.Repeat([]byte{byte(n / 20)}, 2000)) {
			p.Errorf("key %q, want %q, with its value", k, want)
		}
		n++
		return nil
	})
	if err != nil || n != 32*20 {
		p.Errorf("%d values, %v", n, err)
	}
}

package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/stsrelay/stsrelay/internal/store"
)

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

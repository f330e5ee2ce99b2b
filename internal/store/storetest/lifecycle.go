package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/stsrelay/stsrelay/internal/store"
)

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

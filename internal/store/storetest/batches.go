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

	"github.com/stsrelay/stsrelay/internal/store"
)

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

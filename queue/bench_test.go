package queue

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	dgraph "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"github.com/stsrelay/stsrelay/internal/bench/cputime"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/badger"
	"github.com/stsrelay/stsrelay/queue/scheduler"
)

// BenchmarkAccept compares the acceptance of a message, durable when it
// returns, with the same through an ideal log (one file, one write and one
// fdatasync for all that wait) and with one Badger transaction a message.
//
//	go test -run - -bench Accept -benchtime 2s ./queue
func BenchmarkAccept(b *testing.B) {
	for _, shape := range []struct {
		writers, size int
	}{
		{1, 4 << 10}, {16, 4 << 10}, {64, 4 << 10}, {256, 4 << 10},
		{1, 10 << 10}, {16, 10 << 10}, {64, 10 << 10}, {256, 10 << 10},
		{1, 1 << 20}, {16, 1 << 20}, {64, 1 << 20}, {256, 1 << 20},
	} {
		for _, way := range []struct {
			name string
			open func(*testing.B) func(body []byte) error
		}{{"raw", rawLog}, {"queue", throughQueue}, {"update", badgerUpdate}} {
			b.Run(fmt.Sprintf("%dx%dK/%s", shape.writers, shape.size>>10, way.name), func(b *testing.B) {
				accept := way.open(b)
				body := make([]byte, shape.size)
				var next atomic.Int64
				took := make([][]time.Duration, shape.writers)
				b.ResetTimer()
				var wg sync.WaitGroup
				for w := range shape.writers {
					wg.Go(func() {
						for next.Add(1) <= int64(b.N) {
							start := time.Now()
							if err := accept(body); err != nil {
								b.Error(err)
								return
							}
							took[w] = append(took[w], time.Since(start))
						}
					})
				}
				wg.Wait()
				b.StopTimer()
				all := slices.Concat(took...)
				slices.Sort(all)
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
				b.ReportMetric(all[len(all)/2].Seconds()*1000, "p50-ms")
				b.ReportMetric(all[len(all)*99/100].Seconds()*1000, "p99-ms")
			})
		}
	}
}

var benchEnvelope = to("user@example.com")

func throughQueue(b *testing.B) func([]byte) error {
	bench := newBench(b, Options{Paused: true})
	return func(body []byte) error {
		in, err := bench.Begin()
		if err != nil {
			return err
		}
		for p := range slices.Chunk(body, 32<<10) { // as it comes from a connection
			if _, err := in.Write(p); err != nil {
				return err
			}
		}
		return in.Commit(context.Background(), benchEnvelope)
	}
}

func rawLog(b *testing.B) func([]byte) error {
	f, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	type request struct {
		body []byte
		done chan error
	}
	requests := make(chan request, 1024)
	var wg sync.WaitGroup
	wg.Go(func() {
		var buf []byte
		var envelope [500]byte
		for r := range requests {
			group := []request{r}
			buf = append(append(buf[:0], envelope[:]...), r.body...)
			for len(buf) < 4<<20 && len(requests) > 0 {
				r := <-requests
				group = append(group, r)
				buf = append(append(buf, envelope[:]...), r.body...)
			}
			_, err := f.Write(buf)
			if err == nil {
				err = datasync(f)
			}
			for _, r := range group {
				r.done <- err
			}
		}
	})
	b.Cleanup(func() {
		close(requests)
		wg.Wait()
		f.Close()
	})
	return func(body []byte) error {
		r := request{body, make(chan error, 1)}
		requests <- r
		return <-r.done
	}
}

func badgerUpdate(b *testing.B) func([]byte) error {
	db, err := dgraph.Open(dgraph.DefaultOptions(b.TempDir()).WithSyncWrites(true).WithValueThreshold(1 << 10).WithValueLogFileSize(64 << 20).
		WithCompression(options.None).WithBlockCacheSize(0).WithDetectConflicts(false).WithMetricsEnabled(false).WithLogger(nil))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	var seq atomic.Uint64
	return func(body []byte) error {
		n := seq.Add(1)
		return db.Update(func(txn *dgraph.Txn) error {
			for i := 0; i*chunkSize < len(body); i++ {
				if err := txn.Set(bodyKey(n, i), body[i*chunkSize:min((i+1)*chunkSize, len(body))]); err != nil {
					return err
				}
			}
			return txn.Set(messageKey(n), encode(&benchEnvelope))
		})
	}
}

// BenchmarkStageQueue is the way of a message of 10 KiB through the queue: accepted, claimed,
// read and delivered, one after the other.
//
//	go test -run - -bench StageQueue -benchmem ./queue
func BenchmarkStageQueue(b *testing.B) {
	for _, engine := range []struct {
		name string
		open opener
	}{{"memory", inMemory()}, {"badger", nil}} {
		b.Run(engine.name, func(b *testing.B) {
			bench := newBenchOn(b, engine.open, Options{DomainLimit: 1 << 20})
			body := make([]byte, 10<<10)
			delivered := []RecipientState{{State: Delivered}}
			through := func() {
				in, err := bench.Begin()
				if err != nil {
					b.Fatal(err)
				}
				if _, err := in.Write(body); err != nil {
					b.Fatal(err)
				}
				if err := in.Commit(b.Context(), benchEnvelope); err != nil {
					b.Fatal(err)
				}
				c, err := bench.Claim(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				if !c.Load() {
					b.Fatal("the message cannot be read")
				}
				if n, err := io.Copy(io.Discard, c.Body()); err != nil || n != int64(len(body)) {
					b.Fatal(n, err)
				}
				c.Sending()
				delivered[0] = RecipientState{State: Delivered}
				bench.Finish(c, Outcome{Results: delivered})
			}
			for range 100 {
				through()
			}
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				through()
			}
			bench.sync()
		})
	}
}

// BenchmarkClaimFinish is the cost of one delivery to the queue: claim, body,
// result.
func BenchmarkClaimFinish(b *testing.B) {
	bench := newBench(b, Options{DomainLimit: 1 << 20})
	fill(b, bench, b.N)
	b.ResetTimer()
	for range b.N {
		w, err := bench.Claim(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		bench.Finish(w, Outcome{Results: []RecipientState{{State: Delivered}}})
	}
	bench.sync()
}

// BenchmarkDepth is the cost of a message, accepted and delivered, while others
// wait: 16 at a time, so that a commit is shared alike.
//
//	go test -run - -bench Depth -benchtime 30000x ./queue
func BenchmarkDepth(b *testing.B) {
	for _, depth := range []int{1_000, 1_000_000} {
		b.Run(fmt.Sprint(depth), func(b *testing.B) {
			bench := newBench(b, Options{DomainLimit: 1 << 20})
			fill(b, bench, depth)
			body := make([]byte, 10<<10)
			one := func() error {
				in, err := bench.Begin()
				if err != nil {
					return err
				}
				if _, err := in.Write(body); err != nil {
					return err
				}
				if err := in.Commit(context.Background(), benchEnvelope); err != nil {
					return err
				}
				w, err := bench.Claim(context.Background())
				if err != nil {
					return err
				}
				bench.Finish(w, Outcome{Results: []RecipientState{{State: Delivered}}})
				return nil
			}
			var next atomic.Int64
			cpu := cputime.Used()
			b.ResetTimer()
			var wg sync.WaitGroup
			for range 16 {
				wg.Go(func() {
					for next.Add(1) <= int64(b.N) {
						if err := one(); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			bench.sync()
			b.StopTimer()
			b.ReportMetric(float64((cputime.Used()-cpu).Microseconds())/float64(b.N), "cpu-µs/msg")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}

// fill writes n messages of 1,000 domains, without bodies, and opens the queue
// anew.
func fill(b *testing.B, bench *bench, n int) {
	b.Helper()
	batch := new(store.Batch)
	first := bench.sequence.next
	slots := make(chan struct{}, 4)
	for i := range n {
		env := to(fmt.Sprintf("user%d@domain%d.example", i, i%1000))
		bench.buildEnvelope(&scheduler.Entry{Seq: first + uint64(i), ID: bench.Queue.ids.next(bench.clock.wall())}, &env, nil, 0, 0, batch)
		if batch.Len() == 1000 || i == n-1 {
			slots <- struct{}{}
			bench.st.Submit(batch, func(err error) {
				if err != nil {
					b.Error(err)
				}
				<-slots
			})
			batch = new(store.Batch)
		}
	}
	bench.restart()
}

// BenchmarkRebuild opens a queue of b.N messages.
//
//	go test -run - -bench Rebuild -benchtime 1000000x ./queue
func BenchmarkRebuild(b *testing.B) {
	bench := newBench(b, Options{Paused: true})
	fill(b, bench, b.N)
	bench.stop()
	bench.Queue, bench.o.Store = nil, nil
	heap := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	var err error
	start := time.Now()
	if bench.st, err = badger.Open(bench.so); err != nil {
		b.Fatal(err)
	}
	bench.o.Store = bench.st
	opened := time.Since(start)
	before := heap()
	b.ResetTimer()
	if bench.Queue, err = Open(bench.o); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	rebuilt := b.Elapsed()
	bytes := (heap() - before) / float64(b.N)
	ms := func(f func()) float64 {
		start := time.Now()
		f()
		return time.Since(start).Seconds() * 1000
	}
	list := func(f Filter, limit int) func() {
		return func() {
			_ = bench.List(context.Background(), f, func(Message) bool { limit--; return limit > 0 })
		}
	}
	b.ReportMetric((opened + rebuilt).Seconds(), "open-s")
	b.ReportMetric(bytes, "heap-B/msg")
	b.ReportMetric(ms(func() { bench.Summary() }), "summary-ms")
	b.ReportMetric(ms(list(Filter{}, 50)), "list50-ms")
	b.ReportMetric(ms(list(Filter{Domain: "domain999.example"}, 50)), "listdomain50-ms")
	b.ReportMetric(ms(list(Filter{Domain: "none.example"}, 50)), "listnone-ms")
	b.ReportMetric(ms(list(Filter{To: "user900000@domain0.example"}, 1)), "listto-ms")
}

// BenchmarkSearch looks for messages by an address among a million.
//
//	go test -run - -bench Search ./queue
func BenchmarkSearch(b *testing.B) {
	bench := newBench(b, Options{Paused: true})
	fill(b, bench, 1_000_000)
	for _, f := range []Filter{
		{To: "user500000@domain0.example"}, {To: "nobody@domain0.example"}, {From: "nobody@a.example"}, {To: "user500000@domain0.example", Domain: "domain0.example"},
	} {
		b.Run(fmt.Sprintf("from=%s/to=%s/domain=%s", f.From, f.To, f.Domain), func(b *testing.B) {
			found := 0
			for b.Loop() {
				found = 0
				if err := bench.List(b.Context(), f, func(Message) bool { found++; return true }); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(found), "found")
		})
	}
}

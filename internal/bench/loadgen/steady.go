//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/stsrelay/stsrelay/internal/store/badger"
	"github.com/stsrelay/stsrelay/queue"
)

// steady accepts and ends rate messages a second for so long, on a store of
// its own, and watches what the store takes of the disk. A fifth of the
// messages is put off once, by half a minute to a minute, so that long-lived
// values lie among short-lived ones. It fails where the disk use passes 3 ×
// what is queued + 1 GiB.
func steady(ctx context.Context, dir string, rate, size int, length time.Duration) (err error) {
	if dir == "" {
		if dir, err = os.MkdirTemp("", "stsrelay-steady-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	st, err := badger.Open(badger.Options{Dir: dir, FreeSpace: 1 << 30, Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	q, err := queue.Open(queue.Options{Store: st})
	if err != nil {
		return err
	}
	defer q.Close()
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	w := watched{q: q, dir: dir, size: size}
	var wg sync.WaitGroup
	due := make(chan int, rate)
	wg.Go(func() { pace(ctx, rate, due) })
	for range 32 {
		wg.Go(func() { w.accept(ctx, due) })
		wg.Go(func() { w.deliver(ctx) })
	}
	err = w.sample(ctx)
	wg.Wait()
	w.print("end")
	return errors.Join(err, w.failure())
}

// pace hands out rate numbers a second.
func pace(ctx context.Context, rate int, due chan<- int) {
	defer close(due)
	const every = 10 * time.Millisecond
	t := time.NewTicker(every)
	defer t.Stop()
	start, n := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		for want := int(time.Since(start).Seconds() * float64(rate)); n < want; n++ {
			select {
			case due <- n:
			case <-ctx.Done():
				return
			}
		}
	}
}

// watched is a queue and what was seen of it.
type watched struct {
	q    *queue.Queue
	dir  string
	size int

	in, out   atomic.Int64
	failed    atomic.Pointer[error]
	start     time.Time
	peak      int64 // of the disk use
	excess    int64 // the most that the disk use was above 3 × queued
	peakHeap  uint64
	samples   int
	sumOfUses int64
}

func (w *watched) fail(err error) { w.failed.CompareAndSwap(nil, &err) }

func (w *watched) failure() error {
	if p := w.failed.Load(); p != nil {
		return *p
	}
	if w.excess > 1<<30 {
		return fmt.Errorf("the store took %d MiB more than 3 × what was queued", w.excess>>20)
	}
	return nil
}

func (w *watched) accept(ctx context.Context, due <-chan int) {
	body := make([]byte, w.size)
	for i := range body {
		body[i] = byte(rand.Uint32()) // what the file system cannot compress
	}
	for n := range due {
		if err := w.one(body, fmt.Sprintf("d%d.load.example", n%50)); err != nil && ctx.Err() == nil {
			w.fail(err)
			return
		}
	}
}

func (w *watched) one(body []byte, domain string) error {
	in, err := w.q.Begin()
	if err != nil {
		return err
	}
	defer in.Abort()
	if _, err := in.Write(body); err != nil {
		return err
	}
	env := queue.Envelope{From: "anna@sender.example", Recipients: []queue.Recipient{{Address: "kurt@" + domain, Domain: domain}}}
	if err := in.Commit(context.Background(), env); err != nil {
		return err
	}
	w.in.Add(1)
	return nil
}

func (w *watched) deliver(ctx context.Context) {
	for {
		work, err := w.q.Claim(ctx)
		if err != nil {
			return
		}
		if !work.Load() {
			w.fail(errors.New("a message cannot be read"))
			return
		}
		if _, err := io.Copy(io.Discard, work.Body()); err != nil {
			w.fail(err)
		}
		o := queue.Outcome{Results: []queue.RecipientState{{State: queue.Delivered}}}
		if work.Attempts == 0 && rand.IntN(5) == 0 {
			o.Results[0] = queue.RecipientState{State: queue.Queued, LastError: "put off"}
			o.RetryAfter = 30*time.Second + rand.N(30*time.Second)
		} else {
			w.out.Add(1)
		}
		w.q.Finish(work, o)
	}
}

func (w *watched) sample(ctx context.Context) error {
	w.start = time.Now()
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		used, err := diskUse(w.dir)
		if err != nil {
			return err
		}
		w.samples++
		w.sumOfUses += used
		w.peak = max(w.peak, used)
		w.excess = max(w.excess, used-3*w.queued())
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		w.peakHeap = max(w.peakHeap, m.HeapAlloc)
		if n%60 == 0 {
			w.print(fmt.Sprintf("%4d s", n))
		}
		if err := w.failure(); err != nil {
			return err
		}
	}
}

func (w *watched) queued() int64 { return int64(w.q.Counts().Messages) * int64(w.size) }

func (w *watched) print(when string) {
	used, _ := diskUse(w.dir)
	fmt.Printf("%s  in %d (%.0f/s), out %d, queued %d MiB; disk %d MiB now, %d mean, %d peak, at most 3 × queued + %d MiB; heap peak %d MiB\n",
		when, w.in.Load(), float64(w.in.Load())/time.Since(w.start).Seconds(), w.out.Load(), w.queued()>>20,
		used>>20, w.sumOfUses/int64(max(w.samples, 1))>>20, w.peak>>20, w.excess>>20, w.peakHeap>>20)
}

// diskUse is what the files of a folder take of the disk, holes not counted.
func diskUse(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return skipGone(err)
		}
		info, err := d.Info()
		if err != nil {
			return skipGone(err)
		}
		n += info.Sys().(*syscall.Stat_t).Blocks * 512
		return nil
	})
	return n, err
}

// skipGone forgives files that were collected meanwhile.
func skipGone(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

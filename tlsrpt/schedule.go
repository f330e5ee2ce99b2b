package tlsrpt

import (
	"container/heap"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/stsrelay/stsrelay/internal/store"
)

// schedule is a heap of reports by the time at which they are due. A report may be in it
// twice: send checks whether it is due.
type schedule []item

type item struct {
	at  int64 // Unix time in seconds
	key reportKey
}

// Len, Less, Swap, Push and Pop implement heap.Interface.
func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(i, j int) bool { return s[i].at < s[j].at }
func (s schedule) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }
func (s *schedule) Push(x any)        { *s = append(*s, x.(item)) }

func (s *schedule) Pop() any {
	n := len(*s) - 1
	last := (*s)[n]
	(*s)[n] = item{}
	*s = (*s)[:n]
	return last
}

// next removes a report that is due; if none is, wait is the time until the next.
func (s *schedule) next(now time.Time) (k reportKey, wait time.Duration, ok bool) {
	if len(*s) == 0 {
		*s = nil // a day's reports are many, and the next ones are far
		return k, time.Hour, false
	}
	if at := time.Unix((*s)[0].at, 0); at.After(now) {
		return k, at.Sub(now), false
	}
	return heap.Pop(s).(item).key, 0, true
}

// plan adds a report with the time of its next attempt.
func (r *Reporter) plan(k reportKey, at time.Time) {
	r.mu.Lock()
	heap.Push(&r.due, item{at.Unix(), k})
	first := r.due[0].at >= at.Unix()
	r.mu.Unlock()
	if first {
		r.Wake()
	}
}

// Wake makes Run check the clock.
func (r *Reporter) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// onFirstCount is called for the first count of a report. The report of today is
// planned when the day is over.
func (r *Reporter) onFirstCount(k reportKey) {
	r.mu.Lock()
	over := k.Day < r.today
	r.mu.Unlock()
	if over {
		r.planOpen(k)
	}
}

// planOpen plans the report of an open generation.
func (r *Reporter) planOpen(k reportKey) {
	at := r.dueAt(k)
	if now := r.o.Now(); k.Generation > 0 && at.Before(now) {
		at = now.Add(lateWait)
	}
	r.plan(k, at)
}

// Run sends the reports that are due until ctx ends, and waits for those it has begun.
func (r *Reporter) Run(ctx context.Context) error {
	if err := r.resume(); err != nil {
		return err
	}
	var sending sync.WaitGroup
	defer sending.Wait()
	slots := make(chan struct{}, workers)
	for ctx.Err() == nil {
		now := r.o.Now()
		if err := r.newDay(ctx, now); err != nil {
			r.log.Error("TLS reports: the day that is over could not be read; it is tried again", "error", err)
		}
		if err := r.gatherLate(ctx, now); err != nil && ctx.Err() == nil {
			r.log.Error("TLS reports: counts of days that are over could not be gathered; it is tried again", "error", err)
		}
		r.mu.Lock()
		k, wait, ok := r.due.next(now)
		r.mu.Unlock()
		if ok {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return nil
			}
			sending.Go(func() {
				defer func() { <-slots }()
				r.attempt(ctx, k)
			})
			continue
		}
		wait = min(wait, time.Minute) // the clock may be set at any time
		timer := r.o.After(wait)
		if !r.o.Now().Before(now.Add(wait)) {
			continue // the clock was set meanwhile
		}
		select {
		case <-ctx.Done():
		case <-r.wake:
		case <-timer:
		}
	}
	return nil
}

// attempt sends a report, unless somebody sends it already.
func (r *Reporter) attempt(ctx context.Context, k reportKey) {
	if !r.claim(k) {
		return // by SendNow
	}
	err := r.send(ctx, k, false)
	r.release(k)
	if err != nil && ctx.Err() == nil {
		r.log.Error("a TLS report could not be made; it is tried again", "domain", k.Domain, "day", k.Day, "error", err)
		r.plan(k, r.o.Now().Add(waits[0]))
	}
}

func (r *Reporter) claim(k reportKey) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.busy[k] {
		return false
	}
	r.busy[k] = true
	return true
}

func (r *Reporter) release(k reportKey) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.busy, k)
}

// resume plans the reports whose submission had begun before the last stop.
func (r *Reporter) resume() error {
	prefix := key("s", "")
	err := r.o.Store.Scan(prefix, nil, func(k, v []byte) error {
		var s submission
		rk, ok := parseReportKey(k[len(prefix):])
		if ok && cbor.Unmarshal(v, &s) == nil && !s.ended() {
			switch {
			case !s.Next.IsZero():
				r.plan(rk, s.Next)
			case s.Attempts == 0: // cut off in the first attempt
				r.plan(rk, r.o.Now())
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("TLS reports: %w", err)
	}
	return nil
}

// newDay plans the reports of the days that have ended since the last call, and removes
// the days that are too old.
func (r *Reporter) newDay(ctx context.Context, now time.Time) error {
	today := DayOf(now)
	before := r.setToday(today)
	if before == today {
		return nil
	}
	// From now on onFirstCount plans late counts. Those that it did not plan are in the
	// store when this commit is done.
	err := store.Commit(ctx, r.o.Store, new(store.Batch))
	if err == nil {
		err = r.planDays(ctx, before, today, DayOf(now.AddDate(0, 0, -keepDays)))
	}
	if err != nil {
		r.setToday(before)
	}
	return err
}

// gatherLate gathers, once a minute, what other relays have counted for days that are over.
func (r *Reporter) gatherLate(ctx context.Context, now time.Time) error {
	if r.o.Neighbors == nil || !r.gathered.IsZero() && now.Sub(r.gathered).Abs() < time.Minute {
		return nil
	}
	r.gathered = now
	return r.gatherEnded(ctx, DayOf(now))
}

// setToday sets the current day and returns the one before.
func (r *Reporter) setToday(day string) (before string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, r.today = r.today, day
	return before
}

func (r *Reporter) planDays(ctx context.Context, from, today, cutoff string) error {
	all, err := days(r.o.Store)
	if err != nil {
		return err
	}
	for _, day := range all {
		switch {
		case day < cutoff:
			err = r.removeDay(ctx, day)
		case day < today && day >= from:
			err = generations(r.o.Store, day, func(k reportKey, counted bool) {
				if counted {
					r.planOpen(k)
				}
			})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// removeDay removes all records of a day.
func (r *Reporter) removeDay(ctx context.Context, day string) error {
	unsent := 0
	err := generations(r.o.Store, day, func(_ reportKey, counted bool) {
		if counted {
			unsent++
		}
	})
	if err == nil {
		err = r.o.Store.Scan(append(key("s", day), '/'), nil, func(_, v []byte) error {
			var s submission
			if cbor.Unmarshal(v, &s) == nil && !s.ended() {
				unsent++
			}
			return nil
		})
	}
	if err != nil {
		return err
	}
	if unsent > 0 {
		r.log.Warn("TLS reports are dropped: they are too old to be sent", "day", day, "reports", unsent, "days", keepDays)
	}
	for _, prefix := range [][]byte{countsPrefix(day), domainKey(day, ""), append(key("s", day), '/'), dayKey(day)} {
		if err := r.removeAll(ctx, prefix, func([]byte) bool { return true }); err != nil {
			return err
		}
	}
	return r.removeAll(ctx, mailKey(""), func(v []byte) bool {
		var k reportKey
		return cbor.Unmarshal(v, &k) != nil || k.Day <= day
	})
}

// removeAll removes the records below a prefix that are old, some at a time.
func (r *Reporter) removeAll(ctx context.Context, prefix []byte, old func(value []byte) bool) error {
	const some = 2000
	var from []byte
	for {
		var b store.Batch
		err := r.o.Store.Scan(prefix, from, func(k, v []byte) error {
			if b.Len() == some {
				from = append([]byte{}, k...)
				return store.Stop
			}
			if old(v) {
				b.Delete(append([]byte{}, k...))
			}
			return nil
		})
		if err != nil {
			return err
		}
		n := b.Len()
		if n > 0 {
			r.tally.forget(&b)
			if err := store.Commit(ctx, r.o.Store, &b); err != nil {
				return err
			}
		}
		if n < some {
			return nil
		}
	}
}

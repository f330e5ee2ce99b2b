package queue

import (
	"time"

	"github.com/stsrelay/stsrelay/queue/scheduler"
)

// clock has the two clocks of a queue: the wall clock, and that of the scheduler, which is
// monotonic. Due times do not change when the wall clock is set.
type clock struct {
	wall  func() time.Time
	epoch time.Time // that the scheduler's times count from, by the monotonic clock
}

// now is the scheduler's time.
func (c *clock) now() scheduler.Time { return scheduler.Time(time.Since(c.epoch)) }

// at turns a time of the scheduler into wall-clock time.
func (c *clock) at(t scheduler.Time) time.Time {
	return c.wall().Add(t.Sub(c.now())).UTC().Round(0)
}

// utc is the wall-clock time as it is stored.
func (c *clock) utc() time.Time { return c.wall().UTC().Round(0) }

// since is the scheduler's time of something in the past; a time in the future counts
// as now.
func (c *clock) since(t time.Time, now scheduler.Time) scheduler.Time {
	return now.Add(-max(c.wall().Sub(t), 0))
}

// signal wakes one goroutine that waits for it. If none waits, the next one that does is
// woken at once.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

func (s signal) raise() {
	select {
	case s <- struct{}{}:
	default:
	}
}

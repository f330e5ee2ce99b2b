package e2e

import (
	"sync"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// Clock is a clock that only a test moves.
type Clock struct {
	mu      sync.Mutex
	now     time.Time
	waiting []waiter
}

type waiter struct {
	at time.Time
	ch chan time.Time
}

// NewClock begins today at noon (UTC): certificates of the fake Internet are
// good for some weeks around today.
func NewClock() *Clock {
	return &Clock{now: time.Now().UTC().Truncate(24 * time.Hour).Add(12 * time.Hour)}
}

// NewWithClock is a world in which the relay and the fake Internet share a clock. The
// relay has not been started.
func NewWithClock(t testing.TB) *World {
	t.Helper()
	c := NewClock()
	w := newIn(t, testnet.Options{Now: c.Now})
	w.Clock = c
	return w
}

// Now is the time of the clock.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// After is time.After by the clock.
func (c *Clock) After(d time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := waiter{c.now.Add(d), make(chan time.Time, 1)}
	c.waiting = append(c.waiting, w)
	return w.ch
}

// Set moves the clock, also back.
func (c *Clock) Set(to time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = to
	var later []waiter
	for _, w := range c.waiting {
		if w.at.After(to) {
			later = append(later, w)
		} else {
			w.ch <- to
		}
	}
	c.waiting = later
}

// Day is the day of the clock in UTC, as reports name it.
func (c *Clock) Day() string { return tlsrpt.DayOf(c.Now()) }

// Tomorrow sets the clock to five in the morning of the next day, when all
// reports of the day are due.
func (c *Clock) Tomorrow() { c.Set(c.Now().Truncate(24 * time.Hour).Add(29 * time.Hour)) }

// RetryAfter moves the clock and makes all mail due.
func (w *World) RetryAfter(d time.Duration) {
	w.T.Helper()
	w.Clock.Set(w.Clock.Now().Add(d))
	if _, err := w.Relay.Queue().Retry(w.T.Context(), queue.Filter{}); err != nil {
		w.T.Fatal(err)
	}
}

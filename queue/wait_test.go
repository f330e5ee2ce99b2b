package queue

import (
	"testing"
	"time"
)

// Each recipient has its own last and next attempt, and the message has the time at which it
// is given up.
func TestAMessageSaysWhenItsRecipientsWereTriedAndWhenItIsGivenUp(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{Schedule: Schedule{Retry: []time.Duration{10 * time.Minute}, Expire: 5 * time.Hour}})
	received := b.o.Now()
	id := b.accept("x", to("a@x.test", "b@y.test"))
	near := func(what string, got, want time.Time) {
		t.Helper()
		if d := got.Sub(want); d < -2*time.Minute-time.Second || d > 2*time.Minute+time.Second { // a wait varies by 20 %
			t.Errorf("%s: %s, want about %s", what, got, want)
		}
	}
	first := b.claim()
	b.Release(first)
	m := b.show(id)
	near("given up", m.ExpiresAt, received.Add(5*time.Hour))
	if !m.Waits[0].LastAttemptAt.IsZero() {
		t.Errorf("it was not tried yet: %+v", m.Waits)
	}
	b.advance(30 * time.Minute)
	w := b.claim()
	b.Finish(w, Outcome{Results: all(w, Queued)})
	b.sync()
	for range 2 {
		m = b.show(id)
		tried, other := m.Waits[0], m.Waits[1]
		if w.Domain == "y.test" {
			tried, other = other, tried
		}
		near("last attempt", tried.LastAttemptAt, received.Add(30*time.Minute))
		near("next attempt", tried.NextAttemptAt, received.Add(40*time.Minute))
		if !other.LastAttemptAt.IsZero() || other.NextAttemptAt.After(b.o.Now()) {
			t.Errorf("the recipient that was not tried: %+v", other)
		}
		near("given up", m.ExpiresAt, received.Add(5*time.Hour))
		b.restart()
	}
	b.touched(1)(b.Hold(t.Context(), Filter{IDs: []ID{id}}, "suspicious"))
	if m = b.show(id); !m.NextAttemptAt.IsZero() || !m.Waits[0].NextAttemptAt.IsZero() {
		t.Errorf("a held message has a next attempt: %+v", m)
	}
}

func TestARecipientSaysSinceWhenItWaitsWithItsDomain(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{Schedule: Schedule{Retry: []time.Duration{time.Minute, time.Hour}}})
	b.accept("x", to("a@x.test"))
	for range 3 {
		b.accept("x", to("b@x.test"))
	}
	began := b.o.Now()
	b.fail(b.claim())
	b.advance(90 * time.Second)
	b.fail(b.claim()) // the probe: the back-off began before
	m := b.show(b.ids(Filter{})[3])
	w := m.Waits[0]
	if d := w.BackoffSince.Sub(began); w.Backoff.Code != "connect" || d < -time.Second || d > time.Second || !w.LastAttemptAt.IsZero() {
		t.Errorf("%+v; the back-off began at %s", m, began)
	}
	if s := b.Summary()[0]; s.FailingSince.Sub(w.BackoffSince).Abs() > time.Second {
		t.Errorf("%+v", s)
	}
	b.advance(2 * time.Hour)
	probe := b.claim()
	b.Finish(probe, Outcome{Results: all(probe, Queued)}) // a host has answered
	if s := b.Summary()[0]; !s.FailingSince.IsZero() {
		t.Errorf("a host has answered: %+v", s)
	}
}

package queue

import (
	"testing"
	"time"
)

// A clock that is wrong at a start, and a long outage, make no mail too old; what the queue
// ran counts, and a day of what it did not.
func TestMailIsNotGivenUpForATimeInWhichNobodyTriedIt(t *testing.T) {
	const day = 24 * time.Hour
	type run struct {
		step    time.Duration // of the clock, while the queue is closed
		set     time.Duration // and then its clock was set
		ran     time.Duration // and then it ran so long
		expired bool          // whether the message is to be given up then
	}
	for name, runs := range map[string][]run{
		"away for a day":                               {{step: day, ran: 3 * day}, {ran: day + time.Hour, expired: true}},
		"away for two weeks":                           {{step: 14 * day, ran: 3 * day}, {ran: day + time.Hour, expired: true}},
		"a clock a year ahead":                         {{step: 365 * day}, {step: time.Hour}, {step: -365 * day, ran: 4 * day}, {ran: day, expired: true}},
		"away for two weeks, twice":                    {{step: 14 * day}, {step: 14 * day, ran: 2 * day}, {ran: day + time.Hour, expired: true}},
		"a clock a year back, then right":              {{step: -365 * day, ran: time.Hour}, {step: 365 * day, ran: 4 * day}, {ran: day, expired: true}},
		"a clock a year ahead while it ran and after":  {{set: 365 * day}, {step: time.Hour}, {step: -365 * day, ran: 4 * day}, {ran: day, expired: true}},
		"a clock a year back, set right while it ran":  {{set: -365 * day}, {}, {set: 365 * day}, {ran: 4 * day}, {step: time.Minute, ran: day, expired: true}},
		"a clock a year ahead, twice":                  {{step: 365 * day}, {step: -365 * day, ran: day}, {step: 365 * day}, {step: -365 * day, ran: 3 * day}, {ran: day, expired: true}},
		"a clock a year ahead, set right while it ran": {{step: 365 * day}, {set: -365 * day}, {ran: 4 * day}, {step: time.Minute, ran: day, expired: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBenchOn(t, inMemory(), Options{Schedule: Schedule{Retry: []time.Duration{time.Minute}, Expire: 5 * day}})
			b.accept("x", to("a@x.test"))
			for i, r := range runs {
				b.stop()
				b.step(r.step)
				b.start()
				b.step(r.set)
				b.noteSeen(false)
				for range r.ran / time.Hour {
					b.advance(time.Hour)
					b.noteSeen(false)
				}
				b.sync()
				w := b.claim()
				if w.Expired != r.expired {
					t.Errorf("run %d: expired %t, age %s", i, w.Expired, w.Age)
				}
				if w.ExpiresAt.After(b.o.Now()) == r.expired {
					t.Errorf("run %d: it is given up at %s, and it is %s", i, w.ExpiresAt, b.o.Now())
				}
				b.Release(w)
			}
		})
	}
}

// What came in while the clock was a year back is as old as what is before it, or as the
// time at which the queue was seen last.
func TestAClockThatWasBehindMakesNoMailOld(t *testing.T) {
	for name, others := range map[string]bool{"alone": false, "behind other mail": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const year = 365 * 24 * time.Hour
			b := newBench(t, Options{Schedule: Schedule{Retry: []time.Duration{time.Minute}, Expire: 5 * time.Hour}})
			if others {
				b.accept("x", to("a@x.test"))
			}
			b.noteSeen(true)
			b.step(-year)
			b.accept("x", to("b@y.test"))
			b.step(year)
			b.accept("x", to("c@z.test"))
			b.sync()
			b.crash()
			n := 0
			for w := b.try(); w != nil; w = b.try() {
				if n++; w.Expired || w.Age > time.Hour {
					t.Errorf("%s: expired %t, age %s", w.Domain, w.Expired, w.Age)
				}
				defer b.Release(w)
			}
			if n < 2 {
				t.Errorf("%d messages", n)
			}
		})
	}
}

// What came in after a long outage is not spared.
func TestNewMailIsNotSpared(t *testing.T) {
	t.Parallel()
	b := newBenchOn(t, inMemory(), Options{Schedule: Schedule{Retry: []time.Duration{time.Minute}, Expire: 30 * time.Hour}})
	b.accept("x", to("old@x.test"))
	b.stop()
	b.step(14 * 24 * time.Hour)
	b.start()
	b.accept("x", to("new@y.test"))
	b.advance(5 * time.Hour) // the old one is 29 hours old, of which a day of the outage
	for range 2 {
		if w := b.claim(); w.Expired {
			t.Errorf("%s: expired", w.Domain)
		} else {
			b.Release(w)
		}
	}
	b.advance(25*time.Hour + time.Minute)
	for range 2 {
		if w := b.claim(); !w.Expired {
			t.Errorf("%s: not expired", w.Domain)
		}
	}
}

package scheduler

import (
	"testing"
	"time"
)

// Who is warned of a delay, and by what, depends on age, back-off and the mail.
func TestDelayWarnings(t *testing.T) {
	down, policy := unreached.Backoff.Reason, unsafe_.Backoff.Reason
	for _, row := range []struct {
		name    string
		warning time.Duration
		mail    Mail
		outcome Outcome // of another message of the domain
		age     time.Duration
		want    Kind
		reason  Reason
		claimed bool
	}{
		{"not delayed", hour, Mail{}, unreached, hour - 1, 0, Reason{}, false},
		{"delayed by a host that is down", hour, Mail{}, unreached, hour, DelayNotice, down, true},
		{"delayed by a policy", hour, Mail{}, unsafe_, hour, DelayNotice, policy, true},
		{"nobody is warned", 0, Mail{}, unreached, 3 * hour, 0, Reason{}, false},
		{"no sender", hour, Mail{NoSender: true}, unreached, hour, 0, Reason{}, false},
		{"generated", hour, Mail{Priority: Priority{Generated: true}}, unreached, hour, 0, Reason{}, false},
		{"free of the policy: it is tried", hour, Mail{Priority: Priority{PolicyFree: true}}, unsafe_, hour, Attempt, Reason{}, true},
		{"free of policies, a host is down", hour, Mail{Priority: Priority{PolicyFree: true}}, unreached, hour, DelayNotice, down, true},
		{"after the back-off: the probe", hour, Mail{}, unreached, 10 * hour, Attempt, Reason{}, true},
		{"expired", hour, Mail{}, unreached, 5 * hour, Attempt, Reason{}, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			expire := 100 * hour
			if row.name == "expired" {
				expire = 5 * hour
			}
			w := newWorld(t, Options{Schedule: Schedule{Retry: []time.Duration{10 * hour}, Expire: expire, DelayWarning: row.warning}})
			other := w.mail("a.test")
			first := w.claim()
			e := w.accept(row.mail, "a.test")
			w.end(first, row.outcome)
			w.ok(w.Hold(other, w.now)) // it is no matter here
			w.advance(row.age)
			c, _ := w.Next(w.now)
			if (c.Group != nil) != row.claimed {
				t.Fatalf("claimed: %+v", c)
			}
			if !row.claimed {
				return
			}
			if c.Group.Entry != e || c.Kind != row.want || c.BackoffReason != row.reason {
				t.Errorf("%+v", c)
			}
			if counted := w.Claims() == 1; counted != (row.want == Attempt) {
				t.Errorf("%d claims count", w.Claims())
			}
		})
	}
}

// A sender is warned once, whether it is written down or nobody wants to know.
func TestASenderIsWarnedOnce(t *testing.T) {
	for _, record := range []bool{true, false} {
		w := newWorld(t, Options{Schedule: Schedule{Retry: []time.Duration{10 * hour}, DelayWarning: hour}})
		w.mail("a.test")
		first := w.claim()
		e := w.mail("a.test")
		w.end(first, Outcome{Left: 1, Backoff: unreached.Backoff, DelayNotified: true})
		w.advance(2 * hour)
		c := w.claim()
		w.ok(w.FinishNotice(c.Group, record, w.now))
		if record {
			w.ok(w.Recorded(c.Group, w.now))
		}
		if g := &e.Groups[0]; !g.DelayNotified || g.Priority.Delayed || g.Attempts != 0 || g.State() != Waiting {
			t.Errorf("recorded %t: %+v", record, g)
		}
		w.nothing("a second time")
		w.SetSchedule(Schedule{Retry: []time.Duration{10 * hour}, DelayWarning: 2 * hour}, w.now) // begins anew
		w.nothing("after another age was set")
		w.advance(8 * hour)
		if c := w.claim(); c.Kind != Attempt {
			t.Errorf("the probe is a claim of kind %d", c.Kind)
		}
	}
}

// Nothing but the age wakes: the time of it is known.
func TestTheAgeWakes(t *testing.T) {
	w := newWorld(t, Options{Schedule: Schedule{Retry: []time.Duration{10 * hour}, DelayWarning: hour}})
	w.mail("a.test")
	first := w.claim()
	w.advance(time.Minute)
	e := w.mail("a.test")
	w.end(first, Outcome{Left: 1, Backoff: unreached.Backoff, DelayNotified: true})
	if wakeAt := w.nothing("before"); wakeAt != e.ReceivedAt.Add(hour-time.Minute) {
		t.Errorf("wakes in %s", wakeAt.Sub(w.now))
	}
	w.advance(hour - time.Minute) // of the first, whose sender knows
	if wakeAt := w.nothing("of the first"); wakeAt != e.ReceivedAt.Add(hour) {
		t.Errorf("wakes in %s", wakeAt.Sub(w.now))
	}
}

package scheduler

import (
	"testing"
	"time"
)

// A domain that fails as a whole waits, and one group goes first after that.
func TestABackoffEndsWithAProbe(t *testing.T) {
	w := newWorld(t, Options{Schedule: Schedule{Retry: []time.Duration{time.Minute, 10 * time.Minute}}})
	for range 5 {
		w.mail("a.test")
	}
	one, two := w.claim(), w.claim()
	w.end(one, unreached)
	w.end(two, unreached) // of the same time: it is the same failure
	d := w.Domain("a.test")
	if b, step := d.Backoff(); step != 1 || b != unreached.Backoff {
		t.Errorf("step %d, %+v", step, b)
	}
	waits := d.first // the last to join
	began := w.now
	if why, since := waits.Backoff(); waits.StartsAt() != w.now.Add(time.Minute) || why != unreached.Backoff.Reason || since != began {
		t.Errorf("it starts in %s for %v since %d", waits.StartsAt().Sub(w.now), why, since)
	}
	if wakeAt := w.nothing("during the back-off"); wakeAt != w.now.Add(time.Minute) {
		t.Errorf("wakes in %s", wakeAt.Sub(w.now))
	}
	w.advance(time.Minute)
	probe := w.claim()
	w.nothing("beside the probe")
	w.end(probe, unreached)
	if _, step := d.Backoff(); step != 2 {
		t.Errorf("step %d after the probe", step)
	}
	if _, since := waits.Backoff(); since != began {
		t.Errorf("in back-off since %s after it began", since.Sub(began))
	}
	w.advance(10 * time.Minute)
	w.end(w.claim(), putOff) // a host took part
	if _, step := d.Backoff(); step != 0 {
		t.Errorf("step %d after a transaction", step)
	}
	// From one place on, the domain has twice as many after each that goes through.
	w.claim()
	if d.limit != 2 {
		t.Errorf("%d places", d.limit)
	}
}

// What a back-off holds, and what ends it, depends on what it is about.
func TestABackoffHoldsWhatItIsAbout(t *testing.T) {
	user, free, report, notice := Priority{}, Priority{PolicyFree: true}, Priority{Generated: true, PolicyFree: true}, Priority{Generated: true}
	for _, row := range []struct {
		name    string
		outcome Outcome
		mail    Priority
		holds   bool
		ends    bool // a delivery of the mail ends it
	}{
		{"a host that is down, user", unreached, user, true, true},
		{"a host that is down, free", unreached, free, true, true},
		{"a host that is down, report", unreached, report, true, true},
		{"a host that is down, notice", unreached, notice, true, true},
		{"a policy, user", unsafe_, user, true, true},
		{"a policy, free", unsafe_, free, false, false},
		{"a policy, report", unsafe_, report, false, false},
		{"a policy, notice", unsafe_, notice, true, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, Options{})
			w.mail("a.test")
			first := w.claim()
			e := w.accept(Mail{Priority: row.mail}, "a.test")
			w.end(first, row.outcome)
			if why, _ := e.Groups[0].Backoff(); (why != Reason{}) != row.holds {
				t.Errorf("held for %v", why)
			}
			if row.holds {
				w.nothing("during the back-off")
				w.ok(w.RetryNow(e, w.now)) // the operator ends it
			}
			c := w.claim()
			if c.Group.Entry != e {
				t.Fatalf("message %d was claimed", c.Group.Entry.Seq)
			}
			w.end(c, delivered)
			if _, step := w.Domain("a.test").Backoff(); (step == 0) != row.ends {
				t.Errorf("step %d after its delivery", step)
			}
		})
	}
}

// A failure of mail that is exempt from a policy says nothing of what the policy
// binds, but a host that is down is so for all.
func TestAFailureOfExemptMail(t *testing.T) {
	for _, row := range []struct {
		name    string
		outcome Outcome
		step    int
		only    bool
	}{
		{"for a policy", unsafe_, 1, true},
		{"of all hosts", unreached, 2, false},
		{"put off by a host", putOff, 1, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, Options{})
			w.mail("a.test")
			first := w.claim()
			w.accept(Mail{Priority: Priority{PolicyFree: true}}, "a.test")
			w.end(first, unsafe_)
			w.end(w.claim(), row.outcome)
			if b, step := w.Domain("a.test").Backoff(); step != row.step || b.PolicyOnly != row.only {
				t.Errorf("step %d, for a policy only: %t", step, b.PolicyOnly)
			}
		})
	}
}

// What is expired when a back-off begins does not wait for its end.
func TestABackoffDoesNotHoldWhatIsExpired(t *testing.T) {
	w := newWorld(t, Options{Schedule: Schedule{Retry: []time.Duration{10 * hour}, Expire: hour}})
	for range 2 {
		w.mail("a.test")
	}
	w.advance(hour)
	w.end(w.claim(), unreached)
	c := w.claim()
	if !c.Expired || !c.Group.Priority.Expired || c.Kind != Attempt {
		t.Errorf("%+v", c)
	}
}

// A back-off is no longer than until the next retry in the domain.
func TestABackoffEndsByTheNextRetry(t *testing.T) {
	w := newWorld(t, Options{Schedule: Schedule{Retry: []time.Duration{hour}}})
	w.mail("a.test")
	w.end(w.claim(), Outcome{Left: 1, RetryAfter: time.Minute})
	w.mail("a.test")
	w.end(w.claim(), unreached)
	w.advance(time.Minute)
	w.claim()
}

// A domain has as many places as its hosts take, where that is known to be more.
func TestADomainGrowsToWhatItsHostsTake(t *testing.T) {
	w := newWorld(t, Options{Limits: Limits{Domain: 2}})
	for range 9 {
		w.mail("a.test")
	}
	d := w.Domain("a.test")
	for _, want := range []int{4, 5, 5} {
		w.end(w.claim(), Outcome{Delivered: true, Parallel: 5})
		if d.limit != want {
			t.Errorf("%d places, want %d", d.limit, want)
		}
	}
	w.SetLimits(Limits{Domain: 1})
	if d.limit != 1 {
		t.Errorf("%d places after a lower limit", d.limit)
	}
}

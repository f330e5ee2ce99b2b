package scheduler

import (
	"fmt"
	"testing"
	"time"
)

// A domain that fails as a whole loses its place, and a delivery wins it back.
func TestWhatADomainProvesIsForgotten(t *testing.T) {
	w := newWorld(t, Options{Limits: Limits{Claims: 3}, Schedule: Schedule{Retry: []time.Duration{time.Minute}, Expire: 100 * hour}})
	is := func(want bool, when string) {
		t.Helper()
		if got := w.proven.holds("a.test", w.now); got != want {
			t.Errorf("%s: %t", when, got)
		}
	}
	is(false, "at first")
	w.mail("a.test")
	w.mail("a.test")
	w.end(w.claim(), putOff)
	is(false, "after a deferral")
	w.end(w.claim(), delivered)
	is(true, "after a delivery")
	w.advance(2 * time.Minute)
	w.end(w.claim(), unreached)
	is(false, "after a failure of all hosts")
	w.advance(2 * time.Minute)
	w.end(w.claim(), delivered)
	is(true, "after another delivery")
	w.advance(provenTime)
	is(false, "after a day")
	if n := w.claims.unproven; n != 0 {
		t.Errorf("%d claims are counted", n)
	}
}

func TestWhatIsProvenIsBounded(t *testing.T) {
	var p proven
	for i := range 3 * maxProven {
		p.add(fmt.Sprintf("d%d.test", i), Time(i)*Time(time.Millisecond))
	}
	if len(p.since) > maxProven || !p.holds(fmt.Sprintf("d%d.test", 3*maxProven-1), Time(time.Minute)) {
		t.Errorf("%d are remembered", len(p.since))
	}
	p = proven{}
	for i := range maxProven + 1 { // all at one time
		p.add(fmt.Sprintf("d%d.test", i), 0)
	}
	if len(p.since) > maxProven {
		t.Errorf("%d are remembered", len(p.since))
	}
}

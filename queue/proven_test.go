package queue

import (
	"fmt"
	"testing"
	"time"
)

// A stranger can make this relay send mail to very many silent hosts. Whatever
// they hold, mail for a domain that took some lately is claimed at once.
func TestSilentDomainsLeaveRoomForThoseThatTakeMail(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{ClaimLimit: 9})
	b.accept("x", to("a@good.test"))
	b.finish(b.claim(), Delivered)
	for i := range 30 {
		b.accept("x", to(fmt.Sprintf("a@silent%d.test", i)))
	}
	var silent []*Claim
	for w := b.try(); w != nil; w = b.try() {
		silent = append(silent, w)
	}
	if len(silent) != 6 {
		t.Fatalf("%d claims of silent domains, want two thirds of 9", len(silent))
	}
	for range 3 {
		b.accept("x", to("a@good.test"))
	}
	var good []*Claim
	for range 3 {
		w := b.claim()
		if w.Domain != "good.test" {
			t.Fatalf("%s was claimed", w.Domain)
		}
		good = append(good, w)
	}
	b.nothing("at the limit")
	b.finish(good[0], Delivered)
	b.nothing("in a place for domains that take mail")
	b.fail(silent[0])
	if w := b.claim(); w.Domain == "good.test" {
		t.Error("the others have no turn")
	}
}

// A domain that becomes proven while it waits for its turn is not left behind.
func TestADomainChangesTheRing(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{ClaimLimit: 3})
	for range 3 {
		b.accept("x", to("u@a.test"))
	}
	first := b.claim() // the others wait, not proven
	b.accept("x", to("u@silent.test"))
	b.finish(first, Delivered)
	seen := map[string]int{}
	for w := b.try(); w != nil; w = b.try() {
		seen[w.Domain]++
	}
	if seen["a.test"] != 2 || seen["silent.test"] != 1 {
		t.Errorf("%v", seen)
	}
}

// A new domain does not wait behind very many silent ones, and neither do those
// that failed keep it from its turn.
func TestANewDomainDoesNotWaitBehindSilentOnes(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{ClaimLimit: 9, Schedule: Schedule{Retry: []time.Duration{time.Second}}})
	for i := range 300 {
		b.accept("x", to(fmt.Sprintf("a@silent%d.test", i)))
	}
	claims := func() (works []*Claim) {
		for w := b.try(); w != nil; w = b.try() {
			works = append(works, w)
		}
		return works
	}
	for round := range 4 {
		works := claims()
		if len(works) != 6 {
			t.Fatalf("%d claims", len(works))
		}
		if !b.PlacesShort() {
			t.Fatal("places are not short")
		}
		name := fmt.Sprintf("new%d.test", round)
		b.accept("x", to("a@"+name))
		for _, w := range works { // and those before are due again
			b.fail(w)
		}
		b.advance(2 * time.Second)
		found := false
		works = claims()
		for _, w := range works {
			found = found || w.Domain == name
		}
		if !found {
			t.Errorf("round %d: the new domain is not among the next six", round)
		}
		for _, w := range works {
			b.fail(w)
		}
		b.advance(2 * time.Second)
	}
}

// Nothing is short where nothing waits, or nothing may be claimed at all.
func TestPlacesAreShort(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{ClaimLimit: 9})
	is := func(want bool, when string) {
		t.Helper()
		if got := b.PlacesShort(); got != want {
			t.Errorf("%s: %t", when, got)
		}
	}
	is(false, "with an empty queue")
	b.accept("x", to("a@good.test"))
	b.finish(b.claim(), Delivered)
	var works []*Claim
	for i := range 6 {
		b.accept("x", to(fmt.Sprintf("a@silent%d.test", i)))
		works = append(works, b.claim())
	}
	is(false, "while nothing waits")
	b.accept("x", to("a@good.test"))
	is(false, "while a place is left for what waits")
	b.claim()
	b.accept("x", to("a@silent7.test"))
	is(true, "while a domain waits that is not proven")
	b.SetPaused(true)
	is(false, "while delivery is paused")
	b.SetPaused(false)
	b.fail(works[0])
	b.claim()
	is(false, "after the last one was claimed")
}

// A claim that was given back, and one whose recipients were not tried, leave no
// trace.
func TestWhatWasNotTriedStaysAsItWas(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	id := b.accept("x", to("a@x.test", "b@x.test"))
	w := b.claim()
	b.Finish(w, Outcome{Results: []RecipientState{{State: Delivered}, {}}, RetryAfter: time.Millisecond})
	b.sync()
	b.advance(time.Second)
	b.crash()
	m, err := b.Show(id)
	if err != nil {
		t.Fatal(err)
	}
	if r := m.States[1]; r.State != Queued || r.Attempts != 0 || r.LastError != "" {
		t.Errorf("%+v", r)
	}
	b.advance(time.Second)
	w = b.claim()
	if len(w.Recipients) != 1 || w.Recipients[0] != 1 {
		t.Errorf("recipients %v", w.Recipients)
	}
}

// After a crash mail counts as perhaps delivered only if its content was going out.
func TestAClaimWithoutContentIsNoDelivery(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	b.accept("x", to("a@x.test"))
	b.claim()
	b.sync()
	b.crash()
	if b.logs.has("may have been delivered") {
		t.Errorf("logged: %s", b.logs.buf.String())
	}
	b.claim() // at once
}

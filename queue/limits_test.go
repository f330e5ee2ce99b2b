package queue

import (
	"errors"
	"testing"
)

func TestLimitsChangeWhileTheQueueIsOpen(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{DomainLimit: 3, ClaimLimit: 4, MaxMessages: 9})
	for range 6 {
		b.accept("x", to("a@x.test"))
	}
	for range 3 {
		b.accept("x", to("a@y.test"))
	}
	w := []*Claim{b.claim(), b.claim(), b.claim(), b.claim()}
	b.nothing("beyond the limit of claims")
	if err := b.Accepting(); !errors.Is(err, ErrFull) {
		t.Errorf("a full queue: %v", err)
	}

	b.SetLimits(Limits{Domain: 1, Claims: 2, Messages: 20})
	if err := b.Accepting(); err != nil {
		t.Errorf("a longer queue: %v", err)
	}
	for i, done := range w {
		if left := len(w) - i; left >= 2 {
			b.nothing("beyond lower limits")
		}
		b.finish(done, Delivered)
	}
	first, second := b.claim(), b.claim()
	if first.Domain == second.Domain {
		t.Errorf("two claims of %s, where one is allowed", first.Domain)
	}
	b.nothing("beyond lower limits")

	b.SetLimits(Limits{Domain: 2, Claims: 10, Messages: 20})
	b.nothing("before a group has gone through")
	if first.Domain != "x.test" { // the one that has more
		first = second
	}
	b.finish(first, Delivered)
	b.claim()
	b.claim()
}

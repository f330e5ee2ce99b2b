package queue

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stsrelay/stsrelay/internal/store"
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

// What may come twice after a crash is bounded by the claims, and a claim ends
// when its result is durable.
func TestNoMoreUnitsAreClaimedThanTheLimitUntilTheirResultsAreWritten(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{ClaimLimit: 2, DomainLimit: 1})
	for i := range 4 {
		b.accept("body", to(fmt.Sprintf("x@d%d.test", i)))
	}
	b.accept("body", to("y@d0.test"))
	w, _ := b.claim(), b.claim()
	b.nothing("beyond the limit")
	if b.ClaimFor("d3.test") != nil {
		t.Error("ClaimFor claimed beyond the limit")
	}
	release := blockCommits(b)
	b.Finish(w, Outcome{Results: all(w, Delivered)})
	if b.ClaimFor("d3.test") != nil || b.ClaimFor(w.Domain) != nil {
		t.Error("a group was claimed before the result of another was written")
	}
	release()
	b.claim()
	b.nothing("beyond the limit")
}

// blockCommits keeps the committer from going on.
func blockCommits(b *bench) (release func()) {
	gate := make(chan struct{})
	began := make(chan struct{})
	var batch store.Batch
	batch.Precondition(func() error {
		close(began)
		<-gate
		return nil
	})
	b.st.Submit(&batch, nil)
	<-began
	return func() { close(gate) }
}

package queue

import (
	"testing"
	"time"
)

func TestTheOldestMessageIsOneThatWaitsForItsDelivery(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	if age := b.Oldest(); age != 0 {
		t.Errorf("in an empty queue: %s", age)
	}
	old := b.accept("x", to("a@x.test"))
	b.now = b.now.Add(time.Hour)
	b.restart() // the queue's own clock knows nothing of the hour
	b.accept("x", to("b@y.test"))
	if age := b.Oldest(); age < time.Hour || age > 2*time.Hour {
		t.Errorf("an hour after the first: %s", age)
	}
	b.touched(1)(b.Hold(t.Context(), Filter{IDs: []ID{old}}, "suspicious"))
	if age := b.Oldest(); age <= 0 || age >= time.Hour {
		t.Errorf("with the first one held: %s", age)
	}
}

func TestAGroupIsActiveUntilItsResultIsDurable(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	b.accept("x", to("a@x.test", "b@y.test"))
	w := b.claim()
	if n := b.Active(); n != 1 {
		t.Errorf("%d groups active, one was claimed", n)
	}
	b.finish(w, Delivered)
	b.sync()
	if n := b.Active(); n != 0 {
		t.Errorf("%d groups active after the result", n)
	}
}

func TestTheSummaryCountsRecipientsByAge(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	b.accept("x", to("a@x.test", "b@x.test")) // is 24 hours old in the end
	b.advance(22*time.Hour + 30*time.Minute)
	b.accept("x", to("a@x.test"))
	b.advance(85 * time.Minute)
	b.accept("x", to("a@x.test"))
	b.advance(5 * time.Minute)
	b.accept("x", to("a@x.test", "a@y.test"))
	got := b.Summary()
	if got[0].Ages != (Ages{0: 1, 1: 1, 5: 1, 9: 2}) || got[1].Ages != (Ages{0: 1}) {
		t.Errorf("%v and %v", got[0].Ages, got[1].Ages)
	}
	if bounds := AgeBounds(); bounds[0] != 5*time.Minute || bounds[8] != 1280*time.Minute || len(bounds) != 9 {
		t.Errorf("%v", bounds)
	}
}

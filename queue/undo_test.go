package queue

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestABounceCanBeUndoneUntilItsTimeComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBenchOn(t, inMemory(), Options{BounceDelay: time.Minute})
		var n notices
		one, two := b.accept("x", to("a@x.test")), b.accept("y", to("b@y.test"))
		b.touched(2)(b.Bounce(t.Context(), Filter{}, "by mistake", n.make))
		b.nothing("before the bounce")
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if got := n.about(); len(got) != 0 {
			t.Fatalf("notices about %v", got)
		}
		if got := b.UndoBounces(); got != 2 {
			t.Errorf("%d were undone", got)
		}
		if got := b.UndoBounces(); got != 0 {
			t.Errorf("%d were undone again", got)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := b.ids(Filter{}); !slices.Equal(got, []ID{one, two}) || len(n.about()) != 0 {
			t.Errorf("%v are left, notices about %v", got, n.about())
		}
		b.Release(b.claim())
		if !b.logs.has("a bounce was undone by the operator") {
			t.Error("the log does not say so")
		}

		b.touched(1)(b.Bounce(t.Context(), Filter{Domain: "y.test"}, "", n.make))
		time.Sleep(61 * time.Second)
		synctest.Wait()
		if got := n.about(); !slices.Equal(got, []string{"b@y.test"}) {
			t.Errorf("after a minute, notices about %v", got)
		}
		if got := b.UndoBounces(); got != 0 {
			t.Errorf("%d were undone that are bounced", got)
		}
	})
}

func TestAMessageThatIsRemovedIsNotBouncedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBenchOn(t, inMemory(), Options{BounceDelay: time.Minute})
		var n notices
		b.accept("x", to("a@x.test"))
		b.touched(1)(b.Bounce(t.Context(), Filter{}, "", n.make))
		b.touched(1)(b.Remove(t.Context(), Filter{}))
		if got := b.UndoBounces(); got != 0 {
			t.Errorf("%d were undone", got)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := n.about(); len(got) != 0 {
			t.Errorf("notices about %v", got)
		}
	})
}

// What is to be bounced has no next attempt, and a retry does not touch it, until the bounce is
// undone.
func TestWhatIsToBeBouncedIsNotTriedNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBenchOn(t, inMemory(), Options{BounceDelay: time.Minute})
		id := b.accept("x", to("a@x.test", "b@y.test"))
		b.touched(1)(b.Bounce(t.Context(), Filter{Domain: "x.test"}, "", none))
		if w := b.show(id).Waits; !w[0].NextAttemptAt.IsZero() || w[1].NextAttemptAt.IsZero() {
			t.Errorf("the next attempts: %+v", w)
		}
		b.touched(1)(b.Retry(t.Context(), Filter{}))
		b.touched(1)(b.Bounce(t.Context(), Filter{}, "", none))
		b.touched(0)(b.Retry(t.Context(), Filter{}))
		b.UndoBounces()
		b.touched(1)(b.Retry(t.Context(), Filter{}))
		if at := b.show(id).NextAttemptAt; at.IsZero() {
			t.Error("there is no next attempt after the undo")
		}
	})
}

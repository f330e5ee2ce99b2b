package scheduler

import (
	"slices"
	"testing"
	"time"
)

// What the operator does meets groups in every state of a claim.
func TestWhatTheOperatorDoesToAClaimedGroup(t *testing.T) {
	for _, row := range []struct {
		name    string
		operate func(*world, *Entry)
		release State // after the claim was given back
		putOff  State // after results that leave a recipient
	}{
		{"nothing", func(*world, *Entry) {}, Waiting, Waiting},
		{"hold", func(w *world, e *Entry) { w.ok(w.Hold(e, w.now)) }, Held, Held},
		{"hold and release", func(w *world, e *Entry) { w.ok(w.Hold(e, w.now)); w.ok(w.Unhold(e, w.now)) }, Waiting, Waiting},
		{"cancel", func(w *world, e *Entry) { w.ok(w.Cancel(&e.Groups[0], w.now)) }, Canceled, Canceled},
		{"cancel what is held", func(w *world, e *Entry) {
			w.ok(w.Hold(e, w.now))
			w.ok(w.Cancel(&e.Groups[0], w.now))
		}, Canceled, Canceled},
		{"cancel and take it back, held", func(w *world, e *Entry) {
			w.ok(w.Cancel(&e.Groups[0], w.now))
			w.ok(w.Hold(e, w.now))
			w.ok(w.Uncancel(&e.Groups[0], w.now))
		}, Held, Held},
		{"remove", func(w *world, e *Entry) { w.ok(w.Remove(e, w.now)) }, Done, Done},
		{"retry", func(w *world, e *Entry) { w.ok(w.RetryNow(e, w.now)) }, Waiting, Waiting},
	} {
		for _, when := range []string{"release", "before the results", "before they are recorded"} {
			t.Run(row.name+", "+when, func(t *testing.T) {
				w := newWorld(t, Options{})
				e := w.mail("a.test", "b.test")
				c := w.claim()
				g := &e.Groups[0]
				if c.Group != g {
					t.Fatal("the other group was claimed")
				}
				want := row.putOff
				switch when {
				case "release":
					row.operate(w, e)
					w.ok(w.Release(g, w.now))
					want = row.release
				case "before the results":
					row.operate(w, e)
					w.ok(w.Finish(g, putOff, w.now))
					w.ok(w.Recorded(g, w.now))
				default:
					w.ok(w.Finish(g, putOff, w.now))
					row.operate(w, e)
					w.ok(w.Recorded(g, w.now))
				}
				if g.State() != want || e.Busy() {
					t.Errorf("it is %s, want %s", g.State(), want)
				}
				if want == Canceled {
					w.ok(w.End(g, w.now))
					if e.Left != 1 || w.Counts().Recipients != 1 {
						t.Errorf("%d groups left, %+v", e.Left, w.Counts())
					}
				}
			})
		}
	}
}

func TestWhatIsCanceledIsNotClaimed(t *testing.T) {
	w := newWorld(t, Options{})
	e := w.mail("a.test")
	g := &e.Groups[0]
	w.ok(w.Cancel(g, w.now))
	w.ok(w.Cancel(g, w.now)) // twice is once
	w.nothing("of what is canceled")
	w.ok(w.RetryNow(e, w.now))
	w.nothing("of what is canceled and retried")
	w.ok(w.Uncancel(g, w.now))
	w.end(w.claim(), delivered)
	w.refused(w.End(g, w.now))
}

func TestAHeldMessageIsNotTried(t *testing.T) {
	w := newWorld(t, Options{})
	e := w.mail("a.test", "b.test")
	w.ok(w.Hold(e, w.now))
	w.ok(w.Hold(e, w.now))
	if w.Counts() != (Counts{Messages: 1, Recipients: 2, Held: 1}) {
		t.Errorf("%+v", w.Counts())
	}
	w.nothing("while it is held")
	w.ok(w.RetryNow(e, w.now))
	w.nothing("while it is held")
	w.ok(w.Unhold(e, w.now))
	w.ok(w.Unhold(e, w.now))
	w.claim()
	w.claim()
	w.ok(w.Remove(e, w.now))
	w.ok(w.Remove(e, w.now))
	w.ok(w.Hold(e, w.now)) // it is gone
	if w.Counts() != (Counts{}) || w.First() != nil {
		t.Errorf("%+v", w.Counts())
	}
}

// A message that was tried before goes on where it stood.
func TestWhatWasSavedIsRestored(t *testing.T) {
	w := newWorld(t, Options{Schedule: Schedule{Retry: []time.Duration{10 * time.Minute}, DelayWarning: time.Minute}})
	w.seqs++
	e := &Entry{Seq: w.seqs}
	w.Enter(e)
	domains := []string{"tried.test", "done.test", "new.test", "held.test"}
	w.Accept(e, Mail{ReceivedAt: w.now.Add(-hour)}, 4, func(i int) (string, int) { return domains[i], 3 })
	tried := &e.Groups[0]
	w.ok(w.Restore(tried, Saved{Attempts: 2, Left: 1, Due: w.now.Add(hour), DelayNotified: true, Reason: putOff.Reason}))
	w.ok(w.Restore(&e.Groups[1], Saved{Attempts: 1}))
	w.SetDue(&e.Groups[3], w.now.Add(2*hour), w.now)
	w.ok(w.Start(e, w.now))
	w.refused(w.Restore(tried, Saved{Attempts: 3, Left: 1}))
	if w.Counts() != (Counts{Messages: 1, Recipients: 7}) || e.Left != 3 || w.Domain("done.test") != nil {
		t.Errorf("%+v, %d left", w.Counts(), e.Left)
	}
	if tried.Attempts != 2 || tried.Recipients != 1 || !tried.DelayNotified || tried.Domain.Last != putOff.Reason {
		t.Errorf("%+v", tried)
	}
	if c := w.claim(); c.Group != &e.Groups[2] || c.Age != hour {
		t.Errorf("claimed %s, %s old", c.Group.Domain.Name, c.Age)
	}
	if wakeAt := w.nothing("else"); wakeAt != w.now.Add(hour) {
		t.Errorf("wakes in %s", wakeAt.Sub(w.now))
	}
}

// The list has what is coming in too, and the domains list what waits.
func TestMessagesAreListedByNumber(t *testing.T) {
	w := newWorld(t, Options{})
	one := w.mail("a.test", "b.test", "a.test")
	open := &Entry{Seq: 7}
	w.seqs = 7
	w.Enter(open)
	two := w.mail("a.test")
	var got []*Entry
	for e := w.First(); e != nil; e = e.Next() {
		got = append(got, e)
	}
	if !slices.Equal(got, []*Entry{one, open, two}) {
		t.Errorf("%v", got)
	}
	var groups []*Group
	for g := range w.Domain("a.test").Groups() {
		groups = append(groups, g)
	}
	if !slices.Equal(groups, []*Group{&two.Groups[0], &one.Groups[2], &one.Groups[0]}) || w.Domain("a.test").Len() != 3 {
		t.Errorf("%v", groups)
	}
	w.ok(w.Remove(open, w.now)) // it was never accepted
	if w.Counts() != (Counts{Messages: 2, Recipients: 4}) {
		t.Errorf("%+v", w.Counts())
	}
	before := one.Changes()
	w.end(w.claim(), putOff)
	if got := one.Changes() - before; got != 1 {
		t.Errorf("an attempt is %d changes", got)
	}
}

package queue

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/queue/scheduler"
)

func TestAfterACrashWhatWasInFlightWaitsAndIsLogged(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		tried bool // once before the crash, so that there is a record
	}{{"a first attempt", false}, {"a second attempt", true}} {
		t.Run(row.name, func(t *testing.T) {
			b := newBench(t, Options{})
			id := b.accept("x", to("a@x.test"))
			if row.tried {
				b.finish(b.claim(), Queued)
				b.advance(2 * time.Minute)
			}
			b.claim().Sending()
			b.sync()
			b.accept("y", to("a@y.test"))
			b.crash()
			if !b.logs.has("it may have been delivered") || !b.logs.has(id.String()) {
				t.Error("nothing was logged")
			}
			if w := b.claim(); w.Domain != "y.test" {
				t.Errorf("%s was claimed first", w.Domain)
			}
			b.advance(47 * time.Second)
			b.nothing("before the back-off is over")
			b.advance(26 * time.Second)
			b.claim()
		})
	}
}

func TestAMarkWhoseResultWasWrittenIsNoWarning(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		end  func(*bench, *Claim)
	}{
		{"put off", func(b *bench, w *Claim) { b.finish(w, Queued) }},
		{"delivered", func(b *bench, w *Claim) { b.finish(w, Delivered) }},
		{"given back", func(b *bench, w *Claim) { b.Release(w); b.sync() }},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := newBench(t, Options{})
			b.accept("x", to("a@x.test"))
			w := b.claim()
			w.Sending()
			b.sync()
			row.end(b, w)
			b.crash()
			if b.logs.has("may have been delivered") {
				t.Errorf("logged: %s", b.logs.buf.String())
			}
		})
	}
}

func TestOverdueRetriesAreSpreadAfterAStart(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{DomainLimit: 1000, Schedule: Schedule{Retry: []time.Duration{time.Minute}}})
	const n = 200
	for range n {
		b.accept("x", to("a@x.test"))
	}
	for range n {
		b.Finish(b.claim(), Outcome{Results: []RecipientState{{State: Queued}}})
	}
	b.sync()
	b.step(time.Hour)
	b.restart()
	var due []scheduler.Time
	for e := b.scheduler.First(); e != nil; e = e.Next() {
		due = append(due, e.Groups[0].Due)
	}
	if spread := slices.Max(due).Sub(slices.Min(due)); spread < n*overduePace/2 || spread > n*overduePace {
		t.Errorf("%d retries over %v", n, spread)
	}
	b.advance(n * overduePace)
	claimed := 0
	for w := b.try(); w != nil; w = b.try() {
		claimed++
	}
	if claimed != n {
		t.Errorf("%d of %d were due in the end", claimed, n)
	}
}

func TestTheWallClockMayStepWithoutForgettingOrHammering(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name    string
		step    time.Duration
		restart bool
		due     time.Duration // at the latest
	}{
		{"back an hour", -time.Hour, false, 73 * time.Second},
		{"back an hour, then a start", -time.Hour, true, 73 * time.Second},
		{"forward a day", 24 * time.Hour, false, 73 * time.Second},
		{"forward a day, then a start", 24 * time.Hour, true, time.Second},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := newBench(t, Options{})
			id := b.accept("x", to("a@x.test"))
			b.finish(b.claim(), Queued)
			b.step(row.step)
			if row.restart {
				b.restart()
			} else {
				b.nothing("right after the step")
			}
			if next := b.show(id).NextAttemptAt.Sub(b.o.Now()); next < -time.Second || next > row.due {
				t.Errorf("next attempt in %v", next)
			}
			b.advance(row.due)
			w := b.claim()
			if w.Age < 0 || w.Expired {
				t.Errorf("age %v, expired %v", w.Age, w.Expired)
			}
			b.finish(w, Queued)
			b.nothing("in a loop")
		})
	}
}

// Within one run expiry goes by elapsed time, whatever the wall clock does.
func TestAStepOfTheWallClockExpiresNothing(t *testing.T) {
	t.Parallel()
	schedule := Schedule{Retry: []time.Duration{time.Hour}, Expire: 12 * time.Hour}
	for _, step := range []time.Duration{-time.Hour, 24 * time.Hour} {
		b := newBench(t, Options{Schedule: schedule})
		b.accept("x", to("a@x.test"))
		b.finish(b.claim(), Queued)
		b.step(step)
		b.advance(2 * time.Hour)
		w := b.claim()
		if w.Expired || w.Age < 2*time.Hour || w.Age > 2*time.Hour+time.Minute {
			t.Errorf("step %v: age %v, expired %v after two hours", step, w.Age, w.Expired)
		}
		b.finish(w, Queued)
		b.advance(10 * time.Hour)
		if w := b.claim(); !w.Expired {
			t.Errorf("step %v: it is not expired after twelve hours", step)
		}
	}
}

func TestAMessageThatComesBackFromBelowTheLowWaterMarkIsHeld(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	ghost := b.accept("ghost", to("a@x.test", "b@x.test"))
	seq := b.byID[ghost].Seq
	envelope, _ := store.Get(b.st, messageKey(seq))
	chunk, _ := store.Get(b.st, bodyKey(seq, 0))
	w := b.claim()
	b.Finish(w, Outcome{Results: []RecipientState{{State: Delivered}, {State: Queued}}})
	b.sync()
	record, _ := store.Get(b.st, groupKey(seq, 0))
	b.touched(1)(b.Retry(t.Context(), Filter{}))
	b.finish(b.claim(), Delivered)
	b.accept("live", to("a@x.test"))
	b.writeLow()
	var back store.Batch
	back.Set(messageKey(seq), envelope)
	back.Set(groupKey(seq, 0), record)
	back.Set(bodyKey(seq, 0), chunk)
	if err := store.Commit(t.Context(), b.st, &back); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		b.restart()
		b.sync() // the reason is written after the start
		m := b.show(ghost)
		if m.State != Held || !strings.Contains(m.HeldFor, "low-water") || !b.logs.has("has come back") {
			t.Errorf("%s, %q", m.State, m.HeldFor)
		}
		if m.States[0].State != Delivered {
			t.Errorf("its delivered recipient is %s", m.States[0].State)
		}
	}
	if w := b.claim(); w.Envelope.ID == ghost {
		t.Error("it was claimed")
	}
	b.nothing("of the ghost")
	b.touched(1)(b.Remove(t.Context(), Filter{IDs: []ID{ghost}}))
	b.restart()
	if got := b.ids(Filter{}); len(got) != 1 || got[0] == ghost {
		t.Errorf("queue %v", got)
	}
}

func TestTheLowWaterMarkNeverPassesAMessageThatIsComingIn(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	in, _ := b.Begin()
	for range 3 {
		b.accept("x", to("a@x.test"))
		b.finish(b.claim(), Delivered)
	}
	b.writeLow()
	if _, err := in.Write([]byte("slow")); err != nil {
		t.Fatal(err)
	}
	if err := in.Commit(t.Context(), to("a@x.test")); err != nil {
		t.Fatal(err)
	}
	b.restart()
	if m := b.show(in.ID()); m.State != Queued {
		t.Errorf("it is %s: %s", m.State, m.HeldFor)
	}
}

func TestADamagedRecordIsLoggedAndKeepsNothingElseFromItsWay(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	bad := b.accept("bad", to("a@x.test"))
	good := b.accept("good", to("a@x.test"))
	seq := b.byID[bad].Seq
	b.spoil(bad)
	w := b.claim()
	if w.Envelope.ID != good || !b.logs.has("it is held") {
		t.Errorf("claimed %s", w.Envelope.ID)
	}
	b.Release(w)
	b.restart()
	if got := b.ids(Filter{}); !slices.Equal(got, []ID{good}) || !b.logs.has("left where it is") {
		t.Errorf("queue %v", got)
	}
	b.finish(b.claim(), Delivered)
	b.accept("next", to("a@x.test"))
	b.writeLow()
	b.sweepOrphans(t.Context(), b.sequence.next)
	b.sync()
	if v, _ := store.Get(b.st, bodyKey(seq, 0)); string(v) != "bad" {
		t.Error("the body of the damaged message was swept")
	}
	if low, _ := store.Get(b.st, keyLow); low != nil && binary.BigEndian.Uint64(low) > seq {
		t.Errorf("the low-water mark %x passed the damaged message %x", low, seq)
	}
}

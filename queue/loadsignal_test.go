package queue

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
)

// A claim that ends because its message cannot be read makes room for another
// one, and whoever waits for that is told.
func TestAClaimThatCannotBeReadMakesRoomForTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBenchOn(t, inMemory(), Options{ClaimLimit: 1})
		bad := b.accept("bad", to("a@bad.test"))
		good := b.accept("good", to("a@good.test"))
		b.spoil(bad)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		w, err := b.Queue.Claim(ctx)
		if err != nil || w.Domain != "bad.test" {
			t.Fatalf("claimed %+v, %v", w, err)
		}
		next := make(chan *Claim, 1)
		go func() {
			w, _ := b.Queue.Claim(ctx)
			next <- w
		}()
		synctest.Wait() // it waits now
		if w.Load() {
			t.Fatal("it was read")
		}
		w = <-next
		if w == nil || !w.Load() || w.Envelope.ID != good {
			t.Fatalf("claimed %+v", w)
		}
		b.Release(w)
	})
}

// A message that an attempt could not read is shown as held when the results and
// the hold can be read, and not before: what is shown belongs together.
func TestAHoldIsShownWithTheResultsThatItFollowed(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	id := b.accept("bad", to("a@bad.test"))
	w := b.claim()
	begun, end := make(chan struct{}), make(chan struct{})
	var slow store.Batch
	slow.Update([]byte("q gate"), func([]byte) []byte { close(begun); <-end; return nil })
	b.st.Submit(&slow, nil)
	<-begun
	b.Finish(w, Outcome{Results: []RecipientState{{State: Queued, Attempts: 1, ReasonCode: "local"}}, Unreadable: errors.New("checksum mismatch")})
	if m := b.show(id); m.State != Active || m.HeldFor != "" {
		t.Errorf("before the commit: %s, held for %q", m.State, m.HeldFor)
	}
	close(end)
	b.sync()
	if m := b.show(id); m.State != Held || !m.Unreadable || m.HeldFor == "" || m.States[0].ReasonCode != "local" || m.Attempts != 1 {
		t.Errorf("after the commit: %+v", m)
	}
}

// A message that is found damaged is shown with the reason of its hold at once, also
// before the hold is written.
func TestAHoldOfADamagedMessageHasItsReasonAtOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	id := b.accept("bad", to("a@bad.test"))
	begun, end := make(chan struct{}), make(chan struct{})
	var slow store.Batch
	slow.Update([]byte("q gate"), func([]byte) []byte { close(begun); <-end; return nil })
	b.st.Submit(&slow, nil)
	<-begun
	b.Queue.holdDamaged([][]byte{bodyKey(b.byID[id].Seq, 0)})
	if m := b.show(id); m.State != Held || !m.Unreadable || m.HeldFor != unreadableReason {
		t.Errorf("before the commit: %s, held for %q", m.State, m.HeldFor)
	}
	close(end)
	b.sync()
	if m := b.show(id); m.State != Held || !strings.HasPrefix(m.HeldFor, unreadableReason+": ") {
		t.Errorf("after the commit: %s, held for %q", m.State, m.HeldFor)
	}
}

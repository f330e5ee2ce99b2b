package queue

import (
	"testing"

	"github.com/stsrelay/stsrelay/internal/store"
)

// What the operator has released stays so over restarts, also a message that had
// come back from below the low-water mark.
func TestAReleasedMessageThatHadComeBackIsNotHeldAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	ghost := b.accept("ghost", to("a@x.test"))
	seq := b.byID[ghost].Seq
	envelope, _ := store.Get(b.st, messageKey(seq))
	chunk, _ := store.Get(b.st, bodyKey(seq, 0))
	b.finish(b.claim(), Delivered)
	b.accept("live", to("b@y.test"))
	b.writeLow()
	var back store.Batch
	back.Set(messageKey(seq), envelope)
	back.Set(bodyKey(seq, 0), chunk)
	if err := store.Commit(t.Context(), b.st, &back); err != nil {
		t.Fatal(err)
	}
	b.restart()
	b.sync()
	b.touched(1)(b.Unhold(t.Context(), Filter{IDs: []ID{ghost}}))
	for range 2 {
		b.restart()
		b.sync()
		if m := b.show(ghost); m.State != Queued {
			t.Errorf("%s, %q", m.State, m.HeldFor)
		}
	}
	b.touched(1)(b.Hold(t.Context(), Filter{IDs: []ID{ghost}}, "again"))
	b.restart()
	if m := b.show(ghost); m.State != Held || m.HeldFor != "again" {
		t.Errorf("%s, %q", m.State, m.HeldFor)
	}
	b.touched(1)(b.Remove(t.Context(), Filter{IDs: []ID{ghost}}))
	b.sync()
	if hold, _ := store.Get(b.st, holdKey(seq)); hold != nil {
		t.Error("its hold is left in the store")
	}
}

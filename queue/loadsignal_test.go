package queue

import (
	"context"
	"testing"
	"time"
)

// A claim that ends because its message cannot be read makes room for another
// one, and whoever waits for that is told.
func TestAClaimThatCannotBeReadMakesRoomForTheNext(t *testing.T) {
	b := newBench(t, Options{ClaimLimit: 1})
	bad := b.accept("bad", to("a@bad.test"))
	good := b.accept("good", to("a@good.test"))
	if err := b.st.Put(t.Context(), messageKey(b.byID[bad].seq), []byte{0xff, 0x00}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	w, err := b.Queue.Claim(ctx)
	if err != nil || w.Domain != "bad.test" {
		t.Fatalf("claimed %+v, %v", w, err)
	}
	next := make(chan *Work, 1)
	go func() {
		w, _ := b.Queue.Claim(ctx)
		next <- w
	}()
	time.Sleep(100 * time.Millisecond) // it waits now
	if w.Load() {
		t.Fatal("it was read")
	}
	w = <-next
	if w == nil || !w.Load() || w.Envelope.ID != good {
		t.Fatalf("claimed %+v", w)
	}
	b.Release(w)
}

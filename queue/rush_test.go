package queue

import (
	"context"
	"sync"
	"testing"
	"time"
)

func TestDeliveriesThatBeginMakeWayForARushOfSenders(t *testing.T) {
	b := newBench(t, Options{})
	b.accept("it is due", to("anna@one.example"))
	claimable := func(at int64) bool {
		b.Queue.mu.Lock()
		defer b.Queue.mu.Unlock()
		w, _ := b.claimNext(at)
		if w != nil {
			b.giveBack(w.unit)
		}
		return w != nil
	}
	release := blockCommits(b)
	var senders sync.WaitGroup
	for n := 1; n <= rushSenders; n++ {
		if !claimable(b.clock()) {
			t.Errorf("%d senders wait, which is no rush: nothing can be claimed", n-1)
		}
		in, err := b.Begin()
		if err != nil {
			t.Fatal(err)
		}
		senders.Go(func() {
			if err := in.Commit(context.Background(), to("kurt@two.example")); err != nil {
				t.Error(err)
			}
		})
		for waiting := 0; waiting < n; { // a sender waits as soon as its commit is submitted
			b.Queue.mu.Lock()
			waiting = b.rush.waiting
			b.Queue.mu.Unlock()
		}
	}
	if claimable(b.clock()) {
		t.Error("in a rush a delivery begins")
	}
	if !claimable(b.clock() + int64(rushPatience)) {
		t.Error("a delivery has made way long enough and does not begin")
	}
	release()
	senders.Wait()
	if !claimable(b.clock() + int64(rushLingers)) {
		t.Error("after the rush no delivery begins")
	}
}

func TestADeliveryThatMakesWayIsClaimedByItselfAfterTheRush(t *testing.T) {
	b := newBench(t, Options{})
	b.Queue.mu.Lock()
	b.rush.waiting = rushSenders
	b.Queue.mu.Unlock()
	start := time.Now()
	id := b.accept("it comes in the rush", to("anna@one.example"))
	b.Queue.mu.Lock()
	b.rush.waiting = 0
	b.Queue.mu.Unlock()
	w, err := b.Claim(t.Context()) // nothing but the end of the rush wakes it
	if err != nil {
		t.Fatal(err)
	}
	if w.Envelope.ID != id {
		t.Errorf("claimed %v", w.Envelope.ID)
	}
	if took := time.Since(start); took < rushLingers {
		t.Errorf("claimed after %v, within the rush", took)
	}
	b.finish(w, Delivered)
}

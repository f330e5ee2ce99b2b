package queue

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/queue/scheduler"
)

// How many senders are an inflow, and how long it lasts after the last sign of it.
const (
	inflowSenders = 4
	inflowLinger  = 5 * time.Millisecond
)

func TestDeliveriesThatBeginMakeWayForAnInflow(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	b.accept("it is due", to("anna@one.example"))
	claimable := func(at scheduler.Time) bool {
		b.Queue.mu.Lock()
		defer b.Queue.mu.Unlock()
		c, _ := b.scheduler.Next(at)
		if c.Group == nil {
			return false
		}
		if err := b.scheduler.Release(c.Group, at); err != nil {
			t.Error(err)
		}
		return true
	}
	release := blockCommits(b)
	var senders sync.WaitGroup
	for n := 1; n <= inflowSenders; n++ {
		if !claimable(b.clock.now()) {
			t.Errorf("%d senders wait, which is no inflow: nothing can be claimed", n-1)
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
			waiting = b.scheduler.Senders()
			b.Queue.mu.Unlock()
		}
	}
	if claimable(b.clock.now()) {
		t.Error("in an inflow a delivery begins")
	}
	if !claimable(b.clock.now().Add(500 * time.Millisecond)) {
		t.Error("a delivery has made way long enough and does not begin")
	}
	release()
	senders.Wait()
	if !claimable(b.clock.now().Add(inflowLinger)) {
		t.Error("after the inflow no delivery begins")
	}
}

func TestADeliveryThatMakesWayIsClaimedByItselfAfterTheInflow(t *testing.T) {
	b := newBench(t, Options{})
	b.Queue.mu.Lock()
	for range inflowSenders {
		b.scheduler.SenderWaits(b.clock.now())
	}
	b.Queue.mu.Unlock()
	start := time.Now()
	id := b.accept("it comes in the inflow", to("anna@one.example"))
	b.Queue.mu.Lock()
	for range inflowSenders {
		b.scheduler.SenderAnswered(b.clock.now())
	}
	b.Queue.mu.Unlock()
	w, err := b.Claim(t.Context()) // nothing but the end of the inflow wakes it
	if err != nil {
		t.Fatal(err)
	}
	if w.Envelope.ID != id {
		t.Errorf("claimed %v", w.Envelope.ID)
	}
	if took := time.Since(start); took < inflowLinger {
		t.Errorf("claimed after %v, within the inflow", took)
	}
	b.finish(w, Delivered)
}

package relay

import (
	"context"
	"testing"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/queue"
)

// DeliverFrom opens another queue in st, and delivers its mail until the end of the test as
// the mail of the relay's own queue is delivered.
func (r *Relay) DeliverFrom(t testing.TB, st store.Store) *queue.Queue {
	t.Helper()
	s, err := r.openSpool(st, store.Damage{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.delivery.Run(ctx, 0)
	}()
	t.Cleanup(func() {
		stop()
		<-done
		s.queue.Close()
	})
	return s.queue
}

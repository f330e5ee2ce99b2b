package relay

import (
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/badger"
)

// What keeps a watchdog still is a committer that answers, and nothing else.
func TestASignOfLifeIsACommit(t *testing.T) {
	st, err := badger.Open(badger.Options{Dir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	r := &Relay{disk: st, log: slog.New(slog.DiscardHandler)}
	if err := r.commits(t.Context()); err != nil {
		t.Errorf("a store that works: %v", err)
	}
	// One that hangs gives no answer.
	hangs, free := make(chan struct{}), make(chan struct{})
	var b store.Batch
	b.Set([]byte("x/1"), []byte("v"))
	st.Submit(&b, func(error) { close(hangs); <-free })
	<-hangs
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.commits(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a committer that hangs: %v", err)
	}
	close(free)
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.commits(t.Context()); !errors.Is(err, store.ErrClosed) {
		t.Errorf("a store that is closed: %v", err)
	}
}

package queue

import (
	"context"

	"github.com/stsrelay/stsrelay/internal/store"
)

// Store is what the queue stands on: ordered keys, and batches of changes that
// are made together or not at all. internal/store serves it from Badger;
// another engine, a replicated one say, serves it by the same promises, which
// ARCHITECTURE.md lists ("Another engine") and queue/engine_test.go tries.
//
// Its methods are called from many goroutines. The keys of the queue begin
// with store.PrefixMessage, PrefixBody or PrefixQueue. A body is stored in
// values of at most 256 KiB; other values are below a few KiB, except those of
// messages with very many recipients.
type Store interface {
	// Submit hands over a batch and returns at once. Batches take effect in
	// the order of Submit, in one step each and for every reader at once. done
	// (nil: nobody waits) is called once: with nil when the batch is durable,
	// else with an error, and then nothing of it was written, or the store has
	// failed (store.ErrFailed). Keys and values must not be used after it: their
	// memory is used again. It may be called from any goroutine, but before
	// Submit returns only with store.ErrClosed. Its calls are in the order of
	// Submit, except that an error may overtake. done and the functions in the
	// batch take the queue's lock, which is held around Submit and never around
	// a read.
	Submit(b *store.Batch, done func(error))
	// View calls fn with the value of key, if there is one. It sees every batch
	// whose done was called. The error wraps *store.ValueError where the value
	// is damaged.
	View(key []byte, fn func(value []byte) error) error
	// Scan calls fn for all keys with a prefix in order, as of one moment, from
	// a key on (nil: the first). store.Stop from fn ends it without an error; a
	// damaged value ends it with *store.ValueError.
	Scan(prefix, from []byte, fn func(key, value []byte) error) error
	// ScanKeys is Scan without reading values.
	ScanKeys(prefix, from []byte, fn func(key []byte) error) error
	// Watch calls changed for each key with the prefix that somebody else has
	// changed since, after the change can be read: another relay on the same
	// store, not this queue. It may be called too often and never too seldom,
	// and must return quickly. stop returns when no call is under way.
	Watch(prefix []byte, changed func(key []byte)) (stop func())
	// Room says whether n more octets may be taken in; the error wraps
	// store.ErrDiskFull.
	Room(n int64) error
	// Err is nil while the store works, and wraps store.ErrFailed from the
	// moment on when it cannot keep its promises any more.
	Err() error
	// Stalled says that nothing can be written now, so that nothing should be
	// begun whose result must be written.
	Stalled() bool
}

// commit submits b and waits until it is durable. When ctx ends first, b may or
// may not be committed.
func (q *Queue) commit(ctx context.Context, b *store.Batch) error {
	done := make(chan error, 1)
	q.store.Submit(b, func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

var _ Store = (store.Store)(nil)

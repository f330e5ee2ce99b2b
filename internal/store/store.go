// Package store is the contract between those who keep data and the engine that
// keeps it: ordered keys, and batches of changes that are made together or not at
// all. The engines lie below: badger is the one that relays use, memory one for tests.
// storetest has the promises as tests, which every engine passes.
//
// A store has one writer: the one process that has opened it. So what it has read or
// written stays true until it changes it itself, nobody tells it of changes by others,
// and nothing is compared before it is written.
//
// The package knows keys and values, not messages: the queue, the policy cache and the
// report counts each own a prefix of keys (see keys.go).
package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/stsrelay/stsrelay/internal/phrase"
)

// Store is an open store. Its methods are called from many goroutines. A value has at
// most 256 KiB; most of those that are no bodies are below a few KiB.
type Store interface {
	Reader
	// Submit hands over a batch and returns without waiting for it. Batches take effect
	// in the order of Submit, each as a whole and for every reader at once.
	//
	// done, if it is not nil, is called once. With nil, the batch is durable. With an
	// error, nothing of the batch was written, or the error says otherwise: ErrUnknown
	// that nobody knows, ErrFailed that the store has failed. done(nil) is called in the
	// order of Submit; an error may come earlier than the answers to batches before it.
	// After done the store uses neither keys nor values: their memory is used again.
	//
	// The caller holds locks around Submit, and never around a read, which done and the
	// functions in a batch take. So the store calls them from a goroutine of its own,
	// except that after Close Submit itself calls done with ErrClosed.
	Submit(b *Batch, done func(error))
	// CheckSpace returns nil where n more octets may be taken in; else the error wraps
	// ErrDiskFull, or ErrAway.
	CheckSpace(n int64) error
	// Err is nil while the store works, and wraps ErrFailed from the moment on when it
	// cannot keep its promises any more.
	Err() error
	// Stalled reports whether nothing can be written now, so that nothing should be
	// begun whose result must be written.
	Stalled() bool
}

// Reader is what reads a store.
type Reader interface {
	// View calls fn with the value of key, if there is one. It sees every batch
	// whose done was called. The value is valid only during the call and must not be
	// changed. The error wraps *ValueError where the value is damaged.
	View(key []byte, fn func(value []byte) error) error
	// Scan calls fn for all keys with a prefix in order, as of one moment, from
	// a key on (nil: the first). Key and value are valid only during the call. Stop
	// from fn ends it without an error; any other error of fn is returned. A damaged
	// value ends it with *ValueError; the caller may go on behind its key.
	Scan(prefix, from []byte, fn func(key, value []byte) error) error
	// ScanKeys is Scan without reading values.
	ScanKeys(prefix, from []byte, fn func(key []byte) error) error
}

// ErrFailed is wrapped by every error of a store that has met a write or fsync
// error. Such a store acknowledges nothing more until the process starts anew:
// after a failed fsync nobody knows what the disk holds.
var ErrFailed = phrase.Errorf("store failed")

// ErrUnknown is wrapped by the answer to a batch of which nobody knows whether it was
// written: the engine was lost in the middle of the commit. If it was written, it was
// written as a whole. The store goes on, and a later batch takes effect after it.
var ErrUnknown = phrase.Errorf("it is not known whether the change was written")

// ErrAway is wrapped by the answer to a batch that was not written because the engine
// could not be reached for as long as a batch may wait. The store goes on.
var ErrAway = phrase.Errorf("the engine cannot be reached")

// ErrClosed is the answer to a change that comes after Close.
var ErrClosed = phrase.Errorf("store closed")

// ErrDiskFull is wrapped by the errors about missing space. It is temporary.
var ErrDiskFull = phrase.Errorf("disk full")

// Stop ends a Scan early without an error.
var Stop = errors.New("stop the scan")

// ValueError is the error of a value that is there and cannot be read: it is torn or
// damaged.
type ValueError struct{ Key []byte }

func (e *ValueError) Error() string { return fmt.Sprintf("the value of %q is damaged", e.Key) }

// Floor is the free space in octets that an engine needs on a disk of its own: the least
// value of limits.free_space.
const Floor = 64 << 20

// Damage is what was found in a store when it was opened, and costs no more than what
// is named.
type Damage struct {
	// Keys are those whose values cannot be read.
	Keys [][]byte
	// Said is what was found, a sentence each.
	Said []string
}

// Record is a key of a store that is not open, and its value to be read.
type Record struct {
	Key []byte
	// Read reads the value, which is valid until another record is read. The error
	// wraps *ValueError.
	Read func() ([]byte, error)
}

// Commit submits b and waits until it is durable. When ctx ends first, its
// error is returned and b may or may not be committed.
func Commit(ctx context.Context, s Store, b *Batch) error {
	done := make(chan error, 1)
	s.Submit(b, func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Put durably stores one value.
func Put(ctx context.Context, s Store, key, value []byte) error {
	var b Batch
	b.Set(key, value)
	return Commit(ctx, s, &b)
}

// Remove durably deletes one key.
func Remove(ctx context.Context, s Store, key []byte) error {
	var b Batch
	b.Delete(key)
	return Commit(ctx, s, &b)
}

// Get returns a copy of the value of key, nil where there is none. The error wraps
// *ValueError where the value is damaged.
func Get(s Reader, key []byte) ([]byte, error) {
	var value []byte
	err := s.View(key, func(v []byte) error {
		value = append([]byte{}, v...)
		return nil
	})
	return value, err
}

// Package storetest tries the promises of store.Store on an engine.
package storetest

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stsrelay/stsrelay/internal/store"
)

// Engine is a store that can be closed. Close writes what was submitted before it, and
// returns when every answer was given.
type Engine interface {
	store.Store
	Close() error
}

// Place is where an engine keeps one store: a folder, say. The functions below Open are
// nil if the engine cannot do what they say; the promises that need them are skipped.
type Place struct {
	// Open opens the store. It is called again after Close.
	Open func(t *testing.T) Engine
	// Crash returns a place with the store as the next process finds it if the present
	// one dies at this moment. The store may be open.
	Crash func(t *testing.T) Place
	// Fill makes the disk full, or gives it space again.
	Fill func(full bool)
	// Fail makes writing to the open store fail.
	Fail func(s Engine)
	// LoseAnswer lets nobody know whether the next batch is written. written is what in
	// truth becomes of it.
	LoseAnswer func(written bool)
	// Damage damages the value of key, which is longer than 1 KiB. The store is closed.
	Damage func(t *testing.T, key []byte)
}

// Run tries all promises. newPlace returns a place for a new store.
func Run(t *testing.T, newPlace func(t *testing.T) Place) {
	for name, try := range map[string]func(*promise){
		"a batch is made together or not at all":                           wholeBatch,
		"a failing function fails its batch and spares the others":         failingFunction,
		"a batch that cannot be written spares the others":                 refusedBatch,
		"batches take effect and are answered in the order of Submit":      order,
		"functions see what came before, and run one at a time":            functions,
		"the epoch changes when what a function did was not written":       epoch,
		"a precondition is asked when the batches before have answers":     preconditions,
		"a reader sees every batch that was answered, whole":               readers,
		"each batch is answered once, and can be read then":                answers,
		"values are kept octet for octet, empty ones and large ones":       values,
		"keys and values may be reused after the answer":                   reuse,
		"a scan is in the order of octets, from a key, and stops":          scans,
		"a scan is of one moment":                                          scanOfOneMoment,
		"the error of a reader is returned":                                readerErrors,
		"Submit answers nothing itself, and may be called from answers":    locks,
		"a deferrable batch is written without others and at Close":        deferrable,
		"waiting for a commit ends with the context":                       contexts,
		"Close writes what was submitted, and nothing is taken after":      closing,
		"what was answered is there after a restart":                       restart,
		"what was answered is there after a crash":                         crash,
		"a full disk refuses what can be refused, and keeps the rest":      fullDisk,
		"a full disk at Close refuses what waits":                          fullAtClose,
		"a store that has failed acknowledges nothing more":                failed,
		"after an unknown outcome a batch is whole, and the store goes on": unknown,
		"a damaged value is an error for its reader and no other":          damagedValue,
		"many writers at once lose nothing":                                manyWriters,
	} {
		t.Run(name, func(t *testing.T) {
			p := &promise{T: t, place: newPlace(t)}
			p.open()
			try(p)
		})
	}
}

// promise is the trial of one promise.
type promise struct {
	*testing.T
	place Place
	Engine
}

// open opens the store. It is closed at the end of the test, if not before.
func (p *promise) open() {
	s := p.place.Open(p.T)
	p.Engine = s
	p.Cleanup(func() { _ = s.Close() })
}

func (p *promise) reopen() {
	p.Helper()
	if err := p.Close(); err != nil {
		p.Fatal(err)
	}
	p.open()
}

func (p *promise) commit(change func(*store.Batch)) error {
	var b store.Batch
	change(&b)
	return store.Commit(context.Background(), p.Engine, &b)
}

func (p *promise) must(change func(*store.Batch)) {
	p.Helper()
	if err := p.commit(change); err != nil {
		p.Fatal(err)
	}
}

func (p *promise) set(key, value string) {
	p.Helper()
	p.must(func(b *store.Batch) { b.Set([]byte(key), []byte(value)) })
}

// get returns a value, "none" if there is none.
func (p *promise) get(key string) string {
	p.Helper()
	v, err := store.Get(p.Engine, []byte(key))
	if err != nil {
		p.Error(err)
	}
	if v == nil {
		return "none"
	}
	return string(v)
}

func (p *promise) want(key, value string) {
	p.Helper()
	if got := p.get(key); got != value {
		p.Errorf("%s is %.40q, want %.40q", key, got, value)
	}
}

func (p *promise) wantError(err, want error) {
	p.Helper()
	if !errors.Is(err, want) {
		p.Errorf("answered with %v, want %v", err, want)
	}
}

// block keeps the store busy with a batch until release is called, so that what is
// submitted meanwhile waits.
func (p *promise) block() (release func()) {
	entered, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var b store.Batch
	b.Update([]byte("kblock"), func([]byte) []byte {
		once.Do(func() { close(entered) })
		<-leave
		return nil
	})
	p.Submit(&b, nil)
	<-entered
	return func() { close(leave) }
}

var errNo = errors.New("no")

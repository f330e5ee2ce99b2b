package queue

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/queue/scheduler"
)

func TestAFreshMessageIsNotReadFromTheStoreUntilItsFirstAttemptHasEnded(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	id := b.accept("text", to("a@x.test"))
	seq := b.byID[id].Seq
	// What is read now is seen to come from memory.
	for _, key := range [][]byte{messageKey(seq), bodyKey(seq, 0)} {
		if err := store.Put(t.Context(), b.st, key, []byte{0xff}); err != nil {
			t.Fatal(err)
		}
	}
	w := b.claim()
	if text, err := io.ReadAll(w.Body()); string(text) != "text" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	w.Envelope.From, w.Envelope.Recipients[0].Address, w.States[0].Host = "changed", "changed", "changed"
	b.Release(w) // that was no attempt
	w = b.claim()
	if w.Envelope.From == "changed" || w.Envelope.Recipients[0].Address == "changed" || w.States[0].Host != "" {
		t.Errorf("a claim has changed what another one gets: %+v", w.Envelope)
	}
	if text, err := io.ReadAll(w.Body()); string(text) != "text" || err != nil {
		t.Errorf("after a claim that was given back: %q, %v", text, err)
	}
	b.finish(w, Queued)
	if b.fresh.size != 0 || len(b.fresh.young)+len(b.fresh.old) != 0 {
		t.Errorf("%d octets are kept after the attempt", b.fresh.size)
	}
	if text, _ := io.ReadAll(newBody(b.Queue, seq, 1)); string(text) != "\xff" {
		t.Errorf("%q is not what the store has", text)
	}
}

func TestARemovedMessageIsNotKept(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	b.accept("text", to("a@x.test"))
	w := b.claim()
	b.touched(1)(b.Remove(context.Background(), Filter{}))
	if _, err := io.ReadAll(w.Body()); b.fresh.size != 0 || err != nil && !errors.Is(err, ErrBodyGone) {
		t.Errorf("%d octets, %v", b.fresh.size, err)
	}
	b.Release(w)
}

func TestFreshMessagesHaveABoundInSizeAndTime(t *testing.T) {
	f := new(fresh)
	message := func() freshMessage { return freshMessage{envelope: new(Envelope), body: make([]byte, 64<<10)} }
	n := uint64(0)
	for f.keep(n, message(), 0) {
		n++
	}
	if n != freshSize/(64<<10) {
		t.Errorf("%d bodies are kept", n)
	}
	if f.keep(n, freshMessage{body: make([]byte, keptBuffer+1)}, 0) {
		t.Error("a large body is kept")
	}
	// What was due first is there; nothing was tried.
	if _, ok := f.appendBody(nil, 0, 0); !ok {
		t.Error("the first message made room for the last one")
	}
	now := scheduler.Time(freshTime) + 1
	if f.keep(n, message(), now) {
		t.Error("the size has no bound")
	}
	if now = now.Add(freshTime + 1); !f.keep(n, message(), now) || f.envelope(0) != nil || f.size != 64<<10 {
		t.Errorf("what was not tried for long is kept: %d octets", f.size)
	}
	if mem, ok := f.appendBody([]byte("x"), n, 1); ok || string(mem) != "x" {
		t.Error("a chunk is made up")
	}
	if f.forget(n) == nil || f.forget(n) != nil || f.size != 0 {
		t.Errorf("%d octets", f.size)
	}
}

func TestAMessageWithAReservedPlaceIsReadWhole(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	for _, body := range []string{"text", strings.Repeat("x", 300<<10)} {
		in, err := b.Begin()
		if err != nil {
			t.Fatal(err)
		}
		in.Reserve()
		if _, err := io.WriteString(in, body); err != nil {
			t.Fatal(err)
		}
		in.Front([]byte("front "))
		if err := in.Commit(t.Context(), to("a@x.test")); err != nil {
			t.Fatal(err)
		}
		w := b.claim()
		if text, err := io.ReadAll(w.Body()); string(text) != "front "+body || err != nil {
			t.Errorf("%d octets, %v", len(text), err)
		}
		b.finish(w, Delivered)
	}
}

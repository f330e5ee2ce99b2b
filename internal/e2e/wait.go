package e2e

import (
	"context"

	"github.com/oklog/ulid/v2"

	"github.com/stsrelay/stsrelay/internal/await"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
)

// Context ends when a test has waited for too long.
func (w *World) Context() context.Context {
	ctx, cancel := context.WithTimeout(w.T.Context(), await.Limit(w.T))
	w.T.Cleanup(cancel)
	return ctx
}

// WaitFor polls the queue until ok says so.
func (w *World) WaitFor(what string, ok func(*queue.Queue) bool) {
	w.T.Helper()
	await.Until(w.T, what, func() bool { return ok(w.Relay.Queue()) })
}

// Attempted waits until a message has had an attempt and returns it; gone reports
// whether it has left the queue.
func (w *World) Attempted(id string) (m queue.Message, gone bool) {
	w.T.Helper()
	w.WaitFor("an attempt of "+id, func(q *queue.Queue) bool {
		qid, err := ulid.ParseStrict(id)
		if err != nil {
			w.T.Fatal(err)
		}
		m, err = q.Show(qid)
		gone = err != nil
		return gone || m.Attempts > 0 && m.State == queue.Queued
	})
	w.sync()
	return m, gone
}

// sync waits until all results so far are written, so that a test reads what it will
// read later too. Results wait some milliseconds for others to share a commit with.
func (w *World) sync() {
	w.T.Helper()
	if err := w.Relay.Queue().Add(nil, nil); err != nil {
		w.T.Error(err)
	}
}

// Deferred waits until a message has had an attempt and is still in the queue. It
// returns the state of the first recipient.
func (w *World) Deferred(id string) queue.RecipientState {
	w.T.Helper()
	m, gone := w.Attempted(id)
	if gone {
		w.T.Fatalf("%s has left the queue", id)
	}
	return m.States[0]
}

// WaitForAttempts waits until a message was put off for the n-th time, and returns the state of
// its first recipient.
func (w *World) WaitForAttempts(id string, n int) (s queue.RecipientState) {
	w.T.Helper()
	w.WaitFor("attempt", func(q *queue.Queue) bool {
		m, err := q.Show(ulid.MustParse(id))
		if err != nil {
			w.T.Fatalf("it has left the queue: %v", err)
		}
		s = m.States[0]
		return m.Attempts >= n
	})
	return s
}

// WaitUntilGone waits until a message has left the queue.
func (w *World) WaitUntilGone(id string) {
	w.T.Helper()
	w.WaitFor(id+" to leave the queue", func(q *queue.Queue) bool {
		_, err := q.Show(ulid.MustParse(id))
		return err != nil
	})
	w.sync()
}

// WaitUntilEmpty waits until the queue is empty and the results are written.
func (w *World) WaitUntilEmpty() {
	w.T.Helper()
	w.WaitFor("an empty queue", func(q *queue.Queue) bool { return q.Counts().Messages == 0 })
	w.sync()
}

// Received waits until a host has n messages, and returns them.
func (w *World) Received(h *testnet.Host, n int) []testnet.Message {
	w.T.Helper()
	got, err := h.Wait(w.Context(), n)
	if err != nil {
		w.T.Fatal(err)
	}
	return got
}

// Deliver sends a message and waits until it has left the queue.
func (w *World) Deliver(to ...string) {
	w.T.Helper()
	w.Send("anna@sender.example", to...)
	w.WaitUntilEmpty()
}

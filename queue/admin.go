package queue

import (
	"context"
	"slices"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/queue/scheduler"
)

// Retry makes the selected messages due now and ends the back-off of their
// domains; one of them goes first as a probe. Held ones stay held. It returns
// how many messages it touched.
func (q *Queue) Retry(ctx context.Context, f Filter) (int, error) {
	return q.each(ctx, f, "", "", q.retryLocked)
}

func (q *Queue) retryLocked(e *scheduler.Entry, _ *Message) bool {
	return !e.Held && q.permitted(e, q.scheduler.RetryNow(e, q.clock.now()))
}

// Hold keeps the selected messages from being tried until Unhold, over
// restarts too. It returns how many messages it touched.
func (q *Queue) Hold(ctx context.Context, f Filter, reason string) (int, error) {
	return q.each(ctx, f, "held by the operator", reason, func(e *scheduler.Entry, _ *Message) bool {
		return q.holdLocked(e, holdRecord{Reason: reason})
	})
}

// Unhold releases the selected held messages and makes them due now. It returns
// how many messages it touched.
func (q *Queue) Unhold(ctx context.Context, f Filter) (int, error) {
	return q.each(ctx, f, "released by the operator", "", q.unholdLocked)
}

// each calls fn with the lock held for every selected message that is still in the
// queue, counts those for which it returns true, and waits until the changes are durable.
// what and reason are logged for each of these ("": nothing is logged).
func (q *Queue) each(ctx context.Context, f Filter, what, reason string, fn func(*scheduler.Entry, *Message) bool) (int, error) {
	n := 0
	err := q.List(ctx, f, func(m Message) bool {
		q.mu.Lock()
		e := q.byID[m.ID]
		touched := e != nil && fn(e, &m)
		q.mu.Unlock()
		if !touched {
			return true
		}
		n++
		if what != "" {
			q.logAction(&m, what, "", reason)
		}
		return true
	})
	return n, q.waitDurable(ctx, err)
}

// recipientsALine is the number of recipients in one line of the log: some readers of
// logs cut lines of more than 16 KiB.
const recipientsALine = 50

// logAction logs what the operator did to a message, or to its recipients of one domain.
// All of these are named: no earlier line need have named them.
func (q *Queue) logAction(m *Message, what, domain, reason string) {
	var to []string
	for i, r := range m.Recipients {
		if m.States[i].State == Queued && (domain == "" || domain == r.Domain) {
			to = append(to, r.Address)
		}
	}
	args := []any{"queue_id", m.ID.String(), "from", m.From, "recipients", len(to)}
	if m.MessageID != "" {
		args = append(args, "message_id", m.MessageID)
	}
	if domain != "" {
		args = append(args, "domain", domain)
	}
	if reason != "" {
		args = append(args, "reason", reason)
	}
	for part := range slices.Chunk(to, recipientsALine) {
		q.log.Info(what, append(args, "to", part)...)
	}
	q.acted(m, to, what, reason)
}

// waitDurable waits until all that was submitted is durable. While the disk is full, the
// changes are made and wait to be written; the error says so.
func (q *Queue) waitDurable(ctx context.Context, err error) error {
	q.wake.raise()
	if err != nil {
		return err
	}
	return store.Commit(ctx, q.store, new(store.Batch))
}

package queue

import (
	"context"
	"slices"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/queue/scheduler"
)

// Retry makes the selected messages due now and ends the back-off of their
// domains; one of them goes first as a probe. Held ones stay held, and those that are to be
// bounced are not tried. It returns how many messages it touched.
func (q *Queue) Retry(ctx context.Context, f Filter) (int, error) {
	return q.each(ctx, f, "", "", q.retryLocked)
}

func (q *Queue) retryLocked(e *scheduler.Entry, _ *Message) bool {
	tried := slices.ContainsFunc(e.Groups, func(g scheduler.Group) bool { return !g.State().Ended() && g.State() != scheduler.Canceled })
	return !e.Held && tried && q.permitted(e, q.scheduler.RetryNow(e, q.clock.now()))
}

// Hold keeps the selected messages from being tried until Unhold, over
// restarts too. It returns how many messages it touched.
func (q *Queue) Hold(ctx context.Context, f Filter, reason string) (int, error) {
	return q.each(ctx, f, deedHeld, reason, func(e *scheduler.Entry, _ *Message) bool {
		return q.holdLocked(e, holdRecord{Reason: reason})
	})
}

// Unhold releases the selected held messages and makes them due now. It returns
// how many messages it touched.
func (q *Queue) Unhold(ctx context.Context, f Filter) (int, error) {
	return q.each(ctx, f, deedReleased, "", q.unholdLocked)
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
			q.logAction(&Action{Message: &m, What: what, Reason: reason, By: f.By}, "")
		}
		return true
	})
	return n, q.waitDurable(ctx, err)
}

// recipientsALine is the number of recipients in one line of the log: some readers of
// logs cut lines of more than 16 KiB.
const recipientsALine = 50

// Action is what the operator did to recipients of a message.
type Action struct {
	Message *Message
	// To are the recipients that have no end yet.
	To []string
	// What was done, Reason why, and By whom; the last two may be "".
	What, Reason, By string
}

// logAction logs an action on a message, or on its recipients of one domain, and sets To. All
// of these are named: no earlier line need have named them.
func (q *Queue) logAction(a *Action, domain string) {
	m := a.Message
	for i, r := range m.Recipients {
		if m.States[i].State == Queued && (domain == "" || domain == r.Domain) {
			a.To = append(a.To, r.Address)
		}
	}
	args := []any{"queue_id", m.ID.String(), "from", m.From, "recipients", len(a.To)}
	if m.MessageID != "" {
		args = append(args, "message_id", m.MessageID)
	}
	if domain != "" {
		args = append(args, "domain", domain)
	}
	if a.Reason != "" {
		args = append(args, "reason", a.Reason)
	}
	if a.By != "" {
		args = append(args, "actor", a.By)
	}
	for part := range slices.Chunk(a.To, recipientsALine) {
		q.log.Info(a.What, append(args, "to", part)...)
	}
	q.acted(a)
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

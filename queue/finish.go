package queue

import (
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
)

// Outcome is what one attempt led to.
type Outcome struct {
	// Results are by position in Work.Recipients. State Queued: to be tried
	// again. Attempts is counted by the queue.
	Results []RecipientState
	// RetryAfter, if not zero, replaces the schedule's next wait.
	RetryAfter time.Duration
	// DomainFailed says in words why the domain as a whole could not be
	// reached; it rests then. "" where a host took part in a transaction.
	DomainFailed string
	// Notices are queued in the same commit.
	Notices []NewMessage
	// Also adds changes of other packages to the same commit.
	Also func(*store.Batch)
}

// NewMessage is a message that the relay itself writes.
type NewMessage struct {
	Envelope Envelope // ID, Size, ReceivedAt and Chunks are set by the queue
	Body     []byte
}

// Finish ends a claim with its results. It returns at once: the results ride in
// the next commit, and what a crash takes of them is tried again.
func (q *Queue) Finish(w *Work, o Outcome) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.clock()
	u, e, d := w.unit, w.unit.msg, w.unit.domain
	q.free(u)
	var b store.Batch
	if o.Also != nil {
		o.Also(&b)
	}
	q.addOwn(o.Notices, now, &b)
	if !e.gone {
		q.settle(w, o, now, &b)
	}
	if o.DomainFailed != "" {
		q.rest(d, now, o.DomainFailed)
	} else {
		q.worked(d)
	}
	q.place(d, now)
	if b.Len() > 0 {
		q.store.Submit(&b, nil)
	}
	q.signal()
}

// settle brings the results into the unit and its message.
func (q *Queue) settle(w *Work, o Outcome, now int64, b *store.Batch) {
	u, e := w.unit, w.unit.msg
	queued := int32(0)
	for i, p := range w.pos {
		r := o.Results[i]
		r.Attempts = w.all[p].Attempts + 1
		w.all[p] = r
		if r.State == Queued {
			queued++
			u.domain.lastError = r.LastError
		}
	}
	q.counts.Recipients -= int(u.recipients - queued)
	u.recipients = queued
	u.attempts++
	rec := unitRecord{LastAttempt: q.now().UTC().Round(0), Attempts: int(u.attempts), States: w.all}
	if queued == 0 {
		u.done = true
		u.domain.total--
		e.left--
		if e.left == 0 {
			q.forget(e)
			q.deleteRecords(e, w.Envelope.Chunks, b)
			return
		}
		rec.Done = true
	} else {
		wait := o.RetryAfter
		if wait == 0 {
			wait = q.schedule.wait(int(u.attempts))
		}
		u.due = now + int64(wait)
		if expire := e.receivedAt + int64(q.schedule.Expire); q.schedule.Expire > 0 && now < expire {
			u.due = min(u.due, expire)
		}
		rec.NextAttempt = q.wall(u.due)
		q.wait(u)
	}
	e.stateKept = true
	b.Set(unitKey(e.seq, int(u.number)), encode(rec))
}

// Release gives a claim back as if it had not been made: it is due as before.
func (q *Queue) Release(w *Work) {
	q.mu.Lock()
	defer q.mu.Unlock()
	u := w.unit
	q.free(u)
	if !u.msg.gone {
		q.wait(u)
	}
	q.place(u.domain, q.clock())
	q.signal()
}

// Add queues messages of the relay itself in a commit of their own, together
// with the changes of also (nil: none). It returns when they are durable.
func (q *Queue) Add(messages []NewMessage, also func(*store.Batch)) error {
	var b store.Batch
	if also != nil {
		also(&b)
	}
	done := make(chan error, 1)
	q.mu.Lock()
	q.addOwn(messages, q.clock(), &b)
	q.store.Submit(&b, func(err error) { done <- err })
	q.mu.Unlock()
	q.signal()
	return <-done
}

// addOwn puts messages into b and into the schedule. They are in the schedule
// before they are durable, which is right for what the relay writes itself:
// should the commit fail, the store has failed, and the cause of the message
// was not committed either.
func (q *Queue) addOwn(messages []NewMessage, now int64, b *store.Batch) {
	for i := range messages {
		m := &messages[i]
		e := q.newEntry()
		e.receivedAt = now
		q.fill(e, &m.Envelope, m.Body, 0, int64(len(m.Body)), b)
		q.index(e, &m.Envelope)
		for j := range e.units {
			q.wait(&e.units[j])
			q.place(e.units[j].domain, now)
		}
	}
}

// forget takes e out of memory.
func (q *Queue) forget(e *entry) {
	e.gone = true
	delete(q.byID, e.id)
	q.unlink(e)
	q.counts.Messages--
	if e.held {
		q.counts.Held--
	}
}

func (q *Queue) deleteRecords(e *entry, chunks int, b *store.Batch) {
	b.Delete(messageKey(e.seq))
	for i := range chunks {
		b.Delete(bodyKey(e.seq, i))
	}
	if !e.stateKept {
		return
	}
	for i := range e.units {
		if e.units[i].attempts > 0 {
			b.Delete(unitKey(e.seq, i))
		}
	}
	b.Delete(holdKey(e.seq))
}

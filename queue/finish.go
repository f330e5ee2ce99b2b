package queue

import (
	"bytes"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/stsrelay/stsrelay/internal/mailheader"
	"github.com/stsrelay/stsrelay/internal/store"
)

// Outcome is what one attempt led to.
type Outcome struct {
	// Results are by position in Work.Recipients. State Queued: to be tried
	// again; "": not tried, all stays as it was. Attempts is counted by the queue.
	Results []RecipientState
	// RetryAfter, if not zero, replaces the schedule's next wait.
	RetryAfter time.Duration
	// DomainFailed is why the domain as a whole could not be reached; it rests
	// then. Zero where a host took part in a transaction.
	DomainFailed Reason
	// Bound says that DomainFailed is about what the domain asks for: mail that
	// nothing of that binds (TLS reports, "TLS-Required: No") goes on.
	Bound bool
	// Parallel is how many units of the domain its hosts take at a time; 0: not
	// known. More than Options.DomainLimit may be claimed then.
	Parallel int
	// Unreadable is why the message could not be read, nil where it could. It is
	// held then.
	Unreadable error
	// Notices are queued in the same commit.
	Notices []NewMessage
	// Also adds changes of other packages to the same commit.
	Also func(*store.Batch)
}

// NewMessage is a message that the relay itself writes.
type NewMessage struct {
	Envelope Envelope // ID, Size, ReceivedAt and Chunks are set by the queue
	Body     []byte
	// Keep, if set, is called in its place: the message is not queued, and what is
	// kept of it goes into the same commit.
	Keep func(*store.Batch)
	// Also, if set, adds changes of who writes the message to the same commit.
	Also func(*store.Batch)
}

// LogNotices writes a line for each of the notices about a message that the queue
// has taken.
func LogNotices(log *slog.Logger, about *Envelope, notices []NewMessage) {
	for i := range notices {
		switch {
		case notices[i].Keep != nil:
			log.Info("notice kept for a digest", "original_queue_id", about.ID.String(), "to", about.From)
			continue
		case notices[i].Envelope.ID == ID{}:
			continue // its message was removed meanwhile
		}
		log.Info("notice queued", "queue_id", notices[i].Envelope.ID.String(), "message_id", notices[i].Envelope.MessageID, "original_queue_id", about.ID.String(), "to", about.From)
	}
}

// Finish ends a claim with its results. It returns at once: the results ride in
// the next commit, and what a crash takes of them is tried again. Until that
// commit the message counts as active, and the notices are not in the queue.
// While the disk is full the commit waits.
func (q *Queue) Finish(w *Work, o Outcome) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.clock()
	u, e, d := w.unit, w.unit.msg, w.unit.domain
	var b store.Batch
	b.Patient()
	b.Unhurried()
	if o.Also != nil {
		o.Also(&b)
	}
	var own []ownMessage
	if !e.gone { // else the operator has removed it, and nobody is told
		own = q.addOwn(o.Notices, &b)
		q.settle(w, o, now, &b)
	}
	switch free := d.restBound && u.lane.free(); {
	case o.DomainFailed == (Reason{}) && free, o.Bound && u.lane.free():
		// It says nothing about what the others wait for.
	case o.DomainFailed == (Reason{}):
		if slices.ContainsFunc(o.Results, func(r RecipientState) bool { return r.State == Delivered }) {
			q.proven.took(d.name, now)
		}
		q.worked(d, o.Parallel)
	default:
		if d.restStep == w.Rests { // else it rests already, after a claim of the same time
			q.rest(d, now, o.DomainFailed, o.Bound)
		}
		if !u.done && !e.gone {
			d.restUntil = min(d.restUntil, u.due)
		}
	}
	q.place(d, now)
	q.store.Submit(&b, func(err error) { q.finished(u, own, err) })
	if o.Unreadable != nil && !e.gone {
		q.holdUnreadable(e, o.Unreadable)
	}
	q.signal()
}

// finished is called when the results of a claim are durable, or lost.
func (q *Queue) finished(u *unit, own []ownMessage, err error) {
	if errors.Is(err, store.ErrClosed) {
		return // called under the lock; nothing is claimed any more
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	u.domain.active--
	changed := errors.Is(err, store.ErrChanged)
	if changed {
		q.lost(u)
	}
	if err != nil && !changed { // the unit stays claimed until the next start tries it again
		q.log.Error("the results of a delivery could not be written; it will be made again after the next start",
			"queue_id", u.msg.id.String(), "domain", u.domain.name, "error", err)
	} else {
		q.free(u)
		q.wait(u)
		q.place(u.domain, q.clock())
	}
	q.admitOwn(own, err)
}

// settle brings the results into the unit and its message.
func (q *Queue) settle(w *Work, o Outcome, now int64, b *store.Batch) {
	u, e := w.unit, w.unit.msg
	ifUntouched(u, int(u.attempts), b)
	queued := int32(0)
	states := w.record.States
	for i, p := range w.pos {
		r := o.Results[i]
		if r.State == "" {
			queued++
			continue
		}
		r.Attempts = states[p].Attempts + 1
		states[p] = r
		if r.State == Queued {
			queued++
			u.domain.last = r.Reason()
		}
	}
	q.counts.Recipients -= int(u.recipients - queued)
	u.recipients = queued
	u.attempts++
	rec := unitRecord{LastAttempt: q.now().UTC().Round(0), Attempts: int(u.attempts), States: states}
	if queued == 0 {
		u.done = true
		u.domain.leave(u)
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
		if limit := q.expiry(e); limit > 0 && now < e.receivedAt+int64(limit) {
			expire := e.receivedAt + int64(limit)
			u.due = min(u.due, expire)
		}
		rec.NextAttempt = q.wall(u.due)
		if rec.told() {
			u.isTold()
		}
	}
	e.stateKept = true
	b.Set(unitKey(e.seq, int(u.number)), encode(rec))
}

// Record writes what others have to say of a claim that is given back without a
// result, soon; also may be nil.
func (q *Queue) Record(also func(*store.Batch)) {
	if also == nil {
		return
	}
	var b store.Batch
	b.Unhurried()
	also(&b)
	q.write(&b)
}

// Release gives a claim back as if it had not been made: it is due as before.
func (q *Queue) Release(w *Work) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.giveBack(w.unit)
}

// Postpone gives a claim back for d: it was no attempt, and another one makes no
// sense before.
func (q *Queue) Postpone(w *Work, d time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	w.unit.due = q.clock() + int64(d)
	q.giveBack(w.unit)
}

func (q *Queue) giveBack(u *unit) {
	sending := u.sending
	q.unclaim(u)
	if sending { // it was cut short
		q.mark()
	}
}

func (q *Queue) unclaim(u *unit) {
	u.domain.active--
	q.free(u)
	q.wait(u)
	q.place(u.domain, q.clock())
	q.signal()
}

// Add queues messages of the relay itself in a commit of their own, together
// with the changes of also (nil: none), which is called when the messages have
// their IDs. It returns when they are durable.
func (q *Queue) Add(messages []NewMessage, also func(*store.Batch)) error {
	var b store.Batch
	done := make(chan error, 1)
	q.mu.Lock()
	own := q.addOwn(messages, &b)
	if also != nil {
		also(&b)
	}
	q.submitOwn(&b, own, func(err error) { done <- err })
	q.mu.Unlock()
	return <-done
}

// submitOwn submits b, and takes what addOwn put into it into the schedule once
// it is durable: what can be claimed must be there to be read. done may be nil.
func (q *Queue) submitOwn(b *store.Batch, own []ownMessage, done func(error)) {
	q.store.Submit(b, func(err error) {
		if !errors.Is(err, store.ErrClosed) { // then the lock is held
			q.mu.Lock()
			q.admitOwn(own, err)
			q.mu.Unlock()
		}
		if done != nil {
			done(err)
		}
	})
}

// ownMessage is a message of the relay whose commit is not done.
type ownMessage struct {
	entry *entry
	env   *Envelope
}

// addOwn puts messages into b.
func (q *Queue) addOwn(messages []NewMessage, b *store.Batch) []ownMessage {
	var own []ownMessage
	for i := range messages {
		m := &messages[i]
		if m.Also != nil {
			m.Also(b)
		}
		if m.Keep != nil {
			m.Keep(b)
			continue
		}
		m.Envelope.MessageID = CleanMessageID(messageIDOf(m.Body))
		e := q.newEntry()
		q.fill(e, &m.Envelope, m.Body, 0, int64(len(m.Body)), b)
		own = append(own, ownMessage{e, &m.Envelope})
	}
	return own
}

// messageIDOf is the Message-ID of a message, "" where it has none.
func messageIDOf(message []byte) string {
	for field := range mailheader.Fields(message) {
		switch {
		case len(bytes.TrimRight(field, "\r\n")) == 0:
			return ""
		case mailheader.Name(field) == "message-id":
			return mailheader.Value(field)
		}
	}
	return ""
}

// admitOwn takes them into the schedule, or forgets them.
func (q *Queue) admitOwn(own []ownMessage, err error) {
	for _, o := range own {
		if err != nil {
			o.entry.gone = true
			q.unlink(o.entry)
		} else {
			q.admit(o.entry, o.env)
		}
	}
	q.signal()
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
	q.readableAgain(e)
}

func (q *Queue) deleteRecords(e *entry, chunks int, b *store.Batch) {
	q.deleteBody(e.seq, chunks, b)
	q.deleteState(e, b)
}

func (q *Queue) deleteBody(seq uint64, chunks int, b *store.Batch) {
	for i := range chunks {
		b.Delete(bodyKey(seq, i))
	}
}

// deleteState deletes all of a message but its body.
func (q *Queue) deleteState(e *entry, b *store.Batch) {
	b.Delete(messageKey(e.seq))
	if !e.stateKept {
		return
	}
	for i := range e.units {
		if u := &e.units[i]; u.attempts > 0 || u.told || u.done {
			b.Delete(unitKey(e.seq, i))
		}
	}
	b.Delete(holdKey(e.seq))
}

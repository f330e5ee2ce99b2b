package queue

import (
	"errors"
	"slices"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/queue/scheduler"
)

// DomainBackoff is set if a domain as a whole could not be reached: none of its mail is
// tried for a while.
type DomainBackoff = scheduler.DomainBackoff

// Outcome is what one attempt led to.
type Outcome struct {
	// Results are by position in Claim.Recipients. State Queued means that the recipient
	// is to be tried again, "" that it was not tried and keeps its state. The queue counts
	// Attempts.
	Results []RecipientState
	// RetryAfter, if not zero, replaces the schedule's next wait.
	RetryAfter time.Duration
	// DomainBackoff is zero if a host of the domain took part in a transaction.
	DomainBackoff DomainBackoff
	// Parallel is how many groups of the domain its hosts take at a time; 0: not
	// known. More than Options.DomainLimit may be claimed then.
	Parallel int
	// Unreadable, if not nil, is why the message could not be read. It is held then.
	Unreadable error
	// Notices are queued in the same commit.
	Notices []NewMessage
	// Also adds changes of other packages to the same commit.
	Also func(*store.Batch)
	// Durable is called when the results cannot be lost any more; nil: nobody wants to
	// know. It must not wait for anything.
	Durable func()
}

// Finish ends a claim with its results. It returns at once: the results are written
// with the next commit, and an attempt whose results are lost by a crash is made again.
// Until that commit the message counts as active, and the notices are not in the queue.
// While the disk is full, the commit waits.
func (q *Queue) Finish(c *Claim, o Outcome) {
	q.mu.Lock()
	defer q.mu.Unlock()
	g, e := c.group, c.group.Entry
	q.buffers.put(q.fresh.forget(e.Seq))
	gone := e.Gone // the operator has removed the message: nobody is notified
	if !q.permitted(e, q.scheduler.Finish(g, c.apply(&o, gone), q.clock.now())) {
		return
	}
	var b store.Batch
	b.RetryWhenFull()
	b.Deferrable()
	if o.Also != nil {
		o.Also(&b)
	}
	var generated []generatedMessage
	durable := o.Durable
	if !gone {
		generated = q.addGeneratedLocked(o.Notices, &c.Envelope, &b)
		q.writeResultsLocked(c, &b)
	}
	q.store.Submit(&b, func(err error) {
		q.recorded(g, generated, err)
		if err == nil && durable != nil {
			durable()
		}
	})
	if o.Unreadable != nil && !e.Gone {
		q.holdUnreadableLocked(e, o.Unreadable)
	}
	q.wake.raise()
}

// apply puts the results into the record of the claim, unless its message is gone, and
// returns what the scheduler has to know of them.
func (c *Claim) apply(o *Outcome, gone bool) scheduler.Outcome {
	out := scheduler.Outcome{
		Delivered:  slices.ContainsFunc(o.Results, func(r RecipientState) bool { return r.State == Delivered }),
		RetryAfter: o.RetryAfter, Backoff: o.DomainBackoff, BackoffStep: c.BackoffStep, Parallel: o.Parallel,
	}
	if gone {
		return out
	}
	states := c.record.States
	for i, p := range c.positions {
		r := o.Results[i]
		if r.State == "" {
			out.Left++
			continue
		}
		r.Attempts = states[p].Attempts + 1
		states[p] = r
		if r.State == Queued {
			out.Left++
			out.Reason = r.Reason()
		}
	}
	out.DelayNotified = c.record.delayNotified()
	return out
}

// writeResultsLocked adds the record of the group of c to b, or deletes the message if
// that was its last group.
func (q *Queue) writeResultsLocked(c *Claim, b *store.Batch) {
	g, e := c.group, c.group.Entry
	if e.Left == 0 {
		q.forgetLocked(e)
		deleteRecords(e, c.Envelope.Chunks, b)
		return
	}
	rec := groupRecord{LastAttempt: q.clock.utc(), Attempts: int(g.Attempts), States: c.record.States}
	if rec.Done = g.State().Ended(); !rec.Done {
		rec.NextAttempt = q.clock.at(g.Due)
	}
	e.HasRecords = true
	b.Set(groupKey(e.Seq, int(g.Number)), encode(rec))
}

// DelayNotified ends a claim for a DelayNotice. The notices are queued in the commit that
// records that the sender was notified. If there are none, because the sender does not
// want any, nothing is written. In both cases the group waits with its domain again.
// DelayNotified returns at once.
func (q *Queue) DelayNotified(c *Claim, notices []NewMessage) {
	q.mu.Lock()
	defer q.mu.Unlock()
	g, e := c.group, c.group.Entry
	record := len(notices) > 0 && !e.Gone
	if !q.permitted(e, q.scheduler.FinishNotice(g, record, q.clock.now())) {
		return
	}
	q.wake.raise()
	if !record {
		q.releasedLocked(g)
		return
	}
	var b store.Batch
	b.RetryWhenFull()
	b.Deferrable()
	generated := q.addGeneratedLocked(notices, &c.Envelope, &b)
	for _, p := range c.positions {
		c.record.States[p].Delayed = true
	}
	c.record.Attempts = int(g.Attempts)
	c.record.NextAttempt = q.clock.at(g.Due)
	b.Set(groupKey(e.Seq, int(g.Number)), encode(c.record))
	e.HasRecords = true
	q.store.Submit(&b, func(err error) { q.recorded(g, generated, err) })
}

// recorded is called when the results of a claim are durable, or could not be written.
func (q *Queue) recorded(g *scheduler.Group, generated []generatedMessage, err error) {
	if errors.Is(err, store.ErrClosed) {
		return // the lock is held, and nothing is claimed any more
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.clock.now()
	if err != nil {
		q.log.Error("the results of a delivery could not be written; it will be made again after the next start",
			"queue_id", ID(g.Entry.ID).String(), "domain", g.Domain.Name, "error", err)
		q.permitted(g.Entry, q.scheduler.Unrecorded(g, now))
	} else if q.permitted(g.Entry, q.scheduler.Recorded(g, now)) {
		q.releasedLocked(g)
	}
	q.admitGeneratedLocked(generated, err)
}

// releasedLocked is called when a claim has ended. It reports whether the content was
// being sent.
func (q *Queue) releasedLocked(g *scheduler.Group) (sent bool) {
	q.cancellations.check(g.Entry)
	return q.inFlight.remove(g)
}

// Record writes changes of other packages about a claim that was released without a
// result. It does not wait; also may be nil.
func (q *Queue) Record(also func(*store.Batch)) {
	if also == nil {
		return
	}
	var b store.Batch
	b.Deferrable()
	also(&b)
	q.write(&b)
}

// Release ends a claim as if it had not been made: the group is due as before.
func (q *Queue) Release(c *Claim) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.giveBackLocked(c.group, q.scheduler.Release(c.group, q.clock.now()))
}

// Postpone ends a claim that was no attempt: the group is due after d.
func (q *Queue) Postpone(c *Claim, d time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.giveBackLocked(c.group, q.scheduler.Postpone(c.group, d, q.clock.now()))
}

func (q *Queue) giveBackLocked(g *scheduler.Group, err error) {
	if !q.permitted(g.Entry, err) {
		return
	}
	if q.releasedLocked(g) { // it was interrupted, and is no longer in flight
		q.persistInFlight()
	}
	q.wake.raise()
}

func deleteRecords(e *scheduler.Entry, chunks int, b *store.Batch) {
	deleteBody(e.Seq, chunks, b)
	deleteState(e, b)
}

func deleteBody(seq uint64, chunks int, b *store.Batch) {
	for i := range chunks {
		b.Delete(bodyKey(seq, i))
	}
}

// deleteState deletes all of a message but its body.
func deleteState(e *scheduler.Entry, b *store.Batch) {
	b.Delete(messageKey(e.Seq))
	if !e.HasRecords {
		return
	}
	for i := range e.Groups {
		if g := &e.Groups[i]; g.Attempts > 0 || g.DelayNotified || g.State().Ended() {
			b.Delete(groupKey(e.Seq, i))
		}
	}
	b.Delete(holdKey(e.Seq))
}

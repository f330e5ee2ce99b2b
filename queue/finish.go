package queue

import (
	"errors"
	"slices"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/queue/scheduler"
)

// DomainBackoff says that a domain could not be reached as a whole, so that none of
// its mail is tried for a while.
type DomainBackoff = scheduler.DomainBackoff

// Outcome is what one attempt led to.
type Outcome struct {
	// Results are by position in Claim.Recipients. State Queued: to be tried
	// again; "": not tried, all stays as it was. Attempts is counted by the queue.
	Results []RecipientState
	// RetryAfter, if not zero, replaces the schedule's next wait.
	RetryAfter time.Duration
	// DomainBackoff says whether the domain as a whole could not be reached. It is
	// zero where a host took part in a transaction.
	DomainBackoff DomainBackoff
	// Parallel is how many groups of the domain its hosts take at a time; 0: not
	// known. More than Options.DomainLimit may be claimed then.
	Parallel int
	// Unreadable is why the message could not be read, nil where it could. It is
	// held then.
	Unreadable error
	// Notices are queued in the same commit.
	Notices []NewMessage
	// Also adds changes of other packages to the same commit.
	Also func(*store.Batch)
	// Durable is called when the results cannot be lost any more; nil: nobody wants to
	// know. It must not wait for anything.
	Durable func()
}

// Finish ends a claim with its results. It returns at once: the results ride in
// the next commit, and what a crash takes of them is tried again. Until that
// commit the message counts as active, and the notices are not in the queue.
// While the disk is full the commit waits.
func (q *Queue) Finish(c *Claim, o Outcome) {
	q.mu.Lock()
	defer q.mu.Unlock()
	g, e := c.group, c.group.Entry
	gone := e.Gone // the operator has removed it, and nobody is told
	if !q.permitted(e, q.scheduler.Finish(g, c.apply(&o, gone), q.clock.now())) {
		return
	}
	var b store.Batch
	b.Patient()
	b.Unhurried()
	if o.Also != nil {
		o.Also(&b)
	}
	var generated []generatedMessage
	if !gone {
		generated = q.addGeneratedLocked(o.Notices, &b)
		q.writeResultsLocked(c, &b)
	}
	q.store.Submit(&b, func(err error) {
		q.recorded(g, generated, err)
		if err == nil && o.Durable != nil {
			o.Durable()
		}
	})
	if o.Unreadable != nil && !e.Gone {
		q.holdUnreadableLocked(e, o.Unreadable)
	}
	q.wake.raise()
}

// apply brings the results into the record of the claim, unless its message is gone,
// and returns what the scheduler has to know of them.
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

// writeResultsLocked adds to b what has become of the group of c; with the last group
// the message is deleted.
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

// DelayNotified ends a claim for a DelayNotice: the sender is told by notices, which
// come into the queue in the commit that remembers it. No notices: none is owed, and
// nothing is written. Either way the group waits with its domain again.
// DelayNotified returns at once.
func (q *Queue) DelayNotified(c *Claim, notices []NewMessage) {
	q.mu.Lock()
	defer q.mu.Unlock()
	g, e := c.group, c.group.Entry
	record := len(notices) > 0 && !e.Gone // of what is gone nobody is told
	if !q.permitted(e, q.scheduler.FinishNotice(g, record, q.clock.now())) {
		return
	}
	q.wake.raise()
	if !record {
		q.releasedLocked(g)
		return
	}
	var b store.Batch
	b.Patient()
	b.Unhurried()
	generated := q.addGeneratedLocked(notices, &b)
	for _, p := range c.positions {
		c.record.States[p].Delayed = true
	}
	c.record.Attempts = int(g.Attempts)
	c.record.NextAttempt = q.clock.at(g.Due)
	b.Set(groupKey(e.Seq, int(g.Number)), encode(c.record))
	e.HasRecords = true
	q.store.Submit(&b, func(err error) { q.recorded(g, generated, err) })
}

// recorded is called when the results of a claim are durable, or lost.
func (q *Queue) recorded(g *scheduler.Group, generated []generatedMessage, err error) {
	if errors.Is(err, store.ErrClosed) {
		return // called under the lock; nothing is claimed any more
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
func (q *Queue) Release(c *Claim) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.giveBackLocked(c.group, q.scheduler.Release(c.group, q.clock.now()))
}

// Postpone gives a claim back for d: it was no attempt, and another one makes no
// sense before.
func (q *Queue) Postpone(c *Claim, d time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.giveBackLocked(c.group, q.scheduler.Postpone(c.group, d, q.clock.now()))
}

func (q *Queue) giveBackLocked(g *scheduler.Group, err error) {
	if !q.permitted(g.Entry, err) {
		return
	}
	if q.releasedLocked(g) { // it was cut short
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

package queue

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/queue/scheduler"
)

// ClaimKind is the purpose of a claim.
type ClaimKind = scheduler.Kind

// The kinds of claims.
const (
	// Attempt: the message is to be delivered, or given up where it has expired.
	Attempt = scheduler.Attempt
	// DelayNotice: the sender is to be told that the message is delayed. It is not
	// tried, and DelayNotified takes the place of Finish.
	DelayNotice = scheduler.DelayNotice
)

// Claim is a claimed group: the recipients of one domain that have no end yet.
// Every Claim ends with one call of Finish (DelayNotified, for a DelayNotice), Release
// or Postpone, or with a Load that fails.
type Claim struct {
	// Envelope, Recipients and States are set by Load. Envelope has only the recipients
	// that are to be tried.
	Envelope Envelope
	// Domain is the recipients' domain.
	Domain string
	// Recipients are the indexes of Envelope.Recipients among all of the message.
	Recipients []int
	// States is the state of each of them, by position in Recipients.
	States []RecipientState
	// Attempts is the number of attempts made before this one.
	Attempts int
	// Age is how long the message has been in the queue. Within one run of the process
	// changes of the wall clock do not count.
	Age time.Duration
	// Expired reports whether the message is older than Schedule.Expire.
	Expired bool
	// ExpiresAt is when the message is given up; zero: never.
	ExpiresAt time.Time
	// Kind is the purpose of the claim.
	Kind ClaimKind
	// BackoffStep is how many back-offs in a row the domain had when this was claimed.
	BackoffStep int
	// BackoffReason is why the domain is in back-off; only set for a DelayNotice.
	BackoffReason Reason

	q          *Queue
	group      *scheduler.Group
	unreadable error // of reading its body
	hasRecords bool  // there may be a record of the group
	loaded     bool
	record     groupRecord // as it was read; States are complete, with those at their end
	positions  []int       // of Recipients in record.States

	// memory of the slices above, for a message to one recipient
	recipient  [1]Recipient
	index, pos [1]int
	state, all [1]RecipientState
}

// newClaimLocked makes the Claim of what was claimed, nil for nothing.
func (q *Queue) newClaimLocked(c scheduler.Claim) *Claim {
	g := c.Group
	if g == nil {
		return nil
	}
	claim := &Claim{q: q, group: g, Domain: g.Domain.Name, Attempts: int(g.Attempts), Age: c.Age, Expired: c.Expired, Kind: c.Kind,
		BackoffStep: c.BackoffStep, BackoffReason: c.BackoffReason, hasRecords: g.Entry.HasRecords}
	if at, ok := q.scheduler.ExpiresAt(g.Entry); ok {
		claim.ExpiresAt = q.clock.at(at)
	}
	return claim
}

// stalledPoll is how often Claim looks whether the store can write again.
const stalledPoll = 200 * time.Millisecond

// Claim waits until something is due and claims it, from memory alone: the worker
// calls Load first. Nothing is claimed once ctx has ended; the error is that of ctx.
func (q *Queue) Claim(ctx context.Context) (*Claim, error) {
	var timer *time.Timer
	for {
		if ctx.Err() != nil {
			q.wake.raise() // the signal may have been for this worker: another one takes it
			return nil, context.Cause(ctx)
		}
		c, wait := q.tryClaim()
		if c != nil {
			q.wake.raise() // more may be due, for another worker
			return c, nil
		}
		if timer == nil {
			timer = q.timers.get()
			defer q.timers.put(timer)
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-q.wake:
		case <-timer.C:
		}
	}
}

// tryClaim claims what is due now. If nothing is due, wait is the time until something
// may be. Nothing is claimed while the store cannot write: each delivery would be
// repeated after the next start.
func (q *Queue) tryClaim() (c *Claim, wait time.Duration) {
	if q.store.Stalled() {
		return nil, stalledPoll
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.clock.now()
	next, wakeAt := q.scheduler.Next(now)
	if wakeAt == scheduler.Never {
		return nil, time.Hour // a change of that raises the signal
	}
	return q.newClaimLocked(next), max(wakeAt.Sub(now), 0)
}

// ClaimFor claims and loads the next group of a domain if one is due now, for a session
// that is open already. It returns nil if there is none.
func (q *Queue) ClaimFor(domain string) *Claim {
	for !q.store.Stalled() {
		q.mu.Lock()
		c := q.newClaimLocked(q.scheduler.NextOf(domain, q.clock.now()))
		q.mu.Unlock()
		if c == nil || c.Load() {
			return c
		}
	}
	return nil
}

// Load reads the envelope and the states of c; it may take as long as a commit. If
// they cannot be read, the message is held and logged, never dropped, and the claim has
// ended. Load reports whether they were read.
func (c *Claim) Load() bool {
	if c.loaded {
		return true
	}
	err := c.read()
	if err == nil {
		c.loaded = true
		return true
	}
	c.q.releaseUnreadable(c.group, fmt.Errorf("its record: %w", err))
	return false
}

// releaseUnreadable ends a claim whose message cannot be read, and holds the message.
func (q *Queue) releaseUnreadable(g *scheduler.Group, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !g.Entry.Gone {
		q.holdUnreadableLocked(g.Entry, err)
	}
	if q.permitted(g.Entry, q.scheduler.Release(g, q.clock.now())) {
		q.releasedLocked(g)
	}
	q.wake.raise() // there is room for another claim
}

// read reads the envelope and the record of the group. The record is up to date: a
// group is not claimed before the commit of its last attempt.
func (c *Claim) read() error {
	q, g := c.q, c.group
	if err := c.readEnvelope(); err != nil {
		return err
	}
	members := split(c.Envelope.Recipients)[g.Number]
	rec := &c.record
	if c.hasRecords {
		if err := q.store.View(groupKey(g.Entry.Seq, int(g.Number)), func(v []byte) error { return decode(v, rec) }); err != nil {
			return err
		}
	}
	if len(rec.States) != len(members) {
		rec.States = append(c.all[:0], make([]RecipientState, len(members))...)
		for i := range rec.States {
			rec.States[i].State = Queued
		}
	}
	all := c.Envelope.Recipients
	// Else hundreds of workers would each keep a thousand of other groups.
	c.Envelope.Recipients = c.recipient[:0]
	c.Recipients, c.States, c.positions = c.index[:0], c.state[:0], c.pos[:0]
	for i, r := range members {
		if rec.States[i].State == Queued {
			c.Recipients = append(c.Recipients, r)
			c.Envelope.Recipients = append(c.Envelope.Recipients, all[r])
			c.States = append(c.States, rec.States[i])
			c.positions = append(c.positions, i)
		}
	}
	return nil
}

func (c *Claim) readEnvelope() error {
	seq := c.group.Entry.Seq
	if kept := c.q.fresh.envelope(seq); kept != nil {
		c.Envelope = *kept
		c.Envelope.Subject = "" // as it is not stored
		return nil
	}
	found := false
	err := c.q.store.View(messageKey(seq), func(v []byte) error {
		found = true
		return decode(v, &c.Envelope)
	})
	if err == nil && !found {
		err = errors.New("the envelope is not there")
	}
	return err
}

// Sending notes that the content of c is about to be sent: from now on the message may
// have been delivered, even if this process ends.
func (c *Claim) Sending() {
	if c.q.inFlight.add(c.group, c.Attempts) {
		c.q.persistInFlight()
	}
}

// persistInFlight writes which groups are in flight, with the next commit. Nobody waits
// for that.
func (q *Queue) persistInFlight() {
	if !q.inFlight.begin() {
		return
	}
	var b store.Batch
	b.Deferrable()
	b.Update(keyInFlight, func([]byte) []byte { return q.inFlight.encode() })
	q.write(&b)
}

// Body returns a reader of the message. It reads one chunk at a time and
// implements io.WriterTo.
func (c *Claim) Body() io.Reader {
	b := newBody(c.q, c.group.Entry.Seq, c.Envelope.Chunks)
	b.failed = &c.unreadable
	return b
}

// Unreadable returns the error of the store that a reader of Body met, nil if there was
// none, or if the message was removed meanwhile.
func (c *Claim) Unreadable() error {
	c.q.mu.Lock()
	defer c.q.mu.Unlock()
	if c.group.Entry.Gone {
		return nil
	}
	return c.unreadable
}

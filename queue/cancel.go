package queue

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/queue/scheduler"
)

// Remove deletes the selected messages, without a notice to their senders. With
// Filter.Domain only their recipients of that domain are removed, and the message stays
// in the queue for the others. A whole message is deleted at once, and the results of an
// attempt that is under way are ignored. Recipients of a domain that are being tried are
// removed after the attempt, unless it delivers or bounces. Remove returns how many
// messages it touched.
//
// Removed messages stay in the trash for TrashTime, as far as there is room for them.
func (q *Queue) Remove(ctx context.Context, f Filter) (int, error) {
	defer q.emptyTrash(time.Time{}) // of what exceeds its bounds
	if f.Domain != "" {
		return q.cancelEach(ctx, f, cancellation{domain: f.Domain, by: f.By})
	}
	return q.each(ctx, f, "removed by the operator", "", q.removeLocked)
}

// Bounce ends the selected messages with a notice to their senders: in one commit each is
// replaced by the message that notice returns (nil: none). With Filter.Domain only their
// recipients of that domain are bounced, and the message stays in the queue for the
// others. notice gets the message with the recipients that are bounced and no others; it
// may read the queue. Recipients that are being tried are bounced after the attempt,
// unless it delivers or bounces. Where there is an Options.BounceDelay, they are not tried
// any more, and bounced after it, unless UndoBounces comes before. A restart forgets what is
// not bounced yet. Bounce returns how many messages it touched.
func (q *Queue) Bounce(ctx context.Context, f Filter, reason string, notice func(Message) *NewMessage) (int, error) {
	return q.cancelEach(ctx, f, cancellation{domain: f.Domain, reason: reason, by: f.By, notice: notice, notBefore: q.clock.now().Add(q.bounceDelay)})
}

// cancellation is a request of the operator to end a message, or its recipients of one
// domain. While it is on the list, the groups that it matches are not claimed.
type cancellation struct {
	entry  *scheduler.Entry
	domain string // "" for the whole message
	reason string
	by     string                    // who asked for it, "" where that is not known
	notice func(Message) *NewMessage // nil: it is removed, without a notice
	// notBefore is when it is applied at the earliest; it can be undone before.
	notBefore scheduler.Time
}

// matches reports whether c ends g.
func (c *cancellation) matches(g *scheduler.Group) bool {
	return !g.State().Ended() && (c.domain == "" || c.domain == g.Domain.Name)
}

// canceledStatus is the enhanced status code of canceled mail.
const canceledStatus = "5.7.0"

// lastError is RecipientState.LastError of canceled recipients.
func (c *cancellation) lastError() string {
	switch {
	case c.notice == nil:
		return canceledStatus + " the operator removed it"
	case c.reason == "":
		return canceledStatus + " the operator gave it up"
	}
	return canceledStatus + " the operator gave it up: " + c.reason
}

// deed is one of two words for what is done: of a removal, or of a bounce.
func (c *cancellation) deed(removal, bounce string) string {
	if c.notice == nil {
		return removal
	}
	return bounce
}

// cancellations has those that are not applied yet.
type cancellations struct {
	one  sync.Mutex // one is applied at a time
	wake signal     // a claim has ended that a cancellation may have waited for
	// list is guarded by Queue.mu, as the states of the groups are.
	list map[*scheduler.Entry][]*cancellation
}

func newCancellations() cancellations {
	return cancellations{wake: newSignal(), list: make(map[*scheduler.Entry][]*cancellation)}
}

// add adds c to the list. It replaces an earlier one for the same recipients.
func (l *cancellations) add(c *cancellation) {
	others := slices.DeleteFunc(l.list[c.entry], func(other *cancellation) bool { return other.domain == c.domain })
	l.list[c.entry] = append(others, c)
}

// remove takes c off the list.
func (l *cancellations) remove(c *cancellation) {
	others := slices.DeleteFunc(l.list[c.entry], func(other *cancellation) bool { return other == c })
	if l.list[c.entry] = others; len(others) == 0 {
		delete(l.list, c.entry)
	}
}

// match reports whether a cancellation matches g.
func (l *cancellations) match(g *scheduler.Group) bool {
	return slices.ContainsFunc(l.list[g.Entry], func(c *cancellation) bool { return c.matches(g) })
}

// all returns the list in the order of the messages.
func (l *cancellations) all() []*cancellation {
	list := slices.Concat(slices.Collect(maps.Values(l.list))...)
	slices.SortStableFunc(list, func(a, b *cancellation) int { return cmp.Compare(a.entry.Seq, b.entry.Seq) })
	return list
}

// check is called when a claim of e has ended: its cancellations may be applied now.
func (l *cancellations) check(e *scheduler.Entry) {
	if len(l.list[e]) > 0 {
		l.wake.raise()
	}
}

func (q *Queue) cancelEach(ctx context.Context, f Filter, like cancellation) (int, error) {
	n := 0
	err := q.List(ctx, f, func(m Message) bool {
		c := like
		if q.cancel(&c, &m) {
			n++
		}
		return true
	})
	return n, q.waitDurable(ctx, err)
}

// cancel adds c to the list, and applies it unless an attempt is under way. It reports
// whether c matches anything.
func (q *Queue) cancel(c *cancellation, m *Message) bool {
	q.cancellations.one.Lock()
	defer q.cancellations.one.Unlock()
	q.mu.Lock()
	e := q.byID[m.ID]
	if e == nil {
		q.mu.Unlock()
		return false
	}
	c.entry = e
	q.cancellations.add(c)
	now := q.clock.now()
	for i := range e.Groups {
		if g := &e.Groups[i]; c.matches(g) {
			q.permitted(e, q.scheduler.Cancel(g, now))
		}
	}
	q.mu.Unlock()
	p := q.apply(c, m)
	switch p {
	case early:
		q.logAction(&Action{Message: m, What: deedUndoable, Reason: c.reason, By: c.by}, c.domain)
		q.cancellations.wake.raise() // for its time
	case beingTried:
		q.logAction(&Action{Message: m, What: c.deed(deedToRemove, deedToBounce), Reason: c.reason, By: c.by}, c.domain)
	}
	return p != nothingLeft
}

// applyCancellations applies, until ctx ends, cancellations that had to wait for the end of
// an attempt.
func (q *Queue) applyCancellations(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(q.untilCancellation())
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-q.cancellations.wake:
		}
		q.applyReady(ctx)
	}
}

// untilCancellation returns how long it is until the next cancellation has its time.
func (q *Queue) untilCancellation() time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.clock.now()
	wait := time.Hour
	for _, c := range q.cancellations.all() {
		if c.notBefore > now {
			wait = min(wait, c.notBefore.Sub(now))
		}
	}
	return wait
}

// BounceDelay is how long a bounce can be undone.
func (q *Queue) BounceDelay() time.Duration { return q.bounceDelay }

// UndoBounces drops the bounces whose time has not come, and returns of how many messages
// these were. Their mail is tried again when it was due.
func (q *Queue) UndoBounces() int {
	q.cancellations.one.Lock()
	defer q.cancellations.one.Unlock()
	q.mu.Lock()
	now := q.clock.now()
	var undone []ID
	for _, c := range q.cancellations.all() {
		if c.notBefore <= now || c.entry.Gone {
			continue
		}
		q.dropLocked(c)
		if id := ID(c.entry.ID); len(undone) == 0 || undone[len(undone)-1] != id { // they are in the order of the messages
			undone = append(undone, id)
		}
	}
	q.mu.Unlock()
	for _, id := range undone {
		q.log.Info("a bounce was undone by the operator", "queue_id", id.String())
	}
	return len(undone)
}

func (q *Queue) applyReady(ctx context.Context) {
	q.cancellations.one.Lock()
	defer q.cancellations.one.Unlock()
	q.mu.Lock()
	list := q.cancellations.all()
	q.mu.Unlock()
	for _, c := range list {
		if ctx.Err() != nil {
			return
		}
		q.apply(c, nil)
	}
}

// progress is the state of a cancellation.
type progress int

const (
	nothingLeft progress = iota // it matches nothing, and is no longer on the list
	early                       // its time has not come; it stays on the list
	beingTried                  // a group that it matches is claimed, or a drain is sending it; it stays on the list
	changed                     // the message has changed since it was read
	ready                       // it can be applied
	applied
)

// apply applies c, whose message is m (nil: to be read). If the message changes while its
// notice is made, it is read again.
func (q *Queue) apply(c *cancellation, m *Message) progress {
	for {
		groups, p := q.progressOf(c, m)
		if p == ready {
			part := m.part(groups)
			var notices []NewMessage
			if c.notice != nil {
				if n := c.notice(part); n != nil {
					notices = []NewMessage{*n}
				}
			}
			var copied *Incoming
			if c.notice == nil && q.othersNeed(c.entry, len(groups)) {
				copied = q.copyBody(c.entry, m)
			}
			if p = q.applyNow(c, m, notices, copied); p == applied {
				q.logAction(&Action{Message: &part, What: c.deed(deedRemoved, deedBounced), Reason: c.reason, By: c.by}, c.domain)
				LogNotices(q.log, &part.Envelope, notices)
			} else if copied != nil {
				copied.Abort()
			}
		}
		if p != changed {
			return p
		}
		read, ok, err := q.message(c.entry)
		if err != nil {
			q.log.Error("a message cannot be removed or bounced by the operator: it cannot be read", "queue_id", ID(c.entry.ID).String(), "error", err)
		}
		if err != nil || !ok {
			q.mu.Lock()
			q.dropLocked(c)
			q.mu.Unlock()
			return nothingLeft
		}
		m = &read
	}
}

func (q *Queue) progressOf(c *cancellation, m *Message) ([]int, progress) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.progressLocked(c, m)
}

// progressLocked returns the groups that c matches now, by number.
func (q *Queue) progressLocked(c *cancellation, m *Message) (groups []int, p progress) {
	e := c.entry
	busy := q.handover.sending[e]
	for i := range e.Groups {
		if g := &e.Groups[i]; c.matches(g) {
			groups = append(groups, i)
			busy = busy || g.State().Busy()
		}
	}
	switch {
	case e.Gone || len(groups) == 0:
		q.dropLocked(c)
		return nil, nothingLeft
	case c.notBefore > q.clock.now():
		return nil, early
	case busy:
		return nil, beingTried
	case m == nil || m.changes != e.Changes():
		return nil, changed
	}
	return groups, ready
}

// dropLocked removes c from the list; the groups that it matches can be claimed again.
func (q *Queue) dropLocked(c *cancellation) {
	e := c.entry
	q.cancellations.remove(c)
	now := q.clock.now()
	for i := range e.Groups {
		if g := &e.Groups[i]; c.matches(g) && !q.cancellations.match(g) {
			q.permitted(e, q.scheduler.Uncancel(g, now))
		}
	}
	q.wake.raise()
}

// othersNeed reports whether e has more than n groups that need its body.
func (q *Queue) othersNeed(e *scheduler.Entry, n int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return int(e.Left) > n
}

// applyNow ends the groups of m that c matches, and deletes the message with the last one.
// Removed recipients go into the trash, with the body, or with a copy of it if other
// recipients still need the body.
func (q *Queue) applyNow(c *cancellation, m *Message, notices []NewMessage, copied *Incoming) progress {
	q.mu.Lock()
	defer q.mu.Unlock()
	groups, p := q.progressLocked(c, m)
	if p != ready {
		return p
	}
	e := c.entry
	b, chunks := new(store.Batch), 0
	if copied != nil {
		b, chunks = copied.handOver()
	}
	b.RetryWhenFull()
	generated := q.addGeneratedLocked(notices, &m.Envelope, b)
	now := q.clock.now()
	for _, n := range groups {
		q.permitted(e, q.scheduler.End(&e.Groups[n], now))
	}
	whole := e.Left == 0
	kept := whole && copied == nil && c.notice == nil && q.trash.takes(m.Size) // the body, for the trash
	var trashed *trashItem
	switch part := m.waiting(groups); {
	case copied != nil:
		trashed = q.addTrashed(&part, copied.entry.Seq, chunks, false, b)
	case kept:
		trashed = q.addTrashed(&part, e.Seq, m.Chunks, false, b)
	}
	if whole {
		deleteState(e, b)
		if !kept {
			deleteBody(e.Seq, m.Chunks, b)
		}
		q.forgetLocked(e)
	} else {
		c.writeEnds(m, groups, b)
		e.HasRecords = true
	}
	q.dropLocked(c)
	q.submitGeneratedLocked(b, generated, func(err error) {
		if copied != nil && !errors.Is(err, store.ErrClosed) { // then the lock is held
			copied.handedOver()
		}
		if err != nil {
			q.log.Error("what the operator gave up could not be written", "queue_id", ID(e.ID).String(), "error", err)
		}
	})
	q.trash.add(trashed)
	return applied
}

// writeEnds adds the records of canceled groups of m to b.
func (c *cancellation) writeEnds(m *Message, groups []int, b *store.Batch) {
	members := split(m.Recipients)
	for _, n := range groups {
		rec := m.records[n]
		rec.Attempts, rec.Done = int(c.entry.Groups[n].Attempts), true
		rec.States = make([]RecipientState, len(members[n]))
		for i, r := range members[n] {
			rec.States[i] = m.States[r]
			if s := &rec.States[i]; s.State == Queued {
				s.State, s.LastError, s.LastReply, s.ReasonCode, s.Status = Bounced, c.lastError(), "", "", canceledStatus
			}
		}
		b.Set(groupKey(c.entry.Seq, n), encode(rec))
	}
}

// removeLocked deletes a whole message; the recipients that have no end yet go into the
// trash. It reports true, for Queue.each.
func (q *Queue) removeLocked(e *scheduler.Entry, m *Message) bool {
	var b store.Batch
	var groups []int
	for i := range e.Groups {
		if !e.Groups[i].State().Ended() {
			groups = append(groups, i)
		}
	}
	var trashed *trashItem
	if left := m.waiting(groups); len(left.Recipients) > 0 && q.trash.takes(m.Size) {
		deleteState(e, &b)
		trashed = q.addTrashed(&left, e.Seq, m.Chunks, stateOf(e) == Active || q.handover.sending[e], &b)
	} else {
		deleteRecords(e, m.Chunks, &b)
	}
	q.forgetLocked(e)
	q.write(&b)
	q.trash.add(trashed)
	return true
}

// waiting is like part, without the recipients that have an end already.
func (m *Message) waiting(groups []int) Message {
	p := m.part(groups)
	for i := len(p.States) - 1; i >= 0; i-- {
		if p.States[i].State != Queued {
			p.Recipients, p.States, p.Waits = slices.Delete(p.Recipients, i, i+1), slices.Delete(p.States, i, i+1), slices.Delete(p.Waits, i, i+1)
		}
	}
	return p
}

// part returns m as if it had been sent only to the recipients of these groups.
func (m *Message) part(groups []int) Message {
	p := *m
	p.Recipients, p.States, p.Waits, p.Attempts, p.records = nil, nil, nil, 0, nil
	members := split(m.Recipients)
	var chosen []int
	for _, n := range groups {
		chosen = append(chosen, members[n]...)
	}
	slices.Sort(chosen) // in the order in which they were given
	for _, r := range chosen {
		p.Recipients = append(p.Recipients, m.Recipients[r])
		p.States = append(p.States, m.States[r])
		p.Waits = append(p.Waits, m.Waits[r])
		p.Attempts = max(p.Attempts, m.States[r].Attempts)
	}
	return p
}

package queue

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
)

// Remove ends the selected messages; nobody is told. With Filter.Domain only
// their recipients of that domain are ended, and the message stays for the
// others. A whole message is deleted at once, and a delivery of it that is under
// way ends as it may; recipients of a domain that are being tried are ended when
// the attempt has ended without ending them. It returns how many messages it
// touched.
//
// What is removed lies in the trash for TrashTime, as far as there is room for it.
func (q *Queue) Remove(ctx context.Context, f Filter) (int, error) {
	defer q.emptyTrash(time.Time{}) // what is over its bounds
	if f.Domain != "" {
		return q.giveUpEach(ctx, f, giveUp{domain: f.Domain})
	}
	return q.each(ctx, f, "removed by the operator", "", func(e *entry, m *Message) bool {
		q.remove(e, m)
		return true
	})
}

// Bounce gives the selected messages up: each is replaced by the notice that
// notice makes of it (nil: none) in one commit. With Filter.Domain only their
// recipients of that domain are given up, and the message stays for the others.
// notice gets the message with those recipients that are given up and no
// others; it may read the queue. What is being tried at the moment is not tried
// again and given up when the attempt has ended without ending it; a restart
// forgets that. It returns how many messages it touched.
func (q *Queue) Bounce(ctx context.Context, f Filter, reason string, notice func(Message) *NewMessage) (int, error) {
	return q.giveUpEach(ctx, f, giveUp{domain: f.Domain, reason: reason, notice: notice})
}

// giveUp is the operator's will that a message ends, or its recipients of one
// domain. It is on the list Queue.giveUps until it is done: none of the units
// that it covers is claimed then.
type giveUp struct {
	entry  *entry
	domain string // "" for the whole message
	reason string
	notice func(Message) *NewMessage // nil: it is removed, and nobody is told
}

func (g *giveUp) covers(u *unit) bool {
	return !u.done && (g.domain == "" || g.domain == u.domain.name)
}

// removedStatus is the enhanced status code of mail that the operator gave up.
const removedStatus = "5.7.0"

// lastError is what stands in the place of the last attempt's error.
func (g *giveUp) lastError() string {
	switch {
	case g.notice == nil:
		return removedStatus + " the operator removed it"
	case g.reason == "":
		return removedStatus + " the operator gave it up"
	}
	return removedStatus + " the operator gave it up: " + g.reason
}

func (g *giveUp) verb() string {
	if g.notice == nil {
		return "removed"
	}
	return "bounced"
}

// givenUp says that u is to be ended without another attempt.
func (q *Queue) givenUp(u *unit) bool {
	return len(q.giveUps) > 0 && slices.ContainsFunc(q.giveUps[u.msg], func(g *giveUp) bool { return g.covers(u) })
}

func (q *Queue) giveUpEach(ctx context.Context, f Filter, like giveUp) (int, error) {
	n := 0
	err := q.List(ctx, f, func(m Message) bool {
		g := like
		if q.begin(&g, &m) {
			n++
		}
		return true
	})
	return n, q.settled(ctx, err)
}

// begin puts g on the list and does it, unless an attempt is under way. It says
// whether there is something to be ended.
func (q *Queue) begin(g *giveUp, m *Message) bool {
	q.ending.Lock()
	defer q.ending.Unlock()
	q.mu.Lock()
	e := q.byID[m.ID]
	if e == nil {
		q.mu.Unlock()
		return false
	}
	g.entry = e
	list := slices.DeleteFunc(q.giveUps[e], func(other *giveUp) bool { return other.domain == g.domain }) // the last word counts
	q.giveUps[e] = append(list, g)
	for i := range e.units {
		if u := &e.units[i]; g.covers(u) {
			q.unwait(u)
			q.place(u.domain, q.clock())
		}
	}
	q.mu.Unlock()
	p := q.end(g, m)
	if p == beingTried {
		q.tell(m, "to be "+g.verb()+" by the operator when the attempt under way has ended", g.domain, g.reason)
	}
	return p != nothingLeft
}

// endGivenUp ends what was given up while it was being tried, until ctx ends.
func (q *Queue) endGivenUp(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-q.endWake:
			q.endReady(ctx)
		}
	}
}

func (q *Queue) endReady(ctx context.Context) {
	q.ending.Lock()
	defer q.ending.Unlock()
	q.mu.Lock()
	list := slices.Concat(slices.Collect(maps.Values(q.giveUps))...)
	q.mu.Unlock()
	slices.SortStableFunc(list, func(a, b *giveUp) int { return cmp.Compare(a.entry.seq, b.entry.seq) })
	for _, g := range list {
		if ctx.Err() != nil {
			return
		}
		q.end(g, nil)
	}
}

// progress is where a giveUp stands.
type progress int

const (
	nothingLeft progress = iota // of what it covers, and it is off the list
	beingTried                  // some of it, so it stays on the list
	changed                     // the message that was read is not that of now
	ready                       // to be ended
	ended
)

// end does g, whose message is m (nil: to be read). A message that changes while
// its notice is made is looked at again.
func (q *Queue) end(g *giveUp, m *Message) progress {
	for {
		units, p := q.look(g, m)
		if p == ready {
			part := m.part(units)
			var notices []NewMessage
			if g.notice != nil {
				if n := g.notice(part); n != nil {
					notices = []NewMessage{*n}
				}
			}
			var copied *Incoming
			if g.notice == nil && q.othersNeed(g.entry, len(units)) {
				copied = q.copyBody(g.entry, m)
			}
			if p = q.endNow(g, m, notices, copied); p == ended {
				q.tell(&part, g.verb()+" by the operator", g.domain, g.reason)
				LogNotices(q.log, &part.Envelope, notices)
			} else if copied != nil {
				copied.Abort()
			}
		}
		if p != changed {
			return p
		}
		read, ok, err := q.message(g.entry)
		if err != nil {
			q.log.Error("a message cannot be "+g.verb()+" by the operator: it cannot be read", "queue_id", g.entry.id.String(), "error", err)
		}
		if err != nil || !ok {
			q.mu.Lock()
			q.abandon(g)
			q.mu.Unlock()
			return nothingLeft
		}
		m = &read
	}
}

func (q *Queue) look(g *giveUp, m *Message) ([]int, progress) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.lookLocked(g, m)
}

// lookLocked returns the units that g covers now, by number.
func (q *Queue) lookLocked(g *giveUp, m *Message) (units []int, p progress) {
	e := g.entry
	busy := false
	for i := range e.units {
		if u := &e.units[i]; g.covers(u) {
			units = append(units, i)
			busy = busy || u.active
		}
	}
	switch {
	case e.gone || len(units) == 0:
		q.abandon(g)
		return nil, nothingLeft
	case busy:
		return nil, beingTried
	case m == nil || m.changes != e.changes():
		return nil, changed
	}
	return units, ready
}

// abandon takes g off the list; what it covers can be claimed again.
func (q *Queue) abandon(g *giveUp) {
	e := g.entry
	list := slices.DeleteFunc(q.giveUps[e], func(other *giveUp) bool { return other == g })
	if q.giveUps[e] = list; len(list) == 0 {
		delete(q.giveUps, e)
	}
	now := q.clock()
	for i := range e.units {
		if u := &e.units[i]; g.covers(u) {
			q.wait(u)
			q.place(u.domain, now)
		}
	}
	q.signal()
}

// othersNeed reports whether there are more than n units of e that need its body.
func (q *Queue) othersNeed(e *entry, n int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return int(e.left) > n
}

// endNow ends what g covers of m: with its last unit the message is deleted. What
// is removed goes into the trash with the body, or with the copy of it that others
// do not need.
func (q *Queue) endNow(g *giveUp, m *Message, notices []NewMessage, copied *Incoming) progress {
	q.mu.Lock()
	defer q.mu.Unlock()
	units, p := q.lookLocked(g, m)
	if p != ready {
		return p
	}
	e := g.entry
	b, chunks := new(store.Batch), 0
	if copied != nil {
		b, chunks = copied.handOver()
	}
	b.Patient()
	for _, n := range units {
		ifUntouched(&e.units[n], int(e.units[n].attempts), b)
	}
	own := q.addOwn(notices, b)
	now := q.clock()
	for _, n := range units {
		q.conclude(&e.units[n], now)
	}
	whole := e.left == 0
	kept := whole && copied == nil && g.notice == nil && q.trash.takes(m.Size) // where the body is
	switch part := m.waiting(units); {
	case copied != nil:
		q.throwAway(&part, copied.entry.seq, chunks, false, b)
	case kept:
		q.throwAway(&part, e.seq, m.Chunks, false, b)
	}
	if whole {
		q.deleteState(e, b)
		if !kept {
			q.deleteBody(e.seq, m.Chunks, b)
		}
		q.forget(e)
	} else {
		groups := split(m.Recipients)
		for _, n := range units {
			rec := m.records[n]
			rec.Attempts, rec.Done = int(e.units[n].attempts), true
			rec.States = make([]RecipientState, len(groups[n]))
			for i, r := range groups[n] {
				rec.States[i] = m.States[r]
				if s := &rec.States[i]; s.State == Queued {
					s.State, s.LastError, s.LastReply, s.ReasonCode, s.Status = Bounced, g.lastError(), "", "", removedStatus
				}
			}
			b.Set(unitKey(e.seq, n), encode(rec))
		}
		e.stateKept = true
	}
	q.abandon(g)
	q.submitOwn(b, own, func(err error) {
		if copied != nil {
			copied.handedOver()
		}
		switch {
		case errors.Is(err, store.ErrChanged):
			q.log.Warn("a message was changed elsewhere while it was given up here; it stays as it is there", "queue_id", e.id.String())
			q.follower.changed(messageKey(e.seq))
		case err != nil:
			q.log.Error("what the operator gave up could not be written", "queue_id", e.id.String(), "error", err)
		}
	})
	return ended
}

// remove deletes a whole message, or puts it into the trash: those of its
// recipients that have no end yet.
func (q *Queue) remove(e *entry, m *Message) {
	var b store.Batch
	ifThere(e, &b)
	var units []int
	for i := range e.units {
		if !e.units[i].done {
			units = append(units, i)
		}
	}
	if left := m.waiting(units); len(left.Recipients) > 0 && q.trash.takes(m.Size) {
		q.deleteState(e, &b)
		q.throwAway(&left, e.seq, m.Chunks, e.state() == Active, &b)
	} else {
		q.deleteRecords(e, m.Chunks, &b)
	}
	q.drop(e)
	q.write(&b)
}

// waiting is part without the recipients that have an end already.
func (m *Message) waiting(units []int) Message {
	p := m.part(units)
	for i := len(p.States) - 1; i >= 0; i-- {
		if p.States[i].State != Queued {
			p.Recipients, p.States, p.Rests = slices.Delete(p.Recipients, i, i+1), slices.Delete(p.States, i, i+1), slices.Delete(p.Rests, i, i+1)
		}
	}
	return p
}

// part is m as if it had been sent to the recipients of these units only.
func (m *Message) part(units []int) Message {
	p := *m
	p.Recipients, p.States, p.Rests, p.Attempts, p.records = nil, nil, nil, 0, nil
	groups := split(m.Recipients)
	var chosen []int
	for _, n := range units {
		chosen = append(chosen, groups[n]...)
	}
	slices.Sort(chosen) // in the order in which they were given
	for _, r := range chosen {
		p.Recipients = append(p.Recipients, m.Recipients[r])
		p.States = append(p.States, m.States[r])
		p.Rests = append(p.Rests, m.Rests[r])
		p.Attempts = max(p.Attempts, m.States[r].Attempts)
	}
	return p
}

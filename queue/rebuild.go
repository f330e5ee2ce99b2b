package queue

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
)

const (
	// overdueSpread is the longest time over which retries that are overdue at
	// start are spread, overduePace the time that each of them adds to it.
	overdueSpread = time.Minute
	overduePace   = 2 * time.Millisecond
	// lowEvery is how often the low-water number is written.
	lowEvery = 5 * time.Second
	// sweepBatch is how many chunks are deleted in one transaction.
	sweepBatch = 1000
)

// rebuild reads envelopes and states, not bodies. It reports whether all of them
// could be read.
func (q *Queue) rebuild() (sound bool, err error) {
	start := time.Now()
	low, err := q.number(keyLow)
	if err != nil {
		return false, err
	}
	if q.nextSeq, err = q.number(keySeq); err != nil {
		return false, err
	}
	q.leasedSeq = q.nextSeq
	q.lowWritten = low
	r := rebuilder{q: q, now: q.clock(), wall: q.now(), low: low}
	if err := r.readFlights(); err != nil {
		q.log.Error("the list of deliveries that were under way cannot be read", "error", err)
		r.unsound = true
	}
	if err := r.scan(); err != nil {
		return false, err
	}
	r.finish()
	if err := q.loadTrash(); err != nil {
		return false, err
	}
	r.spread()
	if n := q.counts.Messages; n > 0 {
		q.log.Info("queue opened", "messages", n, "recipients", q.counts.Recipients, "held", q.counts.Held, "took_seconds", time.Since(start).Round(time.Millisecond).Seconds())
	}
	return !r.unsound, nil
}

func (q *Queue) number(key []byte) (n uint64, err error) {
	err = q.store.View(key, func(v []byte) error {
		n = binary.BigEndian.Uint64(v)
		return nil
	})
	return n, err
}

type rebuilder struct {
	q        *Queue
	now      int64
	wall     time.Time
	low      uint64 // the low-water number
	flights  map[flight]bool
	cur      *entry // the message whose records are being read
	released bool   // cur was held, and is not any more
	overdue  []*unit
	unsound  bool // something could not be read
}

func (r *rebuilder) readFlights() error {
	r.flights = make(map[flight]bool)
	return r.q.store.View(keyInFlight, func(v []byte) error {
		var list []flight
		err := decode(v, &list)
		for _, f := range list {
			r.flights[f] = true
		}
		return err
	})
}

// scan reads all records. One that cannot be read stays where it is, for a
// person to look at, and keeps nothing else from its way.
func (r *rebuilder) scan() error {
	var from []byte
	for {
		err := r.q.store.Scan(store.PrefixMessage, from, r.record)
		damaged, ok := errors.AsType[*store.ValueError](err)
		if !ok {
			return err
		}
		r.unreadable(damaged.Key, err)
		from = append(damaged.Key, 0)
	}
}

// unreadable logs a damaged record. In the place of an envelope it leaves an
// entry that is never accepted, so that the body is not swept as an orphan.
func (r *rebuilder) unreadable(k []byte, err error) {
	r.unsound = true
	r.q.log.Error("a record of the queue cannot be read; it is left where it is", "key", fmt.Sprintf("%x", k), "error", err)
	if seq, n, ok := parseMessageKey(k); ok && n < 0 {
		r.finish()
		r.q.counts.Unreadable++
		r.q.nextSeq = max(r.q.nextSeq, seq+1)
		r.q.link(&entry{seq: seq})
	}
}

// record takes in one record; those of a message follow its envelope.
func (r *rebuilder) record(k, v []byte) error {
	seq, n, ok := parseMessageKey(k)
	if !ok {
		return nil
	}
	var err error
	switch {
	case n < 0:
		r.finish()
		var env Envelope
		if err = decode(v, &env); err == nil {
			r.begin(seq, &env)
		}
	case r.cur == nil || r.cur.seq != seq: // the state of a message that is gone
	case n == holdSuffix:
		var hold holdRecord
		r.cur.stateKept = true
		r.released = decode(v, &hold) == nil && hold.Released
		if !r.released {
			r.cur.held = true
			r.q.counts.Held++
		}
		if hold.Unreadable {
			r.q.countUnreadable(r.cur)
		}
	case n < len(r.cur.units):
		var rec unitRecord
		if err = decode(v, &rec); err == nil {
			r.unit(&r.cur.units[n], rec)
		}
	}
	if err != nil {
		r.unreadable(slices.Clone(k), err)
	}
	return nil
}

func (r *rebuilder) begin(seq uint64, env *Envelope) {
	q := r.q
	e := &entry{seq: seq, id: env.ID}
	e.receivedAt = r.now - int64(max(r.wall.Sub(env.ReceivedAt), 0))
	q.nextSeq = max(q.nextSeq, seq+1)
	q.lastMS = max(q.lastMS, env.ID.Time()+1) // new IDs sort after it, whatever the clock says
	q.link(e)
	q.index(e, env)
	r.cur, r.released = e, false
}

func (r *rebuilder) unit(u *unit, rec unitRecord) {
	q := r.q
	r.cur.stateKept = true
	u.attempts = uint16(rec.Attempts)
	left := int32(0)
	for _, s := range rec.States {
		if s.State != Queued {
			continue
		}
		left++
		if s.LastError != "" {
			u.domain.last = s.Reason()
		}
	}
	q.counts.Recipients -= int(u.recipients - left)
	u.recipients = left
	if rec.Done {
		u.done = true
		u.domain.leave(u)
		u.msg.left--
		return
	}
	if rec.told() {
		u.isTold()
	}
	// A clock that was set back must not make the wait longer than it was.
	wait := min(rec.NextAttempt.Sub(r.wall), rec.NextAttempt.Sub(rec.LastAttempt))
	u.due = r.now + int64(wait)
	if wait <= 0 {
		r.overdue = append(r.overdue, u)
	}
}

// finish puts the units of the message that was read into the schedule. A
// message below the low-water number had left the queue, and its keys have come
// back: it is held for the operator.
func (r *rebuilder) finish() {
	q, e := r.q, r.cur
	r.cur = nil
	if e == nil {
		return
	}
	if e.seq < r.low && !r.released {
		q.log.Error("a message that had left the queue has come back; it is held", "queue_id", e.id.String())
		q.hold(e, "it had left the queue before and has come back (low-water guard): release it only if it was never delivered")
	}
	for i := range e.units {
		u := &e.units[i]
		if r.flights[flight{Seq: e.seq, Unit: u.number, Attempts: u.attempts}] && !u.done {
			q.log.Warn("the last run ended during a delivery of this message: it may have been delivered; it is tried again later",
				"queue_id", e.id.String(), "domain", u.domain.name)
			u.due = max(u.due, r.now+int64(q.schedule.wait(1)))
		}
		q.wait(u)
		q.place(u.domain, r.now)
	}
}

// spread gives overdue retries a moment of their own each, so that a start
// after an outage is no stampede.
func (r *rebuilder) spread() {
	over := min(overdueSpread, time.Duration(len(r.overdue))*overduePace)
	for _, u := range r.overdue {
		if u.heapIndex < 0 || over <= 0 || u.due > r.now { // held, or in flight at the crash
			continue
		}
		r.q.unwait(u)
		u.due = r.now + rand.Int64N(int64(over))
		r.q.wait(u)
		r.q.place(u.domain, r.now)
	}
	r.overdue = nil
}

// sweepOrphans deletes bodies whose envelope was never committed: their sender
// got no 250. Only numbers below firstNew are looked at.
func (q *Queue) sweepOrphans(ctx context.Context, firstNew uint64) {
	q.mu.Lock()
	live := make([]uint64, 0, q.counts.Messages+len(q.trash.items))
	for e := q.first; e != nil; e = e.next {
		live = append(live, e.seq)
	}
	for _, i := range q.trash.items {
		live = append(live, i.seq)
	}
	q.mu.Unlock()
	slices.Sort(live)
	orphans, chunks := new(store.Batch), 0
	err := q.store.ScanKeys(store.PrefixBody, nil, func(k []byte) error {
		if ctx.Err() != nil || len(k) != len(store.PrefixBody)+12 {
			return ctx.Err()
		}
		seq := binary.BigEndian.Uint64(k[len(store.PrefixBody):])
		if seq >= firstNew {
			return store.Stop
		}
		for len(live) > 0 && live[0] < seq {
			live = live[1:]
		}
		if len(live) == 0 || live[0] != seq {
			orphans.Delete(slices.Clone(k))
			chunks++
		}
		if orphans.Len() == sweepBatch {
			q.write(orphans)
			orphans = new(store.Batch)
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		q.log.Error("what was left of messages that were never accepted cannot be looked for", "error", err)
	}
	if orphans.Len() > 0 {
		q.write(orphans)
	}
	if chunks > 0 {
		q.log.Info("removed what was left of messages that were never accepted", "chunks", chunks)
	}
}

// keepLow writes the low-water number now and then: the number of the oldest
// message that is in the queue or coming in. The next start begins there.
func (q *Queue) keepLow(ctx context.Context) {
	t := time.NewTicker(lowEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			q.writeLow()
			return
		case <-t.C:
			q.writeLow()
		}
	}
}

func (q *Queue) writeLow() {
	q.mu.Lock()
	defer q.mu.Unlock()
	low := q.nextSeq
	for e := q.first; e != nil; e = e.next {
		if e.seq >= q.lowWritten { // those below have come back and are held
			low = e.seq
			break
		}
	}
	if low <= q.lowWritten {
		return
	}
	q.lowWritten = low
	var b store.Batch
	b.Set(keyLow, binary.BigEndian.AppendUint64(nil, low))
	q.write(&b)
}

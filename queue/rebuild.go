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
	"github.com/stsrelay/stsrelay/queue/scheduler"
)

const (
	// Retries that are overdue at start are spread over a time: overduePace for each,
	// and overdueSpread at most.
	overdueSpread = time.Minute
	overduePace   = 2 * time.Millisecond
	// lowEvery is how often the low-water number is written.
	lowEvery = 5 * time.Second
	// sweepBatch is how many chunks are deleted in one transaction.
	sweepBatch = 1000
)

// rebuild reads envelopes and states, not bodies. sound reports whether all of them could
// be read.
func (q *Queue) rebuild() (sound bool, err error) {
	start := time.Now()
	low, err := q.number(keyLow)
	if err != nil {
		return false, err
	}
	if q.sequence.next, err = q.number(keySeq); err != nil {
		return false, err
	}
	q.sequence.leased = q.sequence.next
	q.sequence.low = low
	r := rebuilder{q: q, now: q.clock.now(), wall: q.clock.wall()}
	if r.last, err = q.readSeen(); err != nil {
		return false, err
	}
	if err := r.readInFlight(); err != nil {
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
	if n := q.scheduler.Counts(); n.Messages > 0 {
		q.log.Info("queue opened", "messages", n.Messages, "recipients", n.Recipients, "held", n.Held, "took_seconds", time.Since(start).Round(time.Millisecond).Seconds())
	}
	q.spare(r.last)
	return !r.unsound, nil
}

func (q *Queue) number(key []byte) (n uint64, err error) {
	err = q.store.View(key, func(v []byte) error {
		n = binary.BigEndian.Uint64(v)
		return nil
	})
	return n, err
}

// rebuilder brings the messages of the store into memory at start, when nothing else
// uses the queue.
type rebuilder struct {
	q        *Queue
	now      scheduler.Time
	wall     time.Time
	inFlight map[inFlightRef]bool
	cur      *scheduler.Entry // the message whose records are being read
	released bool             // cur was held, and is not any more
	overdue  []*scheduler.Group
	last     seenRecord
	newest   time.Time // when the last message came in, by the wall clock of then, if that is not to come
	unsound  bool      // something could not be read
}

func (r *rebuilder) readInFlight() error {
	r.inFlight = make(map[inFlightRef]bool)
	return r.q.store.View(keyInFlight, func(v []byte) error {
		var list []inFlightRef
		err := decode(v, &list)
		for _, ref := range list {
			r.inFlight[ref] = true
		}
		return err
	})
}

// scan reads all records. One that cannot be read stays in the store, for a person to look
// at, and does not affect the others.
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
		r.q.unreadable++
		r.q.sequence.used(seq)
		r.q.scheduler.Enter(&scheduler.Entry{Seq: seq})
	}
}

// record adds one record; those of a message follow its envelope.
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
	case r.cur == nil || r.cur.Seq != seq: // the state of a message that has no envelope
	case n == holdSuffix:
		var hold holdRecord
		r.cur.HasRecords = true
		r.released = decode(v, &hold) == nil && hold.Released
		if !r.released {
			r.q.permitted(r.cur, r.q.scheduler.Hold(r.cur, r.now))
		}
		if hold.Unreadable {
			r.q.unreadableLocked(r.cur)
		}
	case n < len(r.cur.Groups):
		var rec groupRecord
		if err = decode(v, &rec); err == nil {
			r.group(&r.cur.Groups[n], &rec)
		}
	}
	if err != nil {
		r.unreadable(slices.Clone(k), err)
	}
	return nil
}

func (r *rebuilder) begin(seq uint64, env *Envelope) {
	q := r.q
	e := &scheduler.Entry{Seq: seq}
	q.sequence.used(seq)
	q.ids.after(env.ID)
	q.scheduler.Enter(e)
	env.ReceivedAt = r.last.received(seq, env.ReceivedAt, r.newest, r.wall)
	q.acceptLocked(e, env, r.now)
	if env.ReceivedAt.After(r.newest) && !env.ReceivedAt.After(r.wall) {
		r.newest = env.ReceivedAt
	}
	r.cur, r.released = e, false
}

func (r *rebuilder) group(g *scheduler.Group, rec *groupRecord) {
	r.cur.HasRecords = true
	saved := rec.saved(r.now, r.wall)
	r.q.permitted(r.cur, r.q.scheduler.Restore(g, saved))
	if saved.Due <= r.now && !g.State().Ended() {
		r.overdue = append(r.overdue, g)
	}
}

// finish schedules the message whose records were read. If its number is below the
// low-water number, it had left the queue before and its keys have come back: it is held
// for the operator.
func (r *rebuilder) finish() {
	q, e := r.q, r.cur
	r.cur = nil
	if e == nil {
		return
	}
	if e.Seq < q.sequence.low && !r.released {
		q.log.Error("a message that had left the queue has come back; it is held", "queue_id", ID(e.ID).String())
		q.holdLocked(e, holdRecord{Reason: "it had left the queue before and has come back (low-water guard): release it only if it was never delivered"})
	}
	for i := range e.Groups {
		g := &e.Groups[i]
		if r.inFlight[inFlightRef{Seq: e.Seq, Group: g.Number, Attempts: g.Attempts}] && !g.State().Ended() {
			q.log.Warn("the last run ended during a delivery of this message: it may have been delivered; it is tried again later",
				"queue_id", ID(e.ID).String(), "domain", g.Domain.Name)
			q.scheduler.SetDue(g, max(g.Due, r.now.Add(q.scheduler.Wait(1))), r.now)
		}
	}
	q.permitted(e, q.scheduler.Start(e, r.now))
}

// spread makes overdue retries due at different times, so that not all of them begin at
// once after an outage.
func (r *rebuilder) spread() {
	over := min(overdueSpread, time.Duration(len(r.overdue))*overduePace)
	for _, g := range r.overdue {
		if g.State() != scheduler.Waiting || over <= 0 || g.Due > r.now { // held, or in flight at the crash
			continue
		}
		r.q.scheduler.SetDue(g, r.now.Add(rand.N(over)), r.now) //nolint:gosec // it spreads load; nobody gains by guessing
	}
	r.overdue = nil
}

// sweepOrphans deletes bodies whose envelope was never committed: their sender
// got no 250. Only numbers below firstNew are looked at.
func (q *Queue) sweepOrphans(ctx context.Context, firstNew uint64) {
	q.mu.Lock()
	trashed := q.trash.all()
	live := make([]uint64, 0, q.scheduler.Counts().Messages+len(trashed))
	for e := q.scheduler.First(); e != nil; e = e.Next() {
		live = append(live, e.Seq)
	}
	for _, i := range trashed {
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

// keepLow writes the low-water number every few seconds: the number of the oldest message
// that is in the queue or is being received. At the next start nothing below it is
// expected.
func (q *Queue) keepLow(ctx context.Context) {
	t := time.NewTicker(lowEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			q.writeLow()
			q.noteSeen(true)
			return
		case <-t.C:
			q.writeLow()
			q.noteSeen(false)
		}
	}
}

func (q *Queue) writeLow() {
	q.mu.Lock()
	defer q.mu.Unlock()
	low := q.sequence.next
	for e := q.scheduler.First(); e != nil; e = e.Next() {
		if e.Seq >= q.sequence.low { // messages below it have come back and are held
			low = e.Seq
			break
		}
	}
	if low <= q.sequence.low {
		return
	}
	q.sequence.low = low
	var b store.Batch
	b.Set(keyLow, binary.BigEndian.AppendUint64(nil, low))
	q.write(&b)
}

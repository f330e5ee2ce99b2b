package queue

import (
	"encoding/binary"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/queue/scheduler"
)

// holdLocked keeps e from being tried. It reports whether e was not held; the hold of a
// drain does not count. What a drain is sending stays as it is.
func (q *Queue) holdLocked(e *scheduler.Entry, rec holdRecord) bool {
	if e.Held && !q.handover.reserved[e] || q.handover.sending[e] {
		return false
	}
	delete(q.handover.reserved, e)
	q.permitted(e, q.scheduler.Hold(e, q.clock.now()))
	e.HasRecords = true
	var b store.Batch
	rec.Since = q.clock.wall().UTC()
	b.Set(holdKey(e.Seq), encode(rec))
	q.write(&b)
	return true
}

// unholdLocked releases e. It reports whether e was held, by anything but a drain. What a
// drain is sending stays held: it would be delivered twice.
func (q *Queue) unholdLocked(e *scheduler.Entry, _ *Message) bool {
	if !e.Held || q.handover.reserved[e] || q.handover.sending[e] {
		return false
	}
	q.readableLocked(e)
	var b store.Batch
	if e.Seq < q.sequence.low {
		b.Set(holdKey(e.Seq), encode(holdRecord{Since: q.clock.wall().UTC(), Released: true}))
	} else {
		b.Delete(holdKey(e.Seq))
	}
	q.write(&b)
	q.permitted(e, q.scheduler.Unhold(e, q.clock.now()))
	return true
}

// unreadableReason is why a message is held that the store cannot read.
const unreadableReason = "this relay cannot read it from its disk"

// holdUnreadableLocked holds a message that the store cannot read. If it were tried until
// it expires, its sender would be told that the recipient's host is at fault.
func (q *Queue) holdUnreadableLocked(e *scheduler.Entry, err error) {
	q.log.Error("a queued message cannot be read; it is held", "queue_id", ID(e.ID).String(), "error", err)
	q.holdLocked(e, holdRecord{Reason: unreadableReason + ": " + err.Error(), Unreadable: true})
	q.unreadableLocked(e)
}

// unreadableLocked counts a message that the store cannot read.
func (q *Queue) unreadableLocked(e *scheduler.Entry) {
	if !e.Unreadable {
		e.Unreadable = true
		q.unreadable++
	}
}

// readableLocked ends that, for a message that was released or is gone.
func (q *Queue) readableLocked(e *scheduler.Entry) {
	if e.Unreadable {
		e.Unreadable = false
		q.unreadable--
	}
}

// holdDamaged holds the messages whose body has damaged chunks, given the keys of all
// damaged values. Damaged envelopes were found when the queue was rebuilt.
func (q *Queue) holdDamaged(keys [][]byte) {
	damaged := make(map[uint64][]byte)
	for _, k := range keys {
		if n := len(store.PrefixBody); len(k) == n+12 && string(k[:n]) == string(store.PrefixBody) {
			damaged[binary.BigEndian.Uint64(k[n:])] = k
		}
	}
	if len(damaged) == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for e := q.scheduler.First(); e != nil; e = e.Next() {
		if k := damaged[e.Seq]; k != nil && e.Accepted && !e.Unreadable {
			q.holdUnreadableLocked(e, &store.ValueError{Key: k})
		}
	}
}

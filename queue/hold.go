package queue

import (
	"encoding/binary"

	"github.com/stsrelay/stsrelay/internal/store"
)

// hold keeps e from being tried.
func (q *Queue) hold(e *entry, reason string) { q.holdAs(e, holdRecord{Reason: reason}) }

func (q *Queue) holdAs(e *entry, rec holdRecord) {
	if e.held {
		return
	}
	for i := range e.units {
		q.unwait(&e.units[i])
		q.place(e.units[i].domain, q.clock())
	}
	e.held = true
	e.stateKept = true
	q.counts.Held++
	var b store.Batch
	ifThere(e, &b)
	rec.Since = q.now().UTC()
	b.Set(holdKey(e.seq), encode(rec))
	q.write(&b)
}

// holdUnreadable holds a message that the store cannot read, so that it is not
// tried until it expires, and nobody is told that the other side is at fault.
func (q *Queue) holdUnreadable(e *entry, err error) {
	q.log.Error("a queued message cannot be read; it is held", "queue_id", e.id.String(), "error", err)
	q.holdAs(e, holdRecord{Reason: "this relay cannot read it from its disk: " + err.Error(), Unreadable: true})
	q.countUnreadable(e)
}

func (q *Queue) countUnreadable(e *entry) {
	if !e.unreadable {
		e.unreadable = true
		q.counts.Unreadable++
	}
}

// readableAgain is called for a message that was released or is gone.
func (q *Queue) readableAgain(e *entry) {
	if e.unreadable {
		e.unreadable = false
		q.counts.Unreadable--
	}
}

// holdDamaged holds the messages of which a body cannot be read, by its keys.
// An envelope among them was met when the queue was rebuilt.
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
	for e := q.first; e != nil; e = e.next {
		if k := damaged[e.seq]; k != nil && e.accepted && !e.unreadable {
			q.holdUnreadable(e, &store.ValueError{Key: k})
		}
	}
}

package queue

import (
	"fmt"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
)

const (
	// seenEvery is how often a running queue notes the time.
	seenEvery = 5 * time.Minute
	// longestOutage is the most that counts as age of the mail that waits, of a time in which the
	// queue did not run.
	longestOutage = 24 * time.Hour
	// clockBehind is how much older than the messages before it a message may seem. One that
	// seems older came in while the clock was behind; imported ones are older by less.
	clockBehind = 30 * 24 * time.Hour
)

// seenRecord is the last time at which the queue ran, by the wall clock. If the clock is
// wrong at a start (no battery, no NTP yet), all that waits seems to be too old: it would be
// returned to its senders after one attempt, which fails because certificates seem to have
// expired. After a true outage mail deserves more than one attempt too.
type seenRecord struct {
	// At is when this was noted, by the wall clock of then.
	At time.Time `cbor:"1,keyasint"`
	// Latest is the latest time that was noted: the clock may have been set back since then.
	// Next is the number of the first message that came in after that.
	Latest time.Time `cbor:"2,keyasint"`
	Next   uint64    `cbor:"3,keyasint,omitempty"`
	// Spared is what messages whose number is below Below may be older before they are
	// given up, if the queue is opened now.
	Spared time.Duration `cbor:"4,keyasint,omitempty"`
	Below  uint64        `cbor:"5,keyasint,omitempty"`
}

// passed returns the record of a later moment, at which messages have numbers below next.
func (r seenRecord) passed(now time.Time, next uint64) seenRecord {
	away, back := now.Sub(r.Latest), r.At.Sub(now)
	wasAhead := back > longestOutage && r.Spared > 0 // the clock, and it is not any more
	switch {
	case wasAhead:
		r.Spared = max(r.Spared-back, 0)
	case away > longestOutage && !r.At.IsZero(): // an outage, or a step of the clock
		r.Spared, r.Below = r.Spared+away-longestOutage, next
	}
	if away > 0 || wasAhead {
		r.Latest, r.Next = now, next
	}
	r.At = now
	return r
}

// received returns when a message came in, which says that it was at a time: not much before
// the newest of those before it, nor before the queue was seen without it.
func (r *seenRecord) received(seq uint64, at, newest, now time.Time) time.Time {
	earliest := newest
	if seq >= r.Next && r.Latest.After(earliest) && !r.Latest.After(now) {
		earliest = r.Latest
	}
	if earliest.Sub(at) > clockBehind {
		return earliest
	}
	return at
}

// readSeen returns the record of the last run; it is empty if there is none.
func (q *Queue) readSeen() (last seenRecord, err error) {
	if err := q.store.View(keySeen, func(v []byte) error { return decode(v, &last) }); err != nil {
		return last, fmt.Errorf("when the queue ran last: %w", err)
	}
	return last, nil
}

// spare compares the time with that of the last run, and spares what would expire by the
// difference.
func (q *Queue) spare(last seenRecord) {
	q.seen = last.passed(q.clock.utc(), q.sequence.next)
	q.scheduler.Spare(q.seen.Below, q.seen.Spared)
	if later := q.seen.Spared - last.Spared; later > 0 && q.scheduler.Counts().Messages > 0 {
		q.log.Warn("the relay was away for long, or its clock is wrong; mail that waits is given up that much later",
			"since", last.Latest, "later_seconds", later.Seconds())
	}
	q.writeSeen(q.seen)
}

// noteSeen notes the time if the last note is old, or if the queue is closed.
func (q *Queue) noteSeen(closed bool) {
	q.mu.Lock()
	now := q.clock.utc()
	if age := now.Sub(q.seen.At); !closed && age >= 0 && age < seenEvery {
		q.mu.Unlock()
		return
	}
	// The scheduler goes on as it began: its ages do not change by a step of the clock.
	q.seen = q.seen.passed(now, q.sequence.next)
	if q.sequence.low >= q.seen.Below {
		q.seen.Spared, q.seen.Below = 0, 0 // they are gone
	}
	r := q.seen
	q.mu.Unlock()
	q.writeSeen(r)
}

func (q *Queue) writeSeen(r seenRecord) {
	var b store.Batch
	b.Deferrable()
	b.Set(keySeen, encode(r))
	q.write(&b)
}

package queue

import (
	"crypto/rand"
	"encoding/binary"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/stsrelay/stsrelay/internal/store"
)

// sequenceLease is how many numbers are reserved in one commit.
const sequenceLease = 1 << 20

// sequence gives each message a number. No number is used twice: numbers are reserved in
// the store, by a commit that precedes every commit that uses one of them. Queue.mu
// guards it.
type sequence struct {
	next   uint64
	leased uint64 // numbers below are reserved
	low    uint64 // the low-water number, as it was written last
}

// take returns the next number. If more numbers have to be reserved, lease is the batch
// that does so, else nil.
func (s *sequence) take() (n uint64, lease *store.Batch) {
	if s.next >= s.leased {
		s.leased = s.next + sequenceLease
		lease = new(store.Batch)
		lease.Set(keySeq, binary.BigEndian.AppendUint64(nil, s.leased))
	}
	n = s.next
	s.next++
	return n, lease
}

// used notes that a number is in use.
func (s *sequence) used(n uint64) { s.next = max(s.next, n+1) }

// idSource makes the IDs of messages. Queue.mu guards it.
type idSource struct {
	entropy *ulid.MonotonicEntropy
	last    uint64 // the time of the last one, in milliseconds
}

func newIDSource() idSource { return idSource{entropy: ulid.Monotonic(rand.Reader, 0)} }

// next returns a new ID. It is larger than those before, even if the clock was set back.
func (s *idSource) next(now time.Time) ID {
	s.last = max(s.last, ulid.Timestamp(now))
	id, err := ulid.New(s.last, s.entropy)
	for err != nil { // the entropy of this millisecond is used up
		s.last++
		id, err = ulid.New(s.last, s.entropy)
	}
	return id
}

// after makes all IDs to come larger than id, whatever the clock says.
func (s *idSource) after(id ID) { s.last = max(s.last, id.Time()+1) }

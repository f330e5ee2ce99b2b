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

// sequence has the numbers of messages. None is used twice: they are reserved in the
// store, by a commit that comes before every commit that uses one of them. Queue.mu
// guards it.
type sequence struct {
	next   uint64
	leased uint64 // numbers below are reserved
	low    uint64 // the low-water number, as it was written last
}

// take takes the next number, and reserves more where that is due: the batch is to be
// written then.
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

// used notes that a number is taken.
func (s *sequence) used(n uint64) { s.next = max(s.next, n+1) }

// idSource makes the IDs of messages. Queue.mu guards it.
type idSource struct {
	entropy *ulid.MonotonicEntropy
	last    uint64 // the time of the last one, in milliseconds
}

func newIDSource() idSource { return idSource{entropy: ulid.Monotonic(rand.Reader, 0)} }

// next makes the next ID; a clock that was set back does not make it smaller.
func (s *idSource) next(now time.Time) ID {
	s.last = max(s.last, ulid.Timestamp(now))
	id, err := ulid.New(s.last, s.entropy)
	for err != nil { // the entropy of this millisecond is used up
		s.last++
		id, err = ulid.New(s.last, s.entropy)
	}
	return id
}

// after lets all IDs to come sort behind one, whatever the clock says.
func (s *idSource) after(id ID) { s.last = max(s.last, id.Time()+1) }

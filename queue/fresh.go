package queue

import (
	"sync"
	"time"

	"github.com/stsrelay/stsrelay/queue/scheduler"
)

const (
	// freshSize bounds the octets of bodies that are kept for their first attempt.
	freshSize = 16 << 20
	// freshTime is how long a body is kept at least, if no attempt is made; twice that
	// at most.
	freshTime = 30 * time.Second
)

// fresh has messages that were accepted a moment ago, until their first attempt has ended:
// what was written a millisecond before is not read back from the store. Where there is
// no room, messages are read from the store: those that are due first are in memory then.
type fresh struct {
	mu   sync.Mutex
	size int
	// A message is in one of two generations. The old one is forgotten every freshTime:
	// nothing is tried for long that is held, or waits with its domain.
	young, old map[uint64]freshMessage
	since      scheduler.Time // when young was begun
}

// freshMessage is a message whose body has one chunk besides what is put before it.
type freshMessage struct {
	envelope *Envelope // nobody changes it
	chunk    int       // the number of body
	body     []byte
}

// keep keeps a message if there is room, and reports whether it did. The memory of m belongs
// to f then.
func (f *fresh) keep(seq uint64, m freshMessage, now scheduler.Time) bool {
	if cap(m.body) > keptBuffer {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.young == nil || now.Sub(f.since) > freshTime {
		for _, gone := range f.old {
			f.size -= cap(gone.body)
		}
		f.young, f.old, f.since = make(map[uint64]freshMessage), f.young, now
	}
	if f.size+cap(m.body) > freshSize {
		return false
	}
	f.size += cap(m.body)
	f.young[seq] = m
	return true
}

// get returns the message, if it is kept. The lock is held.
func (f *fresh) get(seq uint64) (m freshMessage, ok bool) {
	if m, ok = f.young[seq]; !ok {
		m, ok = f.old[seq]
	}
	return m, ok
}

// envelope returns the envelope of a message, nil if the message is not kept. It must not be
// changed.
func (f *fresh) envelope(seq uint64) *Envelope {
	f.mu.Lock()
	defer f.mu.Unlock()
	m, _ := f.get(seq)
	return m.envelope
}

// appendBody appends a chunk of the body of a message to mem, and reports whether it is
// kept.
func (f *fresh) appendBody(mem []byte, seq uint64, chunk int) ([]byte, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m, ok := f.get(seq)
	if !ok || m.chunk != chunk {
		return mem, false
	}
	return append(mem, m.body...), true
}

// forget forgets a message, and returns the memory of its body; nil if it was not kept.
func (f *fresh) forget(seq uint64) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	m, ok := f.get(seq)
	if !ok {
		return nil
	}
	delete(f.young, seq)
	delete(f.old, seq)
	f.size -= cap(m.body)
	return m.body
}

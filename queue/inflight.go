package queue

import (
	"sync"

	"github.com/stsrelay/stsrelay/queue/scheduler"
)

// inFlight are the groups whose content is being sent, or was sent by attempts whose
// results are not durable. They are written down: after a crash these may have been
// delivered already.
type inFlight struct {
	mu      sync.Mutex
	groups  map[*scheduler.Group]uint16 // attempts made before
	pending bool                        // a commit is on its way that writes them down
}

// inFlightRef names a group in flight in the store. The number of attempts tells
// whether the result was written after all.
type inFlightRef struct {
	_        struct{} `cbor:",toarray"`
	Seq      uint64
	Group    uint16
	Attempts uint16 // made before
}

// add reports whether g was not in flight.
func (f *inFlight) add(g *scheduler.Group, attempts int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.groups[g]; ok {
		return false
	}
	if f.groups == nil {
		f.groups = make(map[*scheduler.Group]uint16)
	}
	f.groups[g] = uint16(attempts)
	return true
}

// remove reports whether g was in flight.
func (f *inFlight) remove(g *scheduler.Group) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.groups[g]
	delete(f.groups, g)
	return ok
}

// begin reports whether a commit is to be made that writes the groups down: a later
// one is not needed before encode was called.
func (f *inFlight) begin() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	begun := f.pending
	f.pending = true
	return !begun
}

// encode is what the commit writes.
func (f *inFlight) encode() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pending = false
	refs := make([]inFlightRef, 0, len(f.groups))
	for g, attempts := range f.groups {
		refs = append(refs, inFlightRef{Seq: g.Entry.Seq, Group: g.Number, Attempts: attempts})
	}
	return encode(refs)
}

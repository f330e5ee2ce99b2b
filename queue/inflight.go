package queue

import (
	"sync"

	"github.com/stsrelay/stsrelay/queue/scheduler"
)

// inFlight has the groups whose content is being sent, or was sent by attempts whose
// results are not durable yet. They are recorded in the store: after a crash they may
// have been delivered already.
type inFlight struct {
	mu      sync.Mutex
	groups  map[*scheduler.Group]uint16 // attempts made before
	pending bool                        // a commit that records them was submitted
	refs    []inFlightRef               // memory of encode
}

// inFlightRef is the record of a group in flight. If the number of attempts differs from
// that of the group, the results were written after all.
type inFlightRef struct {
	_        struct{} `cbor:",toarray"`
	Seq      uint64
	Group    uint16
	Attempts uint16 // made before
}

// add adds g, and reports whether it was not in flight before.
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

// remove removes g, and reports whether it was in flight.
func (f *inFlight) remove(g *scheduler.Group) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.groups[g]
	delete(f.groups, g)
	return ok
}

// begin reports whether a commit that records the groups has to be submitted: one that
// was submitted before records them all, until encode is called.
func (f *inFlight) begin() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	begun := f.pending
	f.pending = true
	return !begun
}

// encode returns the value that the commit writes.
func (f *inFlight) encode() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pending = false
	if f.refs == nil {
		f.refs = make([]inFlightRef, 0, 16)
	}
	refs := f.refs[:0]
	for g, attempts := range f.groups {
		refs = append(refs, inFlightRef{Seq: g.Entry.Seq, Group: g.Number, Attempts: attempts})
	}
	f.refs = refs
	return encode(refs)
}

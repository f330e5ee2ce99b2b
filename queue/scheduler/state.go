package scheduler

import (
	"container/heap"
	"fmt"
	"slices"
)

// State is where a recipient group stands.
type State uint8

// The states of a group.
const (
	// Pending: it is known, and not in the schedule yet.
	Pending State = iota
	// Waiting: it is claimed once it is due and its domain has a turn.
	Waiting
	// Held: its message is held.
	Held
	// Canceled: the operator has canceled it; it is to be ended without an attempt.
	Canceled
	// Claimed: a worker has it.
	Claimed
	// Removed: a worker has it, and its message is no longer in the queue.
	Removed
	// Recording: its claim has results that are not durable yet. Recipients are
	// left; it is tried again after that.
	Recording
	// Unrecorded: the results could not be written. It stays so until the next
	// start, which makes the attempt again.
	Unrecorded
	// Closing: the results of its claim are not durable yet, and no recipient is left.
	Closing
	// Done: no recipient is left.
	Done
	states
)

var stateNames = [states]string{"pending", "waiting", "held", "canceled", "claimed", "removed", "recording", "unrecorded", "closing", "done"}

// String is the name of the state in errors.
func (s State) String() string {
	if s < states {
		return stateNames[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// following lists what may follow each state.
var following = [states][]State{
	Pending:    {Waiting, Held, Done},
	Waiting:    {Held, Canceled, Claimed, Done},
	Held:       {Waiting, Canceled, Done},
	Canceled:   {Waiting, Held, Done},
	Claimed:    {Waiting, Held, Canceled, Removed, Recording, Closing},
	Removed:    {Closing, Done},
	Recording:  {Waiting, Held, Canceled, Unrecorded, Closing},
	Unrecorded: {Done},
	Closing:    {Done},
	Done:       {},
}

// inHand reports whether a worker has the group.
func (s State) inHand() bool { return s == Claimed || s == Removed }

// inClaim reports whether a claim of the group is under way: it takes one of the
// places that its domain has.
func (s State) inClaim() bool {
	return s.inHand() || s == Recording || s == Closing
}

// Busy reports whether a worker has the group, or its results are not written.
func (s State) Busy() bool { return s.inClaim() || s == Unrecorded }

// Ended reports whether no recipient of the group is left in the queue.
func (s State) Ended() bool { return s == Removed || s == Closing || s == Done }

// StateError is a change of a group's state that must not be. The group stays as
// it was.
type StateError struct {
	Domain   string
	From, To State
}

func (e *StateError) Error() string {
	return fmt.Sprintf("a recipient group of %s that is %s cannot become %s", e.Domain, e.From, e.To)
}

// become brings g into another state, and is the only function that does so. What
// hangs on the state alone changes with it: the heap of waiting groups, the places
// that are taken, the counts. The caller reschedules the domain. The error is a
// *StateError, and nothing has changed then.
func (s *Scheduler) become(g *Group, to State) error {
	from := g.state
	if !slices.Contains(following[from], to) {
		return &StateError{Domain: g.Domain.Name, From: from, To: to}
	}
	d := g.Domain
	if from == Waiting {
		heap.Remove(&d.waiting[g.Priority.rank()], int(g.heapIndex))
	}
	g.state = to
	if to == Waiting {
		heap.Push(&d.waiting[g.Priority.rank()], g)
	}
	switch {
	case to.inClaim() && !from.inClaim():
		d.Claimed++
	case from.inClaim() && !to.inClaim():
		d.Claimed--
		if to != Unrecorded { // it may be delivered a second time, and goes on counting
			s.uncount(g)
		}
	}
	if to.Ended() && !from.Ended() {
		s.counts.Recipients -= int(g.Recipients)
		g.Recipients = 0
		g.Entry.Left--
		d.leave(g)
	}
	return nil
}

// atRest is the state of g where nobody works on it.
func (g *Group) atRest() State {
	switch {
	case g.canceled:
		return Canceled
	case g.Entry.Held:
		return Held
	}
	return Waiting
}

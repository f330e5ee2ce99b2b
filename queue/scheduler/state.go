package scheduler

import (
	"container/heap"
	"fmt"
	"slices"
)

// State is the state of a recipient group.
type State uint8

// The states of a group.
const (
	// Pending: the group is known, and not in the schedule yet.
	Pending State = iota
	// Waiting: the group can be claimed when it is due.
	Waiting
	// Held: its message is held, so it is not tried.
	Held
	// Canceled: the operator has canceled it. It will be ended without an attempt.
	Canceled
	// Claimed: a worker has it.
	Claimed
	// Removed: a worker has it, but its message was removed from the queue.
	Removed
	// Recording: the results of its claim are being written, and recipients are left.
	Recording
	// Unrecorded: the results could not be written. The group stays so until the next
	// start, after which the attempt is made again.
	Unrecorded
	// Closing: the results of its claim are being written, and no recipient is left.
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

// following lists the states that may follow each state.
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

// inClaim reports whether the group has one of the places of its domain: a claim is under
// way.
func (s State) inClaim() bool {
	return s.inHand() || s == Recording || s == Closing
}

// Busy reports whether a worker has the group, or its results are not written yet.
func (s State) Busy() bool { return s.inClaim() || s == Unrecorded }

// Ended reports whether no recipient of the group is left in the queue.
func (s State) Ended() bool { return s == Removed || s == Closing || s == Done }

// StateError is the error of a change of state that is not allowed. The group stays as it
// was.
type StateError struct {
	Domain   string
	From, To State
}

func (e *StateError) Error() string {
	return fmt.Sprintf("a recipient group of %s that is %s cannot become %s", e.Domain, e.From, e.To)
}

// become changes the state of g, and is the only function that does so. Everything that
// depends on the state alone changes with it: the heap of waiting groups, the places of the
// domain, the counts. The caller reschedules the domain. The error is a *StateError; then
// nothing has changed.
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
		if to != Unrecorded { // else it may be delivered twice, so it still counts
			s.uncount(g)
		}
	}
	if to.Ended() && !from.Ended() {
		s.counts.Recipients -= int(g.Recipients)
		g.Recipients = 0
		g.Entry.Left--
		d.leave(g)
		s.reasons.groups[g.reason]--
	}
	return nil
}

// atRest returns the state of g without a claim.
func (g *Group) atRest() State {
	switch {
	case g.canceled:
		return Canceled
	case g.Entry.Held:
		return Held
	}
	return Waiting
}

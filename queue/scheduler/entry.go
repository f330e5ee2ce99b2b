package scheduler

// Entry is what memory holds of a message. The caller may read the exported fields; only
// the scheduler changes them, unless their comment says otherwise.
type Entry struct {
	// Seq is the number of the message, set by the caller. Of groups that are due at the
	// same time, the one with the lowest number goes first.
	Seq uint64
	// Groups has its recipient groups; none before it is accepted.
	Groups []Group
	single [1]Group // memory for Groups if there is only one, as in most messages: one object less

	prev, next *Entry

	// ReceivedAt is the time of its acceptance.
	ReceivedAt Time
	// Left is the number of groups that have recipients left.
	Left int32
	// Accepted reports whether its groups are known.
	Accepted bool
	// Held reports whether it is held.
	Held bool
	// Gone reports whether it has left the queue.
	Gone   bool
	report bool // whether it is a TLS report

	// The scheduler does not use the fields below. They are here so that a message is one
	// object in memory; the caller sets them.

	// HasRecords reports whether the store has records beside the envelope.
	HasRecords bool
	// Unreadable reports whether the store cannot read it.
	Unreadable bool
	// Addresses is a filter of the sender's and the recipients' addresses.
	Addresses uint64
	// ID is the name that people see.
	ID [16]byte
}

// Group is what memory holds of a recipient group: recipients of one message in one domain,
// which are tried together. Fields are exported as those of Entry.
type Group struct {
	Entry   *Entry
	Domain  *Domain
	sibling siblings // neighbours in the list of the domain
	// Due is when it is to be tried next.
	Due       Time
	heapIndex int32 // in the domain's heap, while it is Waiting
	// Recipients is the number of recipients that have no end yet.
	Recipients int32
	// Number is its index in Entry.Groups.
	Number uint16
	// Attempts is the number of attempts that have results.
	Attempts uint16
	state    State
	// Priority is its class.
	Priority Priority
	// DelayNotified reports whether the sender knows of the delay, or must not be told.
	DelayNotified bool
	canceled      bool  // whether it is canceled when no claim is under way
	counted       bool  // whether its claim counts against Limits.Claims
	unproven      bool  // whether its domain was not proven when it was claimed
	reason        uint8 // of its last attempt, in reasonCounts
}

type siblings struct{ prev, next *Group }

// State returns the state of the group.
func (g *Group) State() State { return g.state }

// Next returns the message after e by number, nil if e is the last.
func (e *Entry) Next() *Entry { return e.next }

// Busy reports whether a worker has a group of e, or results of one are not written yet.
func (e *Entry) Busy() bool {
	for i := range e.Groups {
		if e.Groups[i].state.Busy() {
			return true
		}
	}
	return false
}

// Changes grows with every attempt at e, and with every group that ends.
func (e *Entry) Changes() (n int) {
	for i := range e.Groups {
		n += int(e.Groups[i].Attempts)
		if e.Groups[i].state.Ended() {
			n++
		}
	}
	return n
}

// entryList has all messages in the order of their numbers.
type entryList struct {
	first, last *Entry
	undelayed   *Entry // the first message for markDelayed to look at, nil for none
}

func (l *entryList) add(e *Entry) {
	e.prev = l.last
	if l.last == nil {
		l.first = e
	} else {
		l.last.next = e
	}
	l.last = e
}

func (l *entryList) remove(e *Entry) {
	if l.undelayed == e {
		l.undelayed = e.next
	}
	if e.prev == nil {
		l.first = e.next
	} else {
		e.prev.next = e.next
	}
	if e.next == nil {
		l.last = e.prev
	} else {
		e.next.prev = e.prev
	}
	e.prev, e.next = nil, nil
}

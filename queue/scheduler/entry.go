package scheduler

// Entry is what memory holds of a message. Fields that are exported are to be
// read by the caller; where nothing else is said, only the scheduler changes them.
type Entry struct {
	// Seq is the number of the message, set by the caller. Messages of one due time
	// are claimed by their numbers.
	Seq uint64
	// Groups are its recipient groups. There are none before it is accepted.
	Groups []Group
	single [1]Group // where Groups are if there is but one, mostly: one object less for the garbage collector

	prev, next *Entry

	// ReceivedAt is the time of its acceptance.
	ReceivedAt Time
	// Left is how many groups are not at their end.
	Left int32
	// Accepted: its groups are known.
	Accepted bool
	// Held: it is not tried.
	Held bool
	// Gone: it is no longer in the queue.
	Gone   bool
	report bool // a TLS report

	// What follows is the caller's own, and lies here because memory has one object
	// a message.

	// HasRecords: the store has records beside the envelope.
	HasRecords bool
	// Unreadable: the store cannot read it.
	Unreadable bool
	// ID is its name.
	ID [16]byte
}

// Group is what memory holds of a recipient group: recipients of one message in
// one domain, which are tried together. It is read as Entry is.
type Group struct {
	Entry   *Entry
	Domain  *Domain
	sibling siblings // in the domain, until it is done
	// Due is when it is to be tried next.
	Due       Time
	heapIndex int32 // in the domain's heap, while it is Waiting
	// Recipients is how many are not at their end.
	Recipients int32
	// Number is its place in Entry.Groups.
	Number uint16
	// Attempts is how many attempts have results.
	Attempts uint16
	state    State
	// Priority is its class.
	Priority Priority
	// DelayNotified: its sender knows of the delay, or is not to be told.
	DelayNotified bool
	canceled      bool // it is to be ended once nobody works on it
	counted       bool // its claim counts against Limits.Claims
	unproven      bool // it was claimed while its domain was not proven
}

type siblings struct{ prev, next *Group }

// State is where the group stands.
func (g *Group) State() State { return g.state }

// Next returns the message that came after e, nil where e is the last.
func (e *Entry) Next() *Entry { return e.next }

// Busy reports whether a worker has a group of e, or results of one are not
// written.
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
	undelayed   *Entry // the first that may not be delayed yet, nil for none
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

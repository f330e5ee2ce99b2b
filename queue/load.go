package queue

import "time"

// DomainLoad is how much mail of one domain waits and is under way.
type DomainLoad struct {
	Domain string
	// Groups is the number of deliveries that have no end yet, each of a message to at
	// most MaxGroup recipients of the domain. Active is how many of these are under way,
	// and Limit how many may be at a time.
	Groups, Active, Limit int
	// OldestAt is when the message came in that is longest in the queue.
	OldestAt time.Time
	// RestsUntil is when the domain is tried again that could not be reached; zero: it
	// is not in back-off.
	RestsUntil time.Time
	// Last is why the last attempt that left recipients did not deliver to them.
	Last Reason
}

// Busiest returns the n domains with the most mail, those to which mail is under way
// first. It does not look at each message, so that it may be asked every second.
func (q *Queue) Busiest(n int) []DomainLoad {
	q.mu.Lock()
	defer q.mu.Unlock()
	loads := q.scheduler.Busiest(n, q.clock.now())
	out := make([]DomainLoad, len(loads))
	for i, l := range loads {
		out[i] = DomainLoad{Domain: l.Domain, Groups: l.Groups, Active: l.Claimed, Limit: l.Limit, OldestAt: q.clock.at(l.Oldest), Last: l.Last}
		if l.RestsUntil != 0 {
			out[i].RestsUntil = q.clock.at(l.RestsUntil)
		}
	}
	return out
}

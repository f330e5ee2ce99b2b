package scheduler

import "time"

const (
	// inflowSenders is how many senders wait for one commit when it is an inflow.
	inflowSenders = 4
	// inflowLinger is how long an inflow lasts after the last sign of it.
	inflowLinger = 5 * time.Millisecond
	// maxInflowDelay is how long a delivery makes way for an inflow at most.
	maxInflowDelay = 500 * time.Millisecond
)

// inflow is a time in which many senders wait for their 250. Deliveries that
// begin make way for it: both want the same processors and the same commits,
// and of the two only a sender waits. No delivery waits longer than
// maxInflowDelay, so that an inflow without an end slows nothing down.
type inflow struct {
	waiting int // messages whose commit is awaited
	until   Time
}

// SenderWaits notes that a sender waits for the commit of a message.
func (s *Scheduler) SenderWaits(now Time) {
	s.inflow.waiting++
	s.inflow.observe(now)
}

// SenderAnswered notes that a commit is over which SenderWaits was called for.
func (s *Scheduler) SenderAnswered(now Time) {
	s.inflow.observe(now)
	s.inflow.waiting--
}

// Senders is how many senders wait for a commit.
func (s *Scheduler) Senders() int { return s.inflow.waiting }

func (f *inflow) observe(now Time) {
	if f.waiting >= inflowSenders {
		f.until = now.Add(inflowLinger)
	}
}

// delay is when a delivery may begin that is due at a time.
func (f *inflow) delay(due, now Time) Time {
	f.observe(now)
	return max(due, min(f.until, due.Add(maxInflowDelay)))
}

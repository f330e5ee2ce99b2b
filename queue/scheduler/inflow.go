package scheduler

import "time"

const (
	// inflowSenders is the number of senders waiting for one commit that make an inflow.
	inflowSenders = 4
	// inflowLinger is how long an inflow lasts after the last sign of it.
	inflowLinger = 5 * time.Millisecond
	// maxInflowDelay is the longest time that an inflow delays a delivery.
	maxInflowDelay = 500 * time.Millisecond
)

// inflow is a time in which many senders wait for their 250. New deliveries are delayed
// during it: they use the same processors and the same commits, and nobody waits for
// them. No delivery is delayed for longer than maxInflowDelay, so that an inflow without
// an end does not stop deliveries.
type inflow struct {
	waiting int // messages whose commit is awaited
	until   Time
}

// SenderWaits notes that a sender waits for the commit of a message.
func (s *Scheduler) SenderWaits(now Time) {
	s.inflow.waiting++
	s.inflow.observe(now)
}

// SenderAnswered notes that this commit has ended.
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

// delay returns when a delivery that is due at a time may begin.
func (f *inflow) delay(due, now Time) Time {
	f.observe(now)
	return max(due, min(f.until, due.Add(maxInflowDelay)))
}

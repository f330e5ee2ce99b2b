package queue

// Limits are the bounds of Options that may change while the queue is open.
type Limits struct {
	Domain   int // Options.DomainLimit; at least 1
	Claims   int // Options.ClaimLimit
	Messages int // Options.MaxMessages
}

// SetLimits changes the bounds. What is claimed or queued already beyond lower
// ones stays so; domains grow into a higher one as their units go through.
func (q *Queue) SetLimits(l Limits) {
	q.mu.Lock()
	if l.Domain < q.domainLimit {
		for _, d := range q.domains {
			d.limit = min(d.limit, l.Domain)
		}
	}
	q.domainLimit, q.claimLimit, q.maxMessages = l.Domain, l.Claims, l.Messages
	q.mu.Unlock()
	q.signal()
}

package queue

import "time"

const (
	// rushSenders is how many senders wait for one commit when it is a rush.
	rushSenders = 4
	// rushLingers is how long a rush lasts after the last sign of it.
	rushLingers = 5 * time.Millisecond
	// rushPatience is how long a delivery makes way for a rush at most.
	rushPatience = 500 * time.Millisecond
)

// rush is a time in which many senders wait for their 250. Deliveries that
// begin make way for it: both want the same processors and the same commits,
// and of the two only a sender waits. No delivery waits longer than
// rushPatience, so that a rush without an end slows nothing down.
type rush struct {
	waiting int   // messages whose commit is awaited
	until   int64 // on the queue's own clock
}

func (r *rush) enter(now int64) {
	r.waiting++
	r.look(now)
}

func (r *rush) leave(now int64) {
	r.look(now)
	r.waiting--
}

func (r *rush) look(now int64) {
	if r.waiting >= rushSenders {
		r.until = now + int64(rushLingers)
	}
}

// putOff is when a delivery may begin that is due at a time.
func (r *rush) putOff(due, now int64) int64 {
	r.look(now)
	return max(due, min(r.until, due+int64(rushPatience)))
}

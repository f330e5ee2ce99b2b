package scheduler

import (
	"container/heap"
	"time"
)

// Kind is what a group is claimed for.
type Kind uint8

const (
	// Attempt: it is to be delivered, or given up where it is expired.
	Attempt Kind = iota
	// DelayNotice: its sender is to be warned of the delay. It is not tried.
	DelayNotice
)

// Claim is a group that was claimed. It ends with Finish or FinishNotice, and then
// Recorded or Unrecorded, or with Release.
type Claim struct {
	Group *Group // nil: nothing is due
	Kind  Kind
	// Age is how long the message has been in the queue.
	Age time.Duration
	// Expired: the message is older than Schedule.Expire.
	Expired bool
	// BackoffStep is how many back-offs in a row the domain had before the claim.
	BackoffStep int
	// BackoffReason is why the domain is in back-off, where the claim is for a delay
	// notice.
	BackoffReason Reason
}

// Next claims the group whose turn it is. Where none is due, wakeAt is when one
// will be, as far as the schedule does not change: Never where that is not known.
func (s *Scheduler) Next(now Time) (c Claim, wakeAt Time) {
	if s.paused || s.atLimit() {
		return Claim{}, Never
	}
	wakeAt = s.markDelayed(now)
	for len(s.sleeping) > 0 && s.sleeping[0].wakeAt <= now {
		s.reschedule(s.sleeping[0], now)
	}
	for d := s.nextDomain(); d != nil; d = s.nextDomain() {
		if c := s.claim(d, now); c.Group != nil {
			return c, 0
		}
	}
	if len(s.sleeping) > 0 && (wakeAt < 0 || s.sleeping[0].wakeAt < wakeAt) {
		wakeAt = s.sleeping[0].wakeAt
	}
	return Claim{}, wakeAt
}

// NextOf claims the next group of one domain, if it may be claimed now.
func (s *Scheduler) NextOf(domain string, now Time) Claim {
	d := s.domains[domain]
	if d == nil || s.paused || s.atLimit() || s.provenOnly() && !s.proven.holds(domain, now) {
		return Claim{}
	}
	return s.claim(d, now)
}

// claim claims the next group of d, if it may be claimed now.
func (s *Scheduler) claim(d *Domain, now Time) (c Claim) {
	if rank, at, ok := d.next(now, &s.inflow); ok && at <= now {
		g := d.waiting[rank][0]
		notice := d.claimsNotice(g.Priority, now)
		if s.become(g, Claimed) == nil { // it was waiting, so it can be claimed
			c = Claim{Group: g, Age: now.Sub(g.Entry.ReceivedAt), Expired: s.expired(g.Entry, now), BackoffStep: d.backoff.step}
			if notice && !c.Expired {
				c.Kind, c.BackoffReason = DelayNotice, d.backoff.Reason
			} else {
				s.count(g, now)
			}
		}
	}
	s.reschedule(d, now)
	return c
}

// count makes the claim of g count against the limits; uncount ends that.
func (s *Scheduler) count(g *Group, now Time) {
	g.counted = true
	s.claims.all++
	if g.unproven = !s.proven.holds(g.Domain.Name, now); g.unproven {
		s.claims.unproven++
	}
}

func (s *Scheduler) uncount(g *Group) {
	if g.counted {
		s.claims.all--
	}
	if g.unproven {
		s.claims.unproven--
	}
	g.counted, g.unproven = false, false
}

// atLimit reports whether as many groups are claimed as may be.
func (s *Scheduler) atLimit() bool { return s.limits.Claims > 0 && s.claims.all >= s.limits.Claims }

// PlacesShort reports whether something is due that finds no place: as many groups
// are claimed as may be, or as many as domains may have that are not proven.
func (s *Scheduler) PlacesShort(now Time) bool {
	if s.paused || s.limits.Claims <= 0 {
		return false
	}
	waits := len(s.sleeping) > 0 && s.sleeping[0].wakeAt <= now || !s.rings.others.empty() || !s.rings.fresh.empty()
	return s.atLimit() && (waits || !s.rings.proven.empty()) || s.provenOnly() && waits
}

// setPriority changes the class of g.
func (s *Scheduler) setPriority(g *Group, p Priority) {
	if g.state == Waiting {
		heap.Remove(&g.Domain.waiting[g.Priority.rank()], int(g.heapIndex))
	}
	g.Priority = p
	if g.state == Waiting {
		heap.Push(&g.Domain.waiting[p.rank()], g)
	}
}

// setDue changes when g is due.
func (s *Scheduler) setDue(g *Group, due Time) {
	g.Due = due
	if g.state == Waiting {
		heap.Fix(&g.Domain.waiting[g.Priority.rank()], int(g.heapIndex))
	}
}

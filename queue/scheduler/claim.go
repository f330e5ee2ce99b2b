package scheduler

import (
	"container/heap"
	"time"
)

// Kind is the purpose of a claim.
type Kind uint8

const (
	// Attempt: the group is to be delivered, or given up if it has expired.
	Attempt Kind = iota
	// DelayNotice: its sender is to be warned of the delay, and it is not tried.
	DelayNotice
)

// Claim is a group that was claimed. It ends with Finish or FinishNotice, followed by
// Recorded or Unrecorded, or with Release or Postpone.
type Claim struct {
	Group *Group // nil: nothing is due
	Kind  Kind
	// Age is how long the message has been in the queue.
	Age time.Duration
	// Expired reports whether the message is older than Schedule.Expire.
	Expired bool
	// BackoffStep is the number of back-offs in a row that the domain had at that time.
	BackoffStep int
	// BackoffReason is why the domain is in back-off; only set for a DelayNotice.
	BackoffReason Reason
}

// Next claims the group whose turn it is. If none is due, wakeAt is when the next one will
// be if nothing changes, Never if none is known.
func (s *Scheduler) Next(now Time) (c Claim, wakeAt Time) {
	switch {
	case s.atLimit() || s.pausedUntil == Forever:
		return Claim{}, Never
	case s.Paused(now):
		return Claim{}, s.pausedUntil
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

// NextOf claims the next group of one domain, if one may be claimed now.
func (s *Scheduler) NextOf(domain string, now Time) Claim {
	d := s.domains[domain]
	if d == nil || s.Paused(now) || s.atLimit() || s.provenOnly() && !s.proven.holds(domain, now) {
		return Claim{}
	}
	return s.claim(d, now)
}

// claim claims the next group of d, if one may be claimed now.
func (s *Scheduler) claim(d *Domain, now Time) (c Claim) {
	if rank, at, ok := d.next(now); ok && at <= now {
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

// count counts the claim of g against the limits; uncount ends that.
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

// PlacesShort reports whether a group is due that cannot be claimed because of the limit of
// all claims, or of those for domains that are not proven.
func (s *Scheduler) PlacesShort(now Time) bool {
	if s.Paused(now) || s.limits.Claims <= 0 {
		return false
	}
	waits := len(s.sleeping) > 0 && s.sleeping[0].wakeAt <= now || !s.rings.others.empty() || !s.rings.fresh.empty()
	return s.atLimit() && (waits || !s.rings.proven.empty()) || s.provenOnly() && waits
}

// setPriority changes the priority of g.
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

package scheduler

import (
	"container/heap"
	"iter"
)

// Domain is the mail of one recipient domain.
type Domain struct {
	Name string
	// Last is why the last attempt that left recipients did not deliver to them.
	Last Reason

	waiting [ranks]groupHeap // by rank of the priority
	first   *Group           // the list of groups that have recipients left, the newest first
	last    *Group           // the end of that list
	left    int              // the number of these groups
	// Claimed is the number of groups that have one of the domain's places.
	Claimed int
	limit   int // the number of places
	backoff backoff
	// pausedUntil is when the operator's pause ends; in the past where there is none.
	pausedUntil Time

	wakeAt    Time  // when it has something due, in the heap of sleeping domains
	heapIndex int   // there; -1 where it is not
	ring      *ring // that it is in, nil for none
}

// domain returns the domain with a name, and makes it if there is none.
func (s *Scheduler) domain(name string) *Domain {
	d := s.domains[name]
	if d == nil {
		d = &Domain{Name: name, limit: s.limits.Domain, heapIndex: -1, pausedUntil: -Forever}
		if until, ok := s.pausedDomains[name]; ok {
			d.pausedUntil = until
		}
		s.domains[name] = d
	}
	return d
}

// join adds g to the groups of d; leave removes it.
func (d *Domain) join(g *Group) {
	d.left++
	g.Domain = d
	g.sibling.next = d.first
	if d.first != nil {
		d.first.sibling.prev = g
	} else {
		d.last = g
	}
	d.first = g
}

func (d *Domain) leave(g *Group) {
	d.left--
	sibling := g.sibling
	if sibling.prev == nil {
		d.first = sibling.next
	} else {
		sibling.prev.sibling.next = sibling.next
	}
	if sibling.next != nil {
		sibling.next.sibling.prev = sibling.prev
	} else {
		d.last = sibling.prev
	}
	g.sibling = siblings{}
}

// Len returns the number of groups that have recipients left.
func (d *Domain) Len() int { return d.left }

// Groups yields these groups, the newest first. The schedule must not be changed meanwhile.
func (d *Domain) Groups() iter.Seq[*Group] {
	return func(yield func(*Group) bool) {
		for g := d.first; g != nil && yield(g); g = g.sibling.next { //nolint:revive // yield does the work
		}
	}
}

// next returns the rank and the time of the domain's next claim.
func (d *Domain) next(now Time) (rank int, at Time, ok bool) {
	for i, groups := range d.waiting {
		if len(groups) == 0 {
			continue
		}
		first := groups[0]
		notice := d.claimsNotice(first.Priority, now)
		places := d.limit
		if d.blocks(first.Priority) && !notice {
			places = 1 // for the probe
		}
		if d.Claimed >= places {
			continue
		}
		due := now
		if !notice {
			due = first.StartsAt()
		}
		due = max(due, d.pausedUntil)
		if !ok || due < at && at > now {
			rank, at, ok = i, due, true
		}
	}
	return rank, at, ok
}

// reschedule puts a domain where it belongs after a change: into a ring if a group can be
// claimed now, among the sleeping domains if one will be due later, nowhere if it waits for
// a claim to end; and removes it from memory if it has no mail.
func (s *Scheduler) reschedule(d *Domain, now Time) {
	_, at, ok := d.next(now)
	switch {
	case ok && at <= now:
		s.wake(d)
		s.ringOf(d, now).push(d)
	case ok:
		d.wakeAt = at
		if d.heapIndex < 0 {
			heap.Push(&s.sleeping, d)
		} else {
			heap.Fix(&s.sleeping, d.heapIndex)
		}
	default:
		s.wake(d)
		if d.left == 0 && d.Claimed == 0 && s.domains[d.Name] == d {
			delete(s.domains, d.Name)
		}
	}
}

// wake removes d from the sleeping domains.
func (s *Scheduler) wake(d *Domain) {
	if d.heapIndex >= 0 {
		heap.Remove(&s.sleeping, d.heapIndex)
	}
}

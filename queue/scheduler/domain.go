package scheduler

import (
	"container/heap"
	"iter"
)

// Domain is the mail of one recipient domain.
type Domain struct {
	Name string
	// Last is why the last attempt that did not end a group did not.
	Last Reason

	waiting [ranks]groupHeap // by rank of the priority
	first   *Group           // of those that have recipients left, the last to join first
	left    int              // groups that have recipients left
	// Claimed is how many groups take one of the places that the domain has.
	Claimed int
	limit   int // the number of places
	backoff backoff

	wakeAt    Time  // when it has something due, in the heap of sleeping domains
	heapIndex int   // there; -1 where it is not
	ring      *ring // that it is in, nil for none
}

// domain returns the domain of a name, and makes it where there is none.
func (s *Scheduler) domain(name string) *Domain {
	d := s.domains[name]
	if d == nil {
		d = &Domain{Name: name, limit: s.limits.Domain, heapIndex: -1}
		s.domains[name] = d
	}
	return d
}

// join makes g one of the groups of d; leave ends that.
func (d *Domain) join(g *Group) {
	d.left++
	g.Domain = d
	g.sibling.next = d.first
	if d.first != nil {
		d.first.sibling.prev = g
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
	}
	g.sibling = siblings{}
}

// Len is how many groups of the domain have recipients left.
func (d *Domain) Len() int { return d.left }

// Groups yields these groups, the newest first. The schedule must not change
// meanwhile.
func (d *Domain) Groups() iter.Seq[*Group] {
	return func(yield func(*Group) bool) {
		for g := d.first; g != nil && yield(g); g = g.sibling.next { //nolint:revive // yield does the work
		}
	}
}

// next returns the rank and the time of the domain's next claim.
func (d *Domain) next(now Time, f *inflow) (rank int, at Time, ok bool) {
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
		due = f.delay(due, now)
		if !ok || due < at && at > now {
			rank, at, ok = i, due, true
		}
	}
	return rank, at, ok
}

// reschedule puts the domain where it belongs after a change: into a ring where
// it has something to claim now, among the sleeping where it will, nowhere where
// it waits for a claim to end, and out of memory where nothing is left.
func (s *Scheduler) reschedule(d *Domain, now Time) {
	_, at, ok := d.next(now, &s.inflow)
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

// wake takes d out of the sleeping domains.
func (s *Scheduler) wake(d *Domain) {
	if d.heapIndex >= 0 {
		heap.Remove(&s.sleeping, d.heapIndex)
	}
}

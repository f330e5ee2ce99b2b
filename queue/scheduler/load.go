package scheduler

import (
	"cmp"
	"slices"
)

// Load is how much mail of one domain waits and is under way.
type Load struct {
	Domain string
	// Groups is the number of groups that have recipients left, Claimed how many of
	// these have a place, and Limit the number of places.
	Groups, Claimed, Limit int
	// Oldest is when the group that was entered first was accepted.
	Oldest Time
	// RestsUntil is when the back-off of the domain ends; 0: it is not in back-off.
	RestsUntil Time
	// Last is why the last attempt that left recipients did not deliver to them.
	Last Reason
}

// Busiest returns the n domains with the most groups, these with claims first. It looks
// once at each domain, and at no message but the oldest ones of these n.
func (s *Scheduler) Busiest(n int, now Time) []Load {
	busiest := make([]*Domain, 0, n+1)
	for _, d := range s.domains {
		if d.left == 0 {
			continue
		}
		if at, _ := slices.BinarySearchFunc(busiest, d, byLoad); at < n {
			busiest = slices.Insert(busiest, at, d)
			busiest = busiest[:min(len(busiest), n)]
		}
	}
	out := make([]Load, len(busiest))
	for i, d := range busiest {
		out[i] = Load{Domain: d.Name, Groups: d.left, Claimed: d.Claimed, Limit: d.limit, Oldest: d.last.Entry.ReceivedAt, Last: d.Last}
		if d.backoff.step > 0 && d.backoff.until > now {
			out[i].RestsUntil, out[i].Last = d.backoff.until, d.backoff.Reason
		}
	}
	return out
}

// byLoad orders domains: those with claims first, then those with more groups.
func byLoad(a, b *Domain) int {
	return cmp.Or(cmp.Compare(min(b.Claimed, 1), min(a.Claimed, 1)), cmp.Compare(b.left, a.left), cmp.Compare(a.Name, b.Name))
}

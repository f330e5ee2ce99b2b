package scheduler

// DomainBackoff says that a domain could not be reached as a whole, so that none
// of its mail is tried for a while.
type DomainBackoff struct {
	// Reason is why. The zero Reason: it could be reached.
	Reason Reason
	// PolicyOnly: it is about what the domain's published policies ask for. Mail
	// that they do not bind (TLS reports, "TLS-Required: No") goes on.
	PolicyOnly bool
}

// backoff is a time in which nothing of a domain is tried. After it, one group
// goes first as a probe.
type backoff struct {
	step  int // back-offs in a row; 0: the domain is not in back-off
	until Time
	DomainBackoff
}

// blocks reports whether mail of a priority waits for the back-off to end.
func (d *Domain) blocks(p Priority) bool {
	return d.backoff.step > 0 && !p.Expired && !(d.backoff.PolicyOnly && p.PolicyFree)
}

// StartsAt is when g may be tried.
func (g *Group) StartsAt() Time {
	if d := g.Domain; d.blocks(g.Priority) {
		return max(g.Due, d.backoff.until)
	}
	return g.Due
}

// BackoffReason is why the domain of g is in back-off, where g waits for that; else
// it is zero.
func (g *Group) BackoffReason() Reason {
	if d := g.Domain; !g.state.Ended() && d.blocks(g.Priority) {
		return d.backoff.Reason
	}
	return Reason{}
}

// Backoff returns what the back-off of the domain is about, and how many it has had
// in a row; 0: it is not in one.
func (d *Domain) Backoff() (b DomainBackoff, step int) {
	return d.backoff.DomainBackoff, d.backoff.step
}

// backOff begins the next back-off of d. It lasts as long as the schedule says for
// so many failures in a row, but no longer than until the next retry in the domain.
// What is expired by now does not wait for its end; it has its own due times.
func (s *Scheduler) backOff(d *Domain, b DomainBackoff, now Time) {
	d.backoff.step++
	d.backoff.DomainBackoff = b
	s.proven.remove(d.Name)
	until := now.Add(s.Wait(d.backoff.step))
	var expired []*Group
	for _, groups := range d.waiting {
		if len(groups) == 0 || !d.blocks(groups[0].Priority) {
			continue
		}
		for _, g := range groups {
			if g.Due > now {
				until = min(until, g.Due)
			}
			if s.expired(g.Entry, now) {
				expired = append(expired, g)
			}
		}
	}
	for _, g := range expired {
		p := g.Priority
		p.Expired = true
		s.setPriority(g, p)
	}
	d.backoff.until = until
}

// succeeded notes that a group of d went through: its back-off ends, and it has
// twice as many places, up to the limit or to what its hosts take (0: not known).
func (s *Scheduler) succeeded(d *Domain, parallel int) {
	if d.backoff.step > 0 {
		d.backoff = backoff{until: d.backoff.until}
		d.limit = 1
	}
	d.limit = min(2*d.limit, max(s.limits.Domain, parallel))
}

// endBackoffBy ends the back-off of d at a time at the latest.
func (d *Domain) endBackoffBy(at Time) { d.backoff.until = min(d.backoff.until, at) }

// applyToDomain brings what an attempt at g says about its domain into that.
func (s *Scheduler) applyToDomain(g *Group, o *Outcome, now Time) {
	d := g.Domain
	failed, exempt := o.Backoff.Reason != Reason{}, g.Priority.exempt()
	switch {
	case exempt && failed && o.Backoff.PolicyOnly, exempt && !failed && d.backoff.PolicyOnly:
		// It says nothing about what the others wait for.
	case !failed:
		if o.Delivered {
			s.proven.add(d.Name, now)
		}
		s.succeeded(d, o.Parallel)
	default:
		if d.backoff.step == o.BackoffStep { // else it backed off already, after a claim of the same time
			s.backOff(d, o.Backoff, now)
		}
		if !g.state.Ended() {
			d.endBackoffBy(g.Due)
		}
	}
}

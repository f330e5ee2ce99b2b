package scheduler

// DomainBackoff is set if a domain could not be reached as a whole: none of its mail is
// tried for a while.
type DomainBackoff struct {
	// Reason is why it could not be reached; zero: it could be.
	Reason Reason
	// PolicyOnly reports whether the domain's published policies are the reason. Mail that
	// they do not bind (TLS reports, "TLS-Required: No") is still tried.
	PolicyOnly bool
}

// backoff is a time during which no mail of a domain is tried. After it, one group goes
// first as a probe.
type backoff struct {
	step  int  // the number of back-offs in a row; 0: the domain is not in back-off
	since Time // when the first of these began
	until Time
	DomainBackoff
}

// blocks reports whether mail of a priority waits for the back-off to end.
func (d *Domain) blocks(p Priority) bool {
	return d.backoff.step > 0 && !p.Expired && !(d.backoff.PolicyOnly && p.PolicyFree)
}

// StartsAt returns when g may be tried; Forever where its domain is paused without an end.
func (g *Group) StartsAt() Time {
	if g.state == Canceled {
		return Forever
	}
	d := g.Domain
	at := max(g.Due, d.pausedUntil)
	if d.blocks(g.Priority) {
		at = max(at, d.backoff.until)
	}
	return at
}

// Backoff returns why the domain of g is in back-off, and since when, if g waits for its
// end; else zero.
func (g *Group) Backoff() (why Reason, since Time) {
	if d := g.Domain; !g.state.Ended() && !g.state.Busy() && d.blocks(g.Priority) {
		return d.backoff.Reason, d.backoff.since
	}
	return Reason{}, 0
}

// Backoff returns the reason of the domain's back-off, and the number of back-offs in a
// row; 0: it is not in back-off.
func (d *Domain) Backoff() (b DomainBackoff, step int) {
	return d.backoff.DomainBackoff, d.backoff.step
}

// FailingSince returns when the first of the back-offs in a row began; ok is false where d is in
// none.
func (d *Domain) FailingSince() (since Time, ok bool) { return d.backoff.since, d.backoff.step > 0 }

// backOff begins the next back-off of d. It lasts as long as the schedule says for this
// number of failures in a row, but ends by the next retry in the domain. Groups that have
// expired do not wait for its end.
func (s *Scheduler) backOff(d *Domain, b DomainBackoff, now Time) {
	if d.backoff.step++; d.backoff.step == 1 {
		d.backoff.since = now
	}
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

// succeeded notes that a host of d took part in a transaction: its back-off ends, and the
// number of its places doubles, up to the limit or to parallel, which is what its hosts
// accept (0: not known).
func (s *Scheduler) succeeded(d *Domain, parallel int) {
	if d.backoff.step > 0 {
		d.backoff = backoff{until: d.backoff.until}
		d.limit = 1
	}
	d.limit = min(2*d.limit, max(s.limits.Domain, parallel))
}

// endBackoffBy lets the back-off of d end at a time at the latest.
func (d *Domain) endBackoffBy(at Time) { d.backoff.until = min(d.backoff.until, at) }

// applyToDomain updates the domain of g after an attempt.
func (s *Scheduler) applyToDomain(g *Group, o *Outcome, now Time) {
	d := g.Domain
	failed, exempt := o.Backoff.Reason != Reason{}, g.Priority.exempt()
	switch {
	case exempt && failed && o.Backoff.PolicyOnly, exempt && !failed && d.backoff.PolicyOnly:
		// The outcome says nothing about the policy that the others wait for.
	case !failed:
		if o.Delivered {
			s.proven.add(d.Name, now)
		}
		s.succeeded(d, o.Parallel)
	default:
		if d.backoff.step == o.BackoffStep { // else an attempt of the same time has begun the back-off
			s.backOff(d, o.Backoff, now)
		}
		if !g.state.Ended() {
			d.endBackoffBy(g.Due)
		}
	}
}

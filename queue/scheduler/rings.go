package scheduler

// rings has the domains that have a group due now: those that accepted mail lately, new
// ones, and the others.
type rings struct {
	proven, fresh, others ring
	turn                  int  // the ring whose turn it was
	newest                bool // whether the fresh domain before was the one that came last
}

// ringOf returns the ring in which a domain waits for its turn. A fresh domain has no
// claims and did not fail.
func (s *Scheduler) ringOf(d *Domain, now Time) *ring {
	switch {
	case s.proven.holds(d.Name, now):
		return &s.rings.proven
	case d.backoff.step == 0 && d.Claimed == 0:
		return &s.rings.fresh
	}
	return &s.rings.others
}

// nextDomain removes and returns the domain whose turn it is, nil if there is none. The
// rings take turns while there are claims left for all domains. When few are left, every
// second fresh domain is the one that came last: it must not wait behind ten thousand
// silent ones.
func (s *Scheduler) nextDomain() *Domain {
	r := &s.rings
	if s.provenOnly() {
		return r.proven.pop()
	}
	order := [...]*ring{&r.proven, &r.fresh, &r.others}
	r.turn = (r.turn + 1) % len(order)
	order[0], order[r.turn] = order[r.turn], order[0]
	for _, next := range order {
		last := false
		if next == &r.fresh && s.fewLeft() {
			r.newest = !r.newest
			last = r.newest
		}
		if last {
			if d := next.popLast(); d != nil {
				return d
			}
		} else if d := next.pop(); d != nil {
			return d
		}
	}
	return nil
}

// ring is a queue of domains. A domain that was put into another ring meanwhile is
// skipped.
type ring struct {
	domains []*Domain
	head    int
}

func (r *ring) push(d *Domain) {
	if d.ring == r {
		return
	}
	d.ring = r
	if r.head > 0 && r.head == len(r.domains) {
		r.domains, r.head = r.domains[:0], 0
	}
	r.domains = append(r.domains, d)
}

// pop removes and returns the first domain, nil if there is none.
func (r *ring) pop() *Domain {
	for r.head < len(r.domains) {
		d := r.domains[r.head]
		r.domains[r.head] = nil
		r.head++
		if r.head > 1024 && 2*r.head > len(r.domains) {
			n := copy(r.domains, r.domains[r.head:])
			clear(r.domains[n:])
			r.domains, r.head = r.domains[:n], 0
		}
		if d.ring == r {
			d.ring = nil
			return d
		}
	}
	return nil
}

// popLast removes and returns the domain that came last, nil if there is none.
func (r *ring) popLast() *Domain {
	for r.head < len(r.domains) {
		n := len(r.domains) - 1
		d := r.domains[n]
		r.domains[n] = nil
		r.domains = r.domains[:n]
		if d.ring == r {
			d.ring = nil
			return d
		}
	}
	return nil
}

// empty reports whether no domain is in the ring.
func (r *ring) empty() bool {
	for r.head < len(r.domains) && r.domains[r.head].ring != r {
		r.domains[r.head] = nil
		r.head++
	}
	return r.head == len(r.domains)
}

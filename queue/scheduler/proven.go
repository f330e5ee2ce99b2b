package scheduler

import "time"

const (
	// provenTime is how long a domain counts as proven after it accepted mail.
	provenTime = 24 * time.Hour
	// maxProven bounds the domains that are remembered as proven.
	maxProven = 20_000
	// fewClaims: lower limits of claims are not shared.
	fewClaims = 9
)

// proven has the domains that have accepted mail lately. A part of the claims is reserved
// for them: a stranger who lets this relay send mail to very many silent hosts
// (each bounce and each out-of-office reply is such a mail) must not keep the mail
// for hosts that answer from leaving.
type proven struct {
	since map[string]Time // the last delivery
}

// holds reports whether a domain accepted mail lately.
func (p *proven) holds(name string, now Time) bool {
	at, ok := p.since[name]
	return ok && now.Sub(at) < provenTime
}

// add notes that a domain accepted mail.
func (p *proven) add(name string, now Time) {
	if p.since == nil {
		p.since = make(map[string]Time)
	}
	if _, ok := p.since[name]; !ok && len(p.since) >= maxProven {
		p.shrink(now)
	}
	p.since[name] = now
}

// shrink removes domains: those that are too old, else the older half.
func (p *proven) shrink(now Time) {
	for limit := provenTime; len(p.since) >= maxProven; limit /= 2 {
		for name, at := range p.since {
			if now.Sub(at) >= limit {
				delete(p.since, name)
			}
		}
	}
}

// remove notes that a domain failed as a whole.
func (p *proven) remove(name string) { delete(p.since, name) }

// unprovenLimit is how many groups of domains that are not proven may be claimed
// at a time: two thirds of all where there are enough, 0 for no bound.
func (s *Scheduler) unprovenLimit() int {
	if s.limits.Claims < fewClaims {
		return s.limits.Claims
	}
	return s.limits.Claims - s.limits.Claims/3
}

// provenOnly reports whether only groups of proven domains may be claimed now.
func (s *Scheduler) provenOnly() bool {
	n := s.unprovenLimit()
	return n > 0 && s.claims.unproven >= n
}

// fewLeft reports whether half of the claims for domains that are not proven are taken.
func (s *Scheduler) fewLeft() bool {
	n := s.unprovenLimit()
	return n > 0 && 2*s.claims.unproven >= n
}

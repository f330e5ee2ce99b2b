package queue

import "time"

const (
	// provenTime is how long a domain counts as one that takes mail after it took
	// some.
	provenTime = 24 * time.Hour
	// maxProven bounds the domains of which that is remembered.
	maxProven = 20_000
	// fewClaims is a limit of claims that is too low to be shared.
	fewClaims = 9
)

// proven are the domains that have taken mail lately. A part of the claims is for
// them alone: whoever lets this relay send mail to very many silent hosts (each
// bounce and each out-of-office reply is such a mail) must not keep the mail of
// those that answer from leaving. Queue.mu guards it.
type proven struct {
	since   map[string]int64 // the last delivery, on the queue's own clock
	claimed int              // units in flight of domains that are not proven
}

// holds reports whether a domain took mail lately.
func (p *proven) holds(name string, now int64) bool {
	at, ok := p.since[name]
	return ok && now-at < int64(provenTime)
}

// took notes that a domain took mail.
func (p *proven) took(name string, now int64) {
	if p.since == nil {
		p.since = make(map[string]int64)
	}
	if _, ok := p.since[name]; !ok && len(p.since) >= maxProven {
		p.shrink(now)
	}
	p.since[name] = now
}

// shrink makes room: what is too old goes, else the older half.
func (p *proven) shrink(now int64) {
	for limit := int64(provenTime); len(p.since) >= maxProven; limit /= 2 {
		for name, at := range p.since {
			if now-at >= limit {
				delete(p.since, name)
			}
		}
	}
}

// failed ends what a domain had proved.
func (p *proven) failed(name string) { delete(p.since, name) }

// forOthers is how many units of domains that are not proven may be claimed at a
// time: two thirds of all where there are enough, 0 for no bound.
func (q *Queue) forOthers() int {
	if q.claimLimit < fewClaims {
		return q.claimLimit
	}
	return q.claimLimit - q.claimLimit/3
}

// reserved reports whether what may be claimed now is for proven domains alone.
func (q *Queue) reserved() bool {
	n := q.forOthers()
	return n > 0 && q.proven.claimed >= n
}

// fewLeft reports whether half of the places are taken that domains may have which
// are not proven.
func (q *Queue) fewLeft() bool {
	n := q.forOthers()
	return n > 0 && 2*q.proven.claimed >= n
}

// PlacesShort reports whether something is due that finds no place: as many units
// are claimed as may be, or as many as domains may have that are not proven.
func (q *Queue) PlacesShort() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.paused || q.claimLimit <= 0 {
		return false
	}
	now := q.clock()
	waits := len(q.sleeping) > 0 && q.sleeping[0].wakeAt <= now || !q.ready.empty() || !q.readyNew.empty()
	return q.atLimit() && (waits || !q.readyProven.empty()) || q.reserved() && waits
}

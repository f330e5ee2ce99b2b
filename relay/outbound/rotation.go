package outbound

import (
	"maps"
	"net/netip"
	"sync"
	"time"
)

const (
	// maxRotation bounds the hosts and addresses that are remembered to have been tried.
	maxRotation = 100_000
	// rotationMemory is how long they are remembered after an attempt that failed;
	// no retry is later than that by default. restartRotation is for how long mail goes
	// on past them where another host takes it: then the best ones are tried again.
	rotationMemory  = 24 * time.Hour
	restartRotation = 10 * time.Minute
)

// tried are the names of hosts and the addresses that were tried in vain.
type tried map[string]bool

// Rotation remembers what the attempts of a domain have tried, where each tries only
// a part, so that all of it gets its turn. The zero value is ready for use.
type Rotation struct {
	mu      sync.Mutex
	domains map[string]turn
	size    int
}

type turn struct {
	tried tried
	until time.Time
	works bool // another host of the domain took mail
}

// Begin begins the way of an attempt through the hosts of a plan. Hosts and addresses
// that earlier attempts have tried in vain come last. walk is nil, or the attempt's
// walk through another plan before: the addresses that it has dialed count.
func (r *Rotation) Begin(domain string, p *Plan, walk *Walk, now time.Time) *Walk {
	w := &Walk{plan: p, earlier: r.of(domain, now)}
	if walk != nil {
		w.dialed = walk.dialed
	}
	return w
}

// End takes note of what a walk has tried, so that the next attempt goes on with the
// hosts that are left, and begins with the best again after them. left reports
// whether the message still has recipients for other hosts, cut whether the attempt
// was cut off.
func (r *Rotation) End(domain string, w *Walk, left, cut bool, now time.Time) {
	switch limited := w.Full() || cut; {
	case limited && left:
		r.set(domain, w.earlier.and(w.tried), now)
	case !limited && !left && len(w.earlier) > 0 && !w.again:
		r.works(domain, now)
	default:
		r.set(domain, nil, now)
	}
}

// of returns what was tried; nobody changes it.
func (r *Rotation) of(domain string, now time.Time) tried {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.domains[domain]
	if left := t.until.Sub(now); left <= 0 || left > rotationMemory { // or the clock was set
		return nil
	}
	return t.tried
}

// set replaces what is remembered of a domain; nothing ends it.
func (r *Rotation) set(domain string, t tried, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.size -= len(r.domains[domain].tried)
	delete(r.domains, domain)
	if len(t) == 0 {
		return
	}
	if r.domains == nil || r.size+len(t) > maxRotation {
		r.domains, r.size = make(map[string]turn), 0 // all begin with the best once more
	}
	r.domains[domain] = turn{tried: t, until: now.Add(rotationMemory)}
	r.size += len(t)
}

// works takes note that another host than those took mail.
func (r *Rotation) works(domain string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t, ok := r.domains[domain]; ok && !t.works {
		t.works, t.until = true, now.Add(restartRotation)
		r.domains[domain] = t
	}
}

// and returns what is in t or in more.
func (t tried) and(more tried) tried {
	out := make(tried, len(t)+len(more))
	maps.Copy(out, t)
	maps.Copy(out, more)
	return out
}

// has reports whether all of some addresses were tried; none were not.
func (t tried) has(addrs []netip.Addr) bool {
	for _, a := range addrs {
		if !t[a.String()] {
			return false
		}
	}
	return len(addrs) > 0
}

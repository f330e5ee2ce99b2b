package delivery

import (
	"maps"
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

// rotation remembers what the attempts of a domain have tried, where each tries only
// a part, so that all of it gets its turn.
type rotation struct {
	mu      sync.Mutex
	domains map[string]turn
	size    int
}

type turn struct {
	tried tried
	until time.Time
	works bool // another host of the domain took mail
}

// of returns what was tried; nobody changes it.
func (r *rotation) of(domain string, now time.Time) tried {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.domains[domain]
	if left := t.until.Sub(now); left <= 0 || left > rotationMemory { // or the clock was set
		return nil
	}
	return t.tried
}

// set replaces what is remembered of a domain; nothing ends it.
func (r *rotation) set(domain string, t tried, now time.Time) {
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
func (r *rotation) works(domain string, now time.Time) {
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

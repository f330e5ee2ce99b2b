package delivery

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/stsrelay/stsrelay/relay/failure"
	"github.com/stsrelay/stsrelay/relay/outbound"
)

const (
	// maxHomeless bounds the domains that are remembered to have no host.
	maxHomeless = 10_000
	// homelessMemory is how long a domain is remembered after the last look.
	homelessMemory = time.Hour
	// homelessTrust is for how long a verdict is not looked for anew.
	homelessTrust = time.Minute
)

// homeless are the domains that were found to have no mail host.
type homeless struct {
	mu      sync.Mutex
	domains map[string]homelessSince
}

// homelessSince is when a domain was looked at.
type homelessSince struct {
	first, last time.Time
	confirmed   time.Time // the last time that a second look found no host either
}

// look records a lookup that found no host, and returns what is known of the domain.
func (h *homeless) look(domain string, now time.Time) homelessSince {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, ok := h.domains[domain]
	if since := now.Sub(s.last); !ok || since < 0 || since > homelessMemory {
		s = homelessSince{first: now}
	}
	s.last = now
	h.put(domain, s)
	return s
}

// confirm records a second lookup without a host.
func (h *homeless) confirm(domain string, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s, ok := h.domains[domain]; ok {
		s.confirmed = now
		h.put(domain, s)
	}
}

func (h *homeless) put(domain string, s homelessSince) {
	if _, known := h.domains[domain]; h.domains == nil || !known && len(h.domains) >= maxHomeless {
		h.domains = make(map[string]homelessSince) // they are looked at twice once more
	}
	h.domains[domain] = s
}

// found forgets a domain: it has a host.
func (h *homeless) found(domain string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.domains, domain)
}

// metHost reports whether the attempt got as far as a host.
func (a *attempt) metHost() bool {
	return a.walk != nil && a.walk.Dialed() > 0 || len(a.record.contacts) > 0 || a.busy > 0
}

// homeless returns the failure where the attempt met no host because the domain has no
// mail host at all. Such a domain is looked at twice, and then its mail is given up. nil
// means that the attempt's own reasons count.
func (a *attempt) homeless(ctx context.Context, plan *outbound.Plan) *attemptError {
	why := ""
	if !a.metHost() {
		why = a.d.finder.Homeless(ctx, plan, a.reach().Private).String()
	}
	if why == "" {
		a.d.homeless.found(a.to.Key())
		return nil
	}
	now := a.d.now()
	s := a.d.homeless.look(a.to.Key(), now)
	if left := outbound.SecondLook - now.Sub(s.first); left > 0 {
		return &attemptError{reason: failure.NoHost, domainWide: true, retryAfter: left,
			text: fmt.Sprintf("%s; it is looked at once more in %s, and the message is given up if there is still none", why, age(max(left, time.Second)))}
	}
	if now.Sub(s.confirmed) > homelessTrust {
		a.d.finder.Forget(plan)
		fresh, f := a.findHosts(ctx)
		if f != nil {
			return f
		}
		if why = a.d.finder.Homeless(ctx, &fresh, a.reach().Private).String(); why == "" {
			a.d.homeless.found(a.to.Key())
			a.tryHosts(ctx, &fresh)
			return nil
		}
		a.d.homeless.confirm(a.to.Key(), now)
	}
	return &attemptError{permanent: true, reason: failure.NoHost,
		text: fmt.Sprintf("%s; it was looked at again after %s", why, age(now.Sub(s.first)))}
}

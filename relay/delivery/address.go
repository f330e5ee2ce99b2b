package delivery

import (
	"maps"
	"net/netip"
	"slices"
	"time"
)

const (
	// At one address, names that took mail lately may have provenTimes as many sessions as
	// other names: many customers of one provider share an address. The two classes have
	// bounds of their own, so that nobody can keep mail from a good host by pointing other
	// names at its address.
	provenTimes = 4
	// usualHold is how long a session is expected to hold its place at an address of
	// which nothing is known.
	usualHold = time.Second
)

// address is what is known of one IPv4 address, or of one IPv6 network: new names cost a
// stranger nothing, and neither do the addresses of a network.
type address struct {
	opening  [2]int     // sessions that are being opened, by class
	sessions []*session // of the pool, whatever their names
	held     time.Duration
	// next is when the next attempt that finds no place comes back. They come back one
	// after the other, as places become free.
	next time.Time
}

// network is the prefix by which an address is counted: the whole of an IPv4 address, or
// the 64 bits of IPv6 that a customer gets at least.
func network(a netip.Addr) netip.Prefix {
	bits := 32
	if a = a.Unmap().WithZone(""); a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits) // an error leaves the zero value
	return p
}

func class(proven bool) int {
	if proven {
		return 1
	}
	return 0
}

// busyAt is how many sessions of a class are being opened or used at an address.
func (p *pool) busyAt(a *address, proven bool, now time.Time) int {
	n := a.opening[class(proven)]
	for _, s := range a.sessions {
		if s.busy && p.host(s.key).proven(now) == proven {
			n++
		}
	}
	return n
}

// oldestIdle is the idle session that was used longest ago; nil where there is none.
func (a *address) oldestIdle() (oldest *session) {
	for _, s := range a.sessions {
		if !s.busy && (oldest == nil || s.used.Before(oldest.used)) {
			oldest = s
		}
	}
	return oldest
}

// turnAway is the error of an attempt that finds no place at any of its addresses.
func (a *address) turnAway(limit int, now time.Time) *errBusy {
	hold := a.held
	if hold == 0 {
		hold = usualHold
	}
	if a.next.Before(now) {
		a.next = now
	}
	if a.next = a.next.Add(hold / time.Duration(max(limit, 1))); a.next.Sub(now) > maxBusy {
		a.next = now.Add(maxBusy)
	}
	return &errBusy{wait: max(a.next.Sub(now), minBusy)}
}

func (p *pool) address(a netip.Addr) *address {
	n := network(a)
	if p.addrs[n] == nil {
		p.addrs[n] = new(address)
	}
	return p.addrs[n]
}

// forgetAddresses forgets addresses that have no session, and that no attempt was told to
// come back to.
func (p *pool) forgetAddresses(now time.Time) {
	maps.DeleteFunc(p.addrs, func(_ netip.Prefix, a *address) bool {
		return a.opening == [2]int{} && len(a.sessions) == 0 && !a.next.After(now)
	})
}

// reservation is the right to open a session at one of several addresses.
type reservation struct {
	pool   *pool
	at     []netip.AddrPort
	proven bool
	begun  time.Time
}

// reserve takes a place for the host named key at each of the addresses that have one: an
// address has a place while fewer sessions of the host's class are busy there than limit
// allows.
// An idle session there is closed if that makes the place. The error is an *errBusy where
// no address has a place.
func (p *pool) reserve(key string, at []netip.AddrPort, limit sessionLimit, now time.Time) (*reservation, error) {
	p.mu.Lock()
	r := &reservation{pool: p, proven: p.host(key).proven(now), begun: now}
	bound := limit.base
	if r.proven {
		bound = max(limit.base*provenTimes, limit.most)
	}
	var busy *errBusy
	var old []*session
	for _, to := range at {
		a := p.address(to.Addr())
		if p.busyAt(a, r.proven, now) >= bound {
			if b := a.turnAway(bound, now); busy == nil || b.wait < busy.wait {
				busy = b
			}
			continue
		}
		if s := a.oldestIdle(); s != nil && len(a.sessions)+a.opening[0]+a.opening[1] >= p.host(key).growth.allowed(limit) {
			p.drop(s)
			old = append(old, s)
		}
		a.opening[class(r.proven)]++
		r.at = append(r.at, to)
	}
	p.mu.Unlock()
	for _, s := range old {
		p.quits.Go(func() { p.quit(s) })
	}
	if len(r.at) == 0 && busy != nil {
		return nil, busy
	}
	return r, nil
}

// keep gives all places back but the one at to.
func (r *reservation) keep(to netip.AddrPort) {
	r.pool.mu.Lock()
	defer r.pool.mu.Unlock()
	kept := false
	r.at = slices.DeleteFunc(r.at, func(x netip.AddrPort) bool {
		if x == to && !kept {
			kept = true
			return false
		}
		r.pool.address(x.Addr()).opening[class(r.proven)]--
		return true
	})
}

// end gives all places back, after no session could be opened.
func (r *reservation) end(now time.Time) {
	r.pool.mu.Lock()
	defer r.pool.mu.Unlock()
	for _, x := range r.at {
		a := r.pool.address(x.Addr())
		a.opening[class(r.proven)]--
		a.held = average(a.held, now.Sub(r.begun))
	}
	r.at = nil
}

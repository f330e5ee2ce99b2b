package ingress

import (
	"net/netip"
	"strings"
	"time"
)

const (
	// failureMemory is how long wrong passwords of an address count.
	failureMemory = 15 * time.Minute
	// knownMemory is how long an address is known after a client there has proved
	// by AUTH or a certificate that it may send.
	knownMemory = 7 * 24 * time.Hour
	// freeFailures is how many wrong passwords an address may give before its
	// tries are checked one after the other only.
	freeFailures = 5
)

// client is what is known of a client address while it matters.
type client struct {
	connections int
	failures    int       // wrong passwords since the last right one
	lastFailure time.Time // of them
	nextTry     time.Time // no password is checked before
	turn        semaphore // of one: the passwords of the address are checked one after the other
	known       time.Time // when a client proved last that it may send
	rate        rate
}

// rate counts messages by the minute.
type rate struct {
	minute   time.Time
	messages int
}

// count counts a message, and reports whether it is within the limit.
func (r *rate) count(now time.Time, limit int) bool {
	if now.Sub(r.minute) >= time.Minute || now.Before(r.minute) {
		r.minute, r.messages = now, 0
	}
	r.messages++
	return r.messages <= limit
}

// clients is what is known of client addresses and users. The server's lock guards
// it.
type clients struct {
	byAddr map[netip.Addr]*client
	users  map[string]*rate // by name in lower case
}

func newClients() clients {
	return clients{byAddr: make(map[netip.Addr]*client), users: make(map[string]*rate)}
}

// of returns the client with an address. All addresses of an IPv6 /64 are one
// client.
func (c *clients) of(a netip.Addr) *client {
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil && !a.IsLoopback() {
			a = p.Addr()
		}
	}
	k := c.byAddr[a]
	if k == nil {
		k = &client{turn: make(semaphore, 1)}
		c.byAddr[a] = k
	}
	return k
}

// forget drops clients and users that no longer matter, once there are more than
// most.
func (c *clients) forget(now time.Time, most int) {
	if len(c.byAddr) > most {
		for a, k := range c.byAddr {
			if k.connections == 0 && now.Sub(k.lastFailure) > failureMemory && now.Sub(k.rate.minute) > time.Minute && now.Sub(k.known) > knownMemory {
				delete(c.byAddr, a)
			}
		}
	}
	if len(c.users) > most {
		for name, r := range c.users {
			if now.Sub(r.minute) > time.Minute {
				delete(c.users, name)
			}
		}
	}
}

// recognize records that a client has proved that it may send. It is no longer a
// stranger, and clients from its address are not strangers for knownMemory.
func (s *Server) recognize(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients.of(c.remote).known = s.now()
	if c.stranger {
		c.stranger = false
		s.strangers--
	}
}

// turnOf returns the semaphore that serializes the password checks of an address,
// so that each is judged with the outcome of those before it.
func (s *Server) turnOf(a netip.Addr) semaphore {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.clients.of(a).turn
}

func (s *Server) rightPassword(a netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.clients.of(a)
	k.failures, k.nextTry = 0, time.Time{}
}

// passwordWait returns how long no password of an address is checked. The delay of
// a wrong one alone would not slow down a client that tries on many connections,
// or does not wait for the reply.
func (s *Server) passwordWait(a netip.Addr) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, now := s.clients.of(a), s.now()
	if k.failures < freeFailures || now.Sub(k.lastFailure) > failureMemory {
		return 0
	}
	if wait := k.nextTry.Sub(now); wait > 0 {
		return wait
	}
	k.nextTry = now.Add(s.authDelay(k)) // this try's turn
	return 0
}

func (s *Server) wrongPassword(a netip.Addr) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, now := s.clients.of(a), s.now()
	if now.Sub(k.lastFailure) > failureMemory {
		k.failures = 0
	}
	delay := s.authDelay(k)
	k.failures++
	k.lastFailure, k.nextTry = now, now.Add(delay)
	return delay
}

func (s *Server) authDelay(k *client) time.Duration {
	return min(s.limits().AuthDelay<<min(k.failures, 10), maxAuthDelay)
}

// withinRate counts a message of a client, and of the user where there is one,
// and reports whether it may be sent.
func (s *Server) withinRate(a netip.Addr, user string) bool {
	limit := s.limits().Rate
	if limit == 0 {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	ok := s.clients.of(a).rate.count(now, limit)
	if user == "" {
		return ok
	}
	user = strings.ToLower(user)
	r := s.clients.users[user]
	if r == nil {
		r = &rate{}
		s.clients.users[user] = r
	}
	return r.count(now, limit) && ok
}

package ingress

import (
	"net/netip"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/clientnet"
)

const (
	// failureMemory is how long wrong passwords from an address count.
	failureMemory = 15 * time.Minute
	// knownMemory is how long an address stays known after a client there has
	// proved by AUTH or a certificate that it may send.
	knownMemory = 7 * 24 * time.Hour
	// freeFailures is how many wrong passwords an address may send before its
	// attempts are delayed (passwordWait).
	freeFailures = 5
)

// client is the state of a client address while it matters.
type client struct {
	connections int
	failures    int       // wrong passwords since the last right one
	lastFailure time.Time // time of the last wrong password
	nextTry     time.Time // no password is checked before this time
	turn        semaphore // of one: passwords from the address are checked one at a time
	known       time.Time // when a client last proved that it may send
	rate        rate
}

// rate counts messages per minute.
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

// clients is the state of client addresses and users. The server's mutex guards it.
type clients struct {
	byAddr map[netip.Addr]*client
	users  map[string]*rate // by name in lower case
}

func newClients() clients {
	return clients{byAddr: make(map[netip.Addr]*client), users: make(map[string]*rate)}
}

// of returns the client with address a, and creates it if needed. All addresses of a
// network are one client.
func (c *clients) of(a netip.Addr) *client {
	a = clientnet.Of(a)
	k := c.byAddr[a]
	if k == nil {
		k = &client{turn: make(semaphore, 1)}
		c.byAddr[a] = k
	}
	return k
}

// forget removes the clients and the users that no longer matter, if there are more than
// most of either.
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

// passwordWait returns how long no password from an address is checked, 0 if one may be
// checked now. The delay after a wrong password alone would not slow down a client that
// tries on many connections or does not wait for the reply.
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
	k.nextTry = now.Add(s.authDelay(k)) // reserved for this attempt
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

// withinRate counts a message for a client, and for the user if there is one. It reports
// whether both are within the limit.
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

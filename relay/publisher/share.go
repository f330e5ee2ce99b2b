package publisher

import (
	"net"
	"net/netip"
	"slices"
	"sync"

	"github.com/stsrelay/stsrelay/internal/clientnet"
)

const (
	// freeConnections is the number of connections that anybody may have. Beyond it a
	// network has networkShare at most, so that one client alone cannot keep all others from
	// the policies: who finds none sends without protection.
	freeConnections = maxConnections / 2
	networkShare    = 20
)

// shared is a listener whose connections are shared among the networks of its clients. Those of load balancers count for nobody.
type shared struct {
	net.Listener
	balancers []netip.Prefix

	mu   sync.Mutex
	open int
	of   map[netip.Addr]int
}

func share(ln net.Listener, balancers []netip.Prefix) net.Listener {
	return &shared{Listener: ln, balancers: balancers, of: make(map[netip.Addr]int)}
}

// Accept implements net.Listener. A connection too many is closed at once.
func (s *shared) Accept() (net.Conn, error) {
	for {
		c, err := s.Listener.Accept()
		if err != nil {
			return nil, err
		}
		t, ok := c.RemoteAddr().(*net.TCPAddr)
		if !ok {
			return c, nil
		}
		a := t.AddrPort().Addr().Unmap()
		if slices.ContainsFunc(s.balancers, func(p netip.Prefix) bool { return p.Contains(a) }) {
			return c, nil
		}
		if a = clientnet.Of(a); s.enter(a) {
			return &sharedConn{Conn: c, leave: sync.OnceFunc(func() { s.leave(a) })}, nil
		}
		_ = c.Close() // nothing was written
	}
}

func (s *shared) enter(a netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open >= freeConnections && s.of[a] >= networkShare {
		return false
	}
	s.open++
	s.of[a]++
	return true
}

func (s *shared) leave(a netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	if s.of[a]--; s.of[a] == 0 {
		delete(s.of, a)
	}
}

// sharedConn is a connection that is counted until it is closed.
type sharedConn struct {
	net.Conn
	leave func()
}

// Close implements net.Conn.
func (c *sharedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}

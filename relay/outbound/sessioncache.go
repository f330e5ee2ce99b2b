package outbound

import (
	"crypto/tls"
	"sync"
)

// sessionCache has the session tickets that one handshake may use and brings in. A
// resumed session shows the certificate of the first handshake, and each resumption
// brings a new ticket for it: what the host has mended since would not be seen for
// as long as that goes on. So a ticket is used only where the session that it stands
// for leaves nothing to be desired. A nil *sessionCache has no tickets.
type sessionCache struct {
	shared tls.ClientSessionCache

	mu      sync.Mutex
	full    bool // a full handshake is wanted
	offered bool // a ticket was used, or tried
	dropped bool
	key     string
}

// Get implements tls.ClientSessionCache.
func (c *sessionCache) Get(key string) (*tls.ClientSessionState, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.key = key
	if c.full || c.dropped {
		return nil, false
	}
	s, ok := c.shared.Get(key)
	c.offered = ok && s != nil
	return s, ok
}

// Put implements tls.ClientSessionCache. In TLS 1.3 tickets come at any time of
// a session.
func (c *sessionCache) Put(key string, s *tls.ClientSessionState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.key = key; !c.dropped {
		c.shared.Put(key, s)
	}
}

// drop forgets the host's ticket, and takes none of this session any more.
func (c *sessionCache) drop() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dropped = true; c.key != "" {
		c.shared.Put(c.key, nil)
	}
}

// used reports whether the handshake offered a ticket to the host.
func (c *sessionCache) used() bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.offered
}

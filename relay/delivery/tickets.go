package delivery

import (
	"crypto/tls"
	"sync"
)

// tickets are the session tickets that one handshake may use and brings in. A
// resumed session shows the certificate of the first handshake, each resumption
// brings a new ticket for it, and what the host has mended since would not be
// seen for as long as that goes on. So a ticket serves only where what it shows
// leaves nothing to be desired.
type tickets struct {
	shared tls.ClientSessionCache

	mu      sync.Mutex
	full    bool // a full handshake is wanted
	offered bool // a ticket was used, or tried
	dropped bool
	key     string
}

// Get implements tls.ClientSessionCache.
func (t *tickets) Get(key string) (*tls.ClientSessionState, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.key = key
	if t.full || t.dropped {
		return nil, false
	}
	s, ok := t.shared.Get(key)
	t.offered = ok && s != nil
	return s, ok
}

// Put implements tls.ClientSessionCache. In TLS 1.3 tickets come at any time of
// a session.
func (t *tickets) Put(key string, s *tls.ClientSessionState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.key = key; !t.dropped {
		t.shared.Put(key, s)
	}
}

// drop forgets the host's ticket, and takes none of this session any more.
func (t *tickets) drop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dropped = true; t.key != "" {
		t.shared.Put(t.key, nil)
	}
}

func (t *tickets) wereOffered() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.offered
}

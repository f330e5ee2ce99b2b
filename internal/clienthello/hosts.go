package clienthello

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"
)

const (
	// memory is how long an address is remembered, maxHosts how many are.
	memory   = 24 * time.Hour
	maxHosts = 4096
)

// Hosts remembers for a day which addresses have answered a small ClientHello
// and not a large one. A nil *Hosts remembers nothing.
type Hosts struct {
	now func() time.Time

	mu    sync.Mutex
	until map[string]time.Time // by address, "IP:port"
}

// NewHosts returns an empty Hosts; now nil is time.Now.
func NewHosts(now func() time.Time) *Hosts {
	if now == nil {
		now = time.Now
	}
	return &Hosts{now: now, until: make(map[string]time.Time)}
}

// Small reports whether an address wants a small ClientHello.
func (h *Hosts) Small(address string) bool {
	if h == nil {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now().Before(h.until[address])
}

// Remember notes that an address wants a small ClientHello. Where there are too
// many, those whose day is over make room, else any one.
func (h *Hosts) Remember(address string) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	if len(h.until) >= maxHosts {
		for a, until := range h.until {
			if !now.Before(until) {
				delete(h.until, a)
			}
		}
	}
	for a := range h.until {
		if len(h.until) < maxHosts {
			break
		}
		delete(h.until, a)
	}
	h.until[address] = now.Add(memory)
}

// Client makes a handshake on a connection to address. Where the host does not
// answer, it makes a second one with a small ClientHello over the connection that
// again opens to the same address. It closes what it does not return.
func (h *Hosts) Client(ctx context.Context, conn net.Conn, address string, cfg *tls.Config, limits Limits, again func(context.Context) (net.Conn, error)) (*tls.Conn, error) {
	if h.Small(address) {
		cfg = Classical(cfg)
	}
	client, err := Handshake(ctx, conn, cfg, limits)
	if err == nil {
		return client, conn.SetDeadline(time.Time{})
	}
	_ = conn.Close()
	if !Unanswered(err) {
		return nil, err
	}
	conn, dialErr := again(ctx)
	if dialErr != nil {
		return nil, err // what the host did first tells more
	}
	client, err = Handshake(ctx, conn, Classical(cfg), limits)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	h.Remember(address)
	return client, conn.SetDeadline(time.Time{})
}

package delivery

import (
	"context"
	"sync"
	"time"

	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/relay/smtpclient"
)

const (
	// idleTime is how long a session waits for its next message: long enough
	// for the next one of a burst, short enough not to be a nuisance.
	idleTime = 8 * time.Second
	// sessionMessages is how many messages go through one session at most.
	sessionMessages = 100
)

// session is an open SMTP session with what it proved.
type session struct {
	client   *smtpclient.Client
	evidence security.Evidence
	key      string // of the pool: host, port, user
	host     string
	addr     string // "192.0.2.1"
	messages int
	used     time.Time
	counted  map[string]bool // policy domains that have counted it
}

// pool keeps sessions by host and bounds their number. A session is not
// kept for a domain: whether it may carry a message is asked of its evidence
// every time.
type pool struct {
	mu    sync.Mutex
	hosts map[string]*hostSessions // by candidate.key
}

type hostSessions struct {
	open    int // sessions in use, idle, or being opened
	idle    []*session
	waiting []chan struct{}
}

func newPool() *pool { return &pool{hosts: make(map[string]*hostSessions)} }

// get returns an idle session of a host that fits, or nil and the right to open
// one; that right ends with put or drop. It waits while the host has limit
// sessions, idle ones included.
func (p *pool) get(ctx context.Context, key string, limit int, fits func(*session) bool) (*session, error) {
	for {
		p.mu.Lock()
		h := p.hosts[key]
		if h == nil {
			h = &hostSessions{}
			p.hosts[key] = h
		}
		for i := len(h.idle) - 1; i >= 0; i-- {
			if s := h.idle[i]; fits(s) {
				h.idle = append(h.idle[:i], h.idle[i+1:]...)
				p.mu.Unlock()
				return s, nil
			}
		}
		var evicted *session
		if h.open >= limit && len(h.idle) > 0 {
			evicted, h.idle = h.idle[0], h.idle[1:]
			h.open--
		}
		if h.open < limit {
			h.open++
			p.mu.Unlock()
			if evicted != nil {
				quit(evicted)
			}
			return nil, nil
		}
		ready := make(chan struct{})
		h.waiting = append(h.waiting, ready)
		p.mu.Unlock()
		select {
		case <-ready:
		case <-ctx.Done():
			p.mu.Lock()
			p.wake(h) // it may have been our turn
			p.mu.Unlock()
			return nil, context.Cause(ctx)
		}
	}
}

// put gives a session back after use.
func (p *pool) put(s *session, now time.Time) {
	if !s.client.Usable() || s.messages >= sessionMessages {
		p.drop(s.key)
		quit(s)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.hosts[s.key]
	s.used = now
	h.idle = append(h.idle, s)
	p.wake(h)
}

// drop ends the right to a session that was not opened or is closed.
func (p *pool) drop(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.hosts[key]
	h.open--
	p.wake(h)
	if h.open == 0 && len(h.waiting) == 0 {
		delete(p.hosts, key)
	}
}

func (p *pool) wake(h *hostSessions) {
	if len(h.waiting) > 0 {
		close(h.waiting[0])
		h.waiting = h.waiting[1:]
	}
}

// closeIdle closes the sessions that were last used before t.
func (p *pool) closeIdle(t time.Time) {
	var old []*session
	p.mu.Lock()
	for key, h := range p.hosts {
		keep := h.idle[:0]
		for _, s := range h.idle {
			if s.used.Before(t) {
				old = append(old, s)
				h.open--
				p.wake(h)
			} else {
				keep = append(keep, s)
			}
		}
		clear(h.idle[len(keep):])
		h.idle = keep
		if h.open == 0 && len(h.waiting) == 0 {
			delete(p.hosts, key)
		}
	}
	p.mu.Unlock()
	var wg sync.WaitGroup
	for _, s := range old {
		wg.Go(func() { quit(s) })
	}
	wg.Wait()
}

// size is the number of sessions, idle ones included.
func (p *pool) size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, h := range p.hosts {
		n += h.open
	}
	return n
}

// quit says goodbye; a host that does not answer is given a short time only.
func quit(s *session) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = s.client.Quit(ctx) // the session is over either way
}

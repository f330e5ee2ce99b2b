package delivery

import (
	"context"
	"net/netip"
	"slices"
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
	// firstSessions is how many sessions a host gets before it has shown that it
	// takes more.
	firstSessions = 2
	// hostMemory is how long it is remembered how a host took its mail.
	hostMemory = 10 * time.Minute
	// maxWaiting is how many attempts may wait for a session to one host, for
	// each session that it may have. More give their units back: they would only
	// hold what other hosts' mail needs.
	maxWaiting = 2
)

// session is an open SMTP session with what it proved.
type session struct {
	client   *smtpclient.Client
	evidence security.Evidence
	key      string // of the pool: host, port, user
	host     string
	addr     netip.Addr
	messages int
	used     time.Time
	counted  map[string]bool // policy domains that have counted it
}

// pool keeps sessions by host and decides how many a host gets. A session is not
// kept for a domain: whether it may carry a message is asked of its evidence
// every time.
type pool struct {
	mu    sync.Mutex
	hosts map[string]*hostSessions // by candidate.key
}

// hostSessions is what is known of one host. How many sessions it may have grows
// with every message that it takes and is halved when it is too much for it.
type hostSessions struct {
	open    int // sessions in use, idle, or being opened
	idle    []*session
	waiting []chan struct{}
	used    time.Time

	window  float64       // sessions that the host may have
	steady  bool          // the window was halved: it grows slowly now
	opening time.Duration // what it takes to open a session, averaged
	message time.Duration // what a message takes, averaged
}

// errBusy says that too many wait for a host already.
type errBusy struct {
	// wait is when another try makes sense.
	wait time.Duration
}

func (e *errBusy) Error() string {
	return "the host is busy with mail of this relay; it is tried again in " + e.wait.String()
}

func newPool() *pool { return &pool{hosts: make(map[string]*hostSessions)} }

func (p *pool) host(key string) *hostSessions {
	h := p.hosts[key]
	if h == nil {
		h = &hostSessions{window: firstSessions}
		p.hosts[key] = h
	}
	return h
}

// get returns an idle session of a host that fits, or nil and the right to open
// one; that right ends with put or drop. It waits while the host has as many
// sessions as it may, at most limit, and while waiting for one is shorter than
// opening one. The error is of ctx, or an *errBusy.
func (p *pool) get(ctx context.Context, key string, limit int, fits func(*session) bool) (*session, error) {
	for {
		p.mu.Lock()
		h := p.host(key)
		limit := min(limit, max(int(h.window), 1))
		if i := slices.IndexFunc(h.idle, fits); i >= 0 {
			s := h.idle[i]
			h.idle = slices.Delete(h.idle, i, i+1)
			p.mu.Unlock()
			return s, nil
		}
		var evicted *session
		if h.open >= limit && len(h.idle) > 0 {
			evicted, h.idle = h.idle[0], slices.Delete(h.idle, 0, 1)
			h.open--
		}
		if h.open < limit && (evicted != nil || !h.worthWaiting()) {
			h.open++
			p.mu.Unlock()
			if evicted != nil {
				quit(evicted)
			}
			return nil, nil
		}
		if len(h.waiting) >= maxWaiting*limit {
			wait := min(max(h.expected(), time.Second), time.Minute)
			p.mu.Unlock()
			return nil, &errBusy{wait: wait}
		}
		ready := make(chan struct{})
		h.waiting = append(h.waiting, ready)
		p.mu.Unlock()
		select {
		case <-ready:
		case <-ctx.Done():
			p.mu.Lock()
			if i := slices.Index(h.waiting, ready); i >= 0 {
				h.waiting = slices.Delete(h.waiting, i, i+1)
			} else {
				h.wake() // it was our turn
			}
			p.mu.Unlock()
			return nil, context.Cause(ctx)
		}
	}
}

// expected is how long the next one who waits will wait.
func (h *hostSessions) expected() time.Duration {
	return h.message * time.Duration(len(h.waiting)+1) / time.Duration(max(h.open, 1))
}

// worthWaiting says whether a session will be free sooner than another one could
// be opened.
func (h *hostSessions) worthWaiting() bool {
	return len(h.idle) == 0 && h.open >= firstSessions && h.message > 0 && h.expected() < h.opening
}

// wake lets the one who has waited longest look again.
func (h *hostSessions) wake() {
	if len(h.waiting) > 0 {
		close(h.waiting[0])
		h.waiting = h.waiting[1:]
	}
}

// average is a moving average.
func average(old, v time.Duration) time.Duration {
	if old == 0 {
		return v
	}
	return old + (v-old)/4
}

// opened notes that a session of the host was opened within d.
func (p *pool) opened(key string, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.host(key)
	h.opening = average(h.opening, d)
}

// took notes that the host took a message within d.
func (p *pool) took(key string, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.host(key)
	h.message = average(h.message, d)
	if h.steady {
		h.window += 1 / h.window
	} else {
		h.window++
	}
	h.window = min(h.window, 1000)
}

// strained notes that the host has had too much: it said 421, or did not answer.
func (p *pool) strained(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.host(key)
	h.window, h.steady = max(min(h.window, float64(h.open))/2, 1), true
}

// put gives a session back after use.
func (p *pool) put(s *session, now time.Time) {
	p.mu.Lock()
	h := p.host(s.key)
	if !s.client.Usable() || s.messages >= sessionMessages || h.open > max(int(h.window), 1) {
		h.open--
		h.used = now
		h.wake()
		p.mu.Unlock()
		quit(s)
		return
	}
	s.used, h.used = now, now
	h.idle = append(h.idle, s)
	h.wake()
	p.mu.Unlock()
}

// drop ends the right to a session that was not opened or is closed.
func (p *pool) drop(key string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.host(key)
	h.open--
	h.used = now
	h.wake()
}

// closeIdle closes the sessions that were last used before t, and forgets the
// hosts that have had none for long.
func (p *pool) closeIdle(t time.Time) {
	var old []*session
	p.mu.Lock()
	for key, h := range p.hosts {
		h.idle = slices.DeleteFunc(h.idle, func(s *session) bool {
			if !s.used.Before(t) {
				return false
			}
			old = append(old, s)
			h.open--
			h.wake()
			return true
		})
		if h.open == 0 && len(h.waiting) == 0 && h.used.Before(t.Add(-hostMemory)) {
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

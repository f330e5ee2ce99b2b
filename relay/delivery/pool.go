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
	// each session that it may have at most. More give their units back: they would
	// only hold what other hosts' mail needs.
	maxWaiting = 4
	// fewWaiting messages for each session, that will be through within shortly,
	// are not worth the handshake of another session.
	fewWaiting = 10
	shortly    = 500 * time.Millisecond
	// minBusy and maxBusy bound when a unit that was given back is tried again.
	minBusy = 200 * time.Millisecond
	maxBusy = time.Minute
	// patience is how long an attempt waits for a session at least, and then as
	// many times as long as could be expected. Who has waited longer waits for a
	// host that is silent, and would only hold what other hosts' mail needs.
	patience      = time.Second
	patienceTimes = 4
)

// session is an open SMTP session with what it proved. One attempt uses it at a
// time.
type session struct {
	client   *smtpclient.Client
	evidence security.Evidence
	key      string // of the pool: host, port, user
	host     string
	addr     netip.Addr
	resumed  bool // its evidence is that of an earlier handshake
	messages int  // transactions so far
	spent    bool // it carries no more messages

	mu      sync.Mutex
	counted map[string]bool // policy domains that have counted it

	conn  *heardConn   // below client
	place *reservation // until the pool has it

	// The pool's:
	busy  bool // an attempt uses it
	since time.Time
	used  time.Time
}

// countsFor reports whether the session has not been counted for a policy domain
// yet, and notes that it is now.
func (s *session) countsFor(domain string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counted[domain] {
		return false
	}
	if s.counted == nil {
		s.counted = make(map[string]bool)
	}
	s.counted[domain] = true
	return true
}

// mayCarry reports whether the session may carry another message.
func (s *session) mayCarry() bool {
	return s.client.Usable() && !s.spent && s.messages < sessionMessages
}

// pool keeps sessions by host and decides how many a host gets. A session is not
// kept for a domain: whether it may carry a message is asked of its evidence
// every time.
type pool struct {
	mu    sync.Mutex
	hosts map[string]*hostSessions  // by candidate.key
	addrs map[netip.Prefix]*address // by network

	quits   sync.WaitGroup  // those that nobody waits for
	stopped context.Context // ends when the relay stops: then a QUIT gets little time
	stop    context.CancelFunc
}

// hostSessions is what is known of one host. How many sessions it may have grows
// with every message that it takes and is halved when it is too much for it.
type hostSessions struct {
	sessions     []*session
	opening      int          // that are being opened
	waiting      []chan error // nil: look again; else the error of get
	waitingSince time.Time    // somebody has waited since, or since another session was opened
	used         time.Time
	noBDAT       bool      // it offers CHUNKING and does not know BDAT
	taken        time.Time // the last message, if it was not too much for it since

	window  float64       // sessions that the host may have
	steady  bool          // the window was halved: it grows slowly now
	open    time.Duration // what it takes to open a session, averaged
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

func newPool() *pool {
	p := &pool{hosts: make(map[string]*hostSessions), addrs: make(map[netip.Prefix]*address)}
	p.stopped, p.stop = context.WithCancel(context.Background())
	return p
}

func (p *pool) host(key string) *hostSessions {
	h := p.hosts[key]
	if h == nil {
		h = &hostSessions{window: firstSessions}
		p.hosts[key] = h
	}
	return h
}

// get returns an idle session of a host that fits, or nil and the right to open
// one, which ends with add or cancel; what get and add give out ends with put. It
// waits while the host has as many as it may, at most limit. The error is of ctx,
// or an *errBusy.
func (p *pool) get(ctx context.Context, key string, limit int, fits func(*session) bool) (*session, error) {
	var begun time.Time // of the wait
	for {
		p.mu.Lock()
		h := p.host(key)
		window := min(limit, max(int(h.window), 1))
		if s := h.idle(fits); s != nil {
			s.busy, s.since = true, time.Now()
			p.mu.Unlock()
			return s, nil
		}
		if now := time.Now(); h.total() < window && !h.preferWaiting(now) {
			h.opening++
			h.waitingSince = now
			p.mu.Unlock()
			return nil, nil
		}
		if idle := h.idle(func(*session) bool { return true }); idle != nil { // it does not fit
			p.drop(idle)
			h.opening++
			p.mu.Unlock()
			p.quit(idle)
			return nil, nil
		}
		if len(h.waiting) >= limit*maxWaiting {
			wait := min(max(h.expected(), minBusy), maxBusy)
			p.mu.Unlock()
			return nil, &errBusy{wait: wait}
		}
		if len(h.waiting) == 0 {
			h.waitingSince = time.Now()
		}
		if begun.IsZero() {
			begun = time.Now()
		}
		if err := p.wait(ctx, h, begun); err != nil { // unlocks
			return nil, err
		}
	}
}

// wait waits for a change of h. It is called with the lock, and gives it back.
func (p *pool) wait(ctx context.Context, h *hostSessions, begun time.Time) (err error) {
	ready := make(chan error, 1)
	h.waiting = append(h.waiting, ready)
	timer := time.NewTimer(max(patience, patienceTimes*(h.open+h.expected())) - time.Since(begun))
	defer timer.Stop()
	p.mu.Unlock()
	select {
	case err := <-ready:
		return err
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-timer.C:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		// As long again as it has been silent.
		silent := min(time.Since(h.waitingSince), time.Since(h.used))
		err = &errBusy{wait: min(max(silent, time.Since(begun)), maxBusy)}
	}
	if i := slices.Index(h.waiting, ready); i >= 0 {
		h.waiting = slices.Delete(h.waiting, i, i+1)
	} else {
		h.wake() // it was our turn
	}
	return err
}

func (h *hostSessions) total() int { return len(h.sessions) + h.opening }

// idle is a session that nobody uses and that fits, nil where there is none.
func (h *hostSessions) idle(fits func(*session) bool) *session {
	for _, s := range h.sessions {
		if !s.busy && fits(s) {
			return s
		}
	}
	return nil
}

// proven reports whether the host took a message lately.
func (h *hostSessions) proven(now time.Time) bool {
	return !h.taken.IsZero() && now.Sub(h.taken) < hostMemory
}

// drop takes a session out of the pool, and reports whether it was in it.
func (p *pool) drop(s *session) bool {
	h, a := p.host(s.key), p.address(s.addr)
	is := func(x *session) bool { return x == s }
	a.sessions = slices.DeleteFunc(a.sessions, is)
	n := len(h.sessions)
	h.sessions = slices.DeleteFunc(h.sessions, is)
	return len(h.sessions) < n
}

// ahead is how many are served before and with the next one who waits.
func (h *hostSessions) ahead() int { return len(h.waiting) + 1 }

// expected is how long the next one who waits will wait.
func (h *hostSessions) expected() time.Duration {
	return h.message * time.Duration(h.ahead()) / time.Duration(max(h.total(), 1))
}

// preferWaiting says whether a session will be free before another one could be
// opened, or so soon after that the handshake is not worth its cost, which is
// more than time, and the host's too. Where somebody has waited for longer than a
// burst lasts, it is worth it after all.
func (h *hostSessions) preferWaiting(now time.Time) bool {
	if h.total() < firstSessions || h.message == 0 {
		return false
	}
	wait, soon := h.expected(), 2*h.open
	if len(h.waiting) > 0 && now.Sub(h.waitingSince) > max(soon, shortly) {
		return false
	}
	return wait < soon || wait < shortly && h.ahead() <= fewWaiting*h.total()
}

// wake lets the one who has waited longest look again.
func (h *hostSessions) wake() {
	if len(h.waiting) > 0 {
		h.waiting[0] <- nil
		h.waiting = h.waiting[1:]
	}
}

// rejectWaiting sends all away who wait.
func (h *hostSessions) rejectWaiting() {
	for _, ready := range h.waiting {
		ready <- &errBusy{wait: minBusy}
	}
	h.waiting = nil
}

// average is a moving average.
func average(old, v time.Duration) time.Duration {
	if old == 0 {
		return v
	}
	return old + (v-old)/4
}

// onOpened notes that a session of the host was opened within d.
func (p *pool) onOpened(key string, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.host(key)
	h.open = average(h.open, d)
}

// onSuccess notes that the host took a message within d.
func (p *pool) onSuccess(key string, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.host(key)
	h.message, h.taken = average(h.message, d), time.Now()
	if h.steady {
		h.window += 1 / h.window
	} else {
		h.window++
	}
	h.window = min(h.window, 1000)
}

// onOverload notes that the host has had too much: it said 421, or did not answer.
func (p *pool) onOverload(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.host(key)
	h.window, h.steady = max(min(h.window, float64(h.total()))/2, 1), true
	h.taken = time.Time{}
}

// mayUseBDAT says whether CHUNKING may be used with the host; disableBDAT ends it.
func (p *pool) mayUseBDAT(key string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.host(key).noBDAT
}

func (p *pool) disableBDAT(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.host(key).noBDAT = true
}

// add brings a session in that was opened, for the use of who opened it.
func (p *pool) add(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h, a := p.host(s.key), p.address(s.addr)
	h.opening--
	h.sessions = append(h.sessions, s)
	a.sessions = append(a.sessions, s)
	if r := s.place; r != nil {
		a.opening[class(r.proven)]--
		s.place = nil
	}
	s.busy, s.since = true, time.Now()
}

// cancel ends the right to open a session, and returns how many the host has that
// are open, and how many that are being opened. Where the host as a whole failed,
// and there is none, those who wait are sent away: their domains rest.
func (p *pool) cancel(key string, now time.Time, failed bool) (open, opening int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.host(key)
	h.opening--
	h.used = now
	if failed && h.total() == 0 {
		h.rejectWaiting()
	} else {
		h.wake()
	}
	return len(h.sessions), h.opening
}

// put ends one use of a session.
func (p *pool) put(s *session, now time.Time) {
	p.mu.Lock()
	h, a := p.host(s.key), p.address(s.addr)
	s.busy = false
	s.used, h.used = now, now
	a.held = average(a.held, time.Since(s.since))
	last := false
	if usable := s.client.Usable(); !s.mayCarry() || h.total() > max(int(h.window), 1) {
		last = p.drop(s) && usable
		if s.messages >= sessionMessages {
			h.waitingSince = time.Time{} // who waits may open the next one
		}
		if !usable {
			_ = s.client.Close()
		}
	}
	h.wake()
	p.mu.Unlock()
	if last {
		p.quit(s)
	}
}

// closeIdle closes the sessions that were last used before t, and forgets the
// hosts that have had none for long.
func (p *pool) closeIdle(t time.Time) {
	var old []*session
	p.mu.Lock()
	for key, h := range p.hosts {
		for _, s := range slices.Clone(h.sessions) {
			if !s.busy && s.used.Before(t) {
				p.drop(s)
				old = append(old, s)
				h.wake()
			}
		}
		if h.total() == 0 && len(h.waiting) == 0 && h.used.Before(t.Add(-hostMemory)) {
			delete(p.hosts, key)
		}
	}
	p.forgetAddresses(time.Now())
	p.mu.Unlock()
	for _, s := range old {
		p.quits.Go(func() { p.quit(s) })
	}
}

// size is the number of sessions, idle ones included.
func (p *pool) size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, h := range p.hosts {
		n += h.total()
	}
	return n
}

const (
	// quitTime is how long a host may take to answer a QUIT, stopQuitTime while the
	// relay stops.
	quitTime     = 2 * time.Second
	stopQuitTime = 500 * time.Millisecond
)

// quit says goodbye; a host that does not answer is given a short time only.
func (p *pool) quit(s *session) {
	timeout := quitTime
	if p.stopped.Err() != nil {
		timeout = stopQuitTime
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if timeout == quitTime {
		unwatch := context.AfterFunc(p.stopped, cancel)
		defer unwatch()
	}
	_ = s.client.Quit(ctx) // the session is over either way
}

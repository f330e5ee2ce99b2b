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
	// idleTime is how long a session waits for its next message: long enough for a burst
	// of mail, and not so long that hosts mind.
	idleTime = 8 * time.Second
	// sessionMessages is how many messages go through one session at most.
	sessionMessages = 100
	// firstSessions is how many sessions a host gets until it has taken a message.
	firstSessions = 2
	// hostMemory is how long the behaviour of a host is remembered.
	hostMemory = 10 * time.Minute
	// maxWaiting is how many attempts may wait for a session to one host, for each session
	// that the host may have at most. Further attempts give their claims back: they would
	// take places that mail for other hosts needs.
	maxWaiting = 4
	// Another session is not opened where at most fewWaiting messages a session wait, and
	// will be sent within shortly: the handshake would cost more.
	fewWaiting = 10
	shortly    = 500 * time.Millisecond
	// After manyCarried messages a session, while others waited, another session is worth
	// its handshake.
	manyCarried = 20
	// minBusy and maxBusy bound the time until a claim that was given back is tried again.
	minBusy = 200 * time.Millisecond
	maxBusy = time.Minute
	// An attempt waits for a session for patience at least, and else for patienceTimes the
	// time that could be expected. After that the host is taken to be silent, and the
	// attempt would take a place that mail for other hosts needs.
	patience      = time.Second
	patienceTimes = 4
)

// session is an open SMTP session with what it proved. One attempt at a time uses it.
type session struct {
	client   *smtpclient.Client
	evidence security.Evidence
	key      string // of the pool: see sessionKey
	host     string
	addr     netip.Addr
	localIP  string // of this relay, and remoteIP of the host
	remoteIP string
	resumed  bool // its evidence is that of an earlier handshake
	messages int  // transactions so far
	spent    bool // it carries no more messages

	mu      sync.Mutex
	counted map[string]bool // policy domains for which it was counted

	conn  *heardConn   // the connection of client
	place *reservation // until the session is in the pool

	// Guarded by pool.mu.
	busy  bool // an attempt uses it
	since time.Time
	used  time.Time
}

// countsFor reports whether the session has not been counted for a policy domain yet. It
// counts from now on.
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

// pool keeps sessions by host, and decides how many sessions a host gets. A session does
// not belong to a domain: before each message its evidence is compared with what is asked
// for.
type pool struct {
	mu    sync.Mutex
	hosts map[string]*hostSessions  // by sessionKey
	addrs map[netip.Prefix]*address // by network

	quits   sync.WaitGroup  // QUITs that no attempt waits for
	stopped context.Context // ends when the relay stops: then a QUIT gets less time
	stop    context.CancelFunc
}

// hostSessions is what is known of one host. The number of sessions that it may have
// grows with every message that it takes, and is halved when the host is overloaded.
type hostSessions struct {
	sessions     []*session
	opening      int          // that are being opened
	waiting      []chan error // receive nil to try again, or the error for get
	waitingSince time.Time    // when attempts began to wait, or further sessions were opened meanwhile
	carried      int          // messages that the host took while others waited, since then
	used         time.Time
	noBDAT       bool      // the host offers CHUNKING and does not know BDAT
	taken        time.Time // when the host took a message last; zero after an overload

	window  float64       // number of sessions that the host may have
	steady  bool          // the window was halved before, and grows slowly now
	growth  growth        // beyond the number that each host may have
	open    time.Duration // average time to open a session
	message time.Duration // average time of a message
}

// errBusy is returned where too many attempts wait for a host already.
type errBusy struct {
	// wait is the time until another try makes sense.
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

// get returns an idle session of a host that fits, or nil and the right to open one. It
// waits while the host has as many sessions as it may, within limit. The right ends with
// add or cancel; the use of a session that get returned or add took ends with put. The
// error is the cause of ctx, or an *errBusy.
func (p *pool) get(ctx context.Context, key string, limit sessionLimit, fits func(*session) bool) (*session, error) {
	var begun time.Time  // of the wait
	var unfit []*session // those that were looked at
	for {
		p.mu.Lock()
		h := p.host(key)
		window := h.allowed(limit)
		if s := h.idle(func(s *session) bool { return !slices.Contains(unfit, s) }); s != nil {
			s.busy, s.since = true, time.Now()
			p.mu.Unlock()
			if fits(s) { // without the lock: it may verify certificates
				return s, nil
			}
			unfit = append(unfit, s)
			p.release(s)
			continue
		}
		if h.total() < window && !h.preferWaiting(time.Now()) {
			h.opening++
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
		if len(h.waiting) >= limit.base*maxWaiting {
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

// release ends the use of a session with which nothing was done.
func (p *pool) release(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.busy = false
	p.host(s.key).wake()
}

// wait waits for a change of h. It is called with the lock held, and releases it.
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
		// Wait as long again as the host has been silent.
		silent := min(time.Since(h.waitingSince), time.Since(h.used))
		err = &errBusy{wait: min(max(silent, time.Since(begun)), maxBusy)}
	}
	if i := slices.Index(h.waiting, ready); i >= 0 {
		h.waiting = slices.Delete(h.waiting, i, i+1)
	} else {
		h.wake() // the turn of this attempt goes to the next one
	}
	return err
}

// allowed is how many sessions the host may have, within limit.
func (h *hostSessions) allowed(limit sessionLimit) int {
	return min(h.growth.allowed(limit), max(int(h.window), 1))
}

func (h *hostSessions) total() int { return len(h.sessions) + h.opening }

// idle is a session that no attempt uses and that fits; nil where there is none.
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

// ahead is how many attempts are served up to and including the next one that waits.
func (h *hostSessions) ahead() int { return len(h.waiting) + 1 }

// expected is how long the next attempt that waits will wait.
func (h *hostSessions) expected() time.Duration {
	return h.message * time.Duration(h.ahead()) / time.Duration(max(h.total(), 1))
}

// preferWaiting reports whether a session will be free before another one could be opened,
// or so soon after that the handshake costs more than the wait. Once attempts have waited
// longer than a burst lasts, or each session has carried manyCarried messages while others
// waited, further sessions are opened after all: half as many as there are, at the same
// time. The next ones follow when that is so again.
func (h *hostSessions) preferWaiting(now time.Time) bool {
	if h.total() < firstSessions || h.message == 0 {
		return false
	}
	wait, soon := h.expected(), 2*h.open
	if len(h.waiting) > 0 && (now.Sub(h.waitingSince) > max(soon, shortly) || h.carried >= manyCarried*h.total()) {
		return h.opening >= max(len(h.sessions)/2, 1)
	}
	return wait < soon || wait < shortly && h.ahead() <= fewWaiting*h.total()
}

// wake lets the attempt that has waited longest try again.
func (h *hostSessions) wake() {
	if len(h.waiting) > 0 {
		h.waiting[0] <- nil
		h.waiting = h.waiting[1:]
	}
}

// rejectWaiting ends the wait of all attempts, with an *errBusy.
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

// onOpened takes note that a session with the host was opened within d.
func (p *pool) onOpened(key string, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.host(key)
	h.open = average(h.open, d)
}

// onSuccess takes note that the host took a message within d.
func (p *pool) onSuccess(key string, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.host(key)
	h.message, h.taken = average(h.message, d), time.Now()
	if len(h.waiting) > 0 {
		h.carried++
	}
	if h.steady {
		h.window += 1 / h.window
	} else {
		h.window++
	}
	h.window = min(h.window, 1000)
	h.growth.took(d, h.total(), len(h.waiting))
}

// onOverload takes note that the host is overloaded: it said 421, or did not answer.
func (p *pool) onOverload(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.host(key)
	h.window, h.steady = max(min(h.window, float64(h.total()))/2, 1), true
	h.taken = time.Time{}
	h.growth.overloaded()
}

// onBusy takes note that the host put a message off because it has too much to do, and
// keeps the session.
func (p *pool) onBusy(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.host(key).growth.overloaded()
}

// allowed is how many sessions a host may have now, within limit.
func (p *pool) allowed(key string, limit sessionLimit) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.host(key).allowed(limit)
}

// occupancy is how many sessions with a host are open or being opened, and how many may be.
func (p *pool) occupancy(key string, limit sessionLimit) (open, allowed int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.host(key)
	return h.total(), h.allowed(limit)
}

// mayUseBDAT reports whether BDAT may be used with the host.
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

// add puts a session into the pool that was opened. It is in use by the attempt that
// opened it.
func (p *pool) add(s *session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h, a := p.host(s.key), p.address(s.addr)
	h.opening--
	h.waitingSince, h.carried = time.Now(), 0
	h.sessions = append(h.sessions, s)
	a.sessions = append(a.sessions, s)
	if r := s.place; r != nil {
		a.opening[class(r.proven)]--
		s.place = nil
	}
	s.busy, s.since = true, time.Now()
}

// cancel ends the right to open a session. It returns how many sessions of the host are
// open, and how many are being opened. Where the host as a whole failed and has no
// session, the attempts that wait are turned away: their domains back off.
func (p *pool) cancel(key string, now time.Time, failed bool) (open, opening int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.host(key)
	h.opening--
	h.used, h.waitingSince, h.carried = now, now, 0
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
			h.waitingSince = time.Time{} // an attempt that waits may open the next one
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

// quit ends a session politely. A host that does not answer gets a short time only.
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

package delivery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// While places are short (queue.PlacesShort), an attempt that has sent nothing of
// its message may not wait as long as RFC 5321, 4.5.3.2 says: ten thousand silent
// hosts would keep all other mail from leaving.
const (
	// silentHello is how long a host may be silent before the envelope: in its
	// greeting, to EHLO and STARTTLS, in the handshake.
	silentHello = 30 * time.Second
	// silentEnvelope is how long it may be silent to MAIL, RCPT and DATA: some ask
	// other hosts before they answer.
	silentEnvelope = time.Minute
	// longestHold is how long an attempt may hold its place, whatever it waits for
	// and at however many hosts.
	longestHold = 90 * time.Second
)

// errReclaimed ends an attempt, errSilent a session, that has waited for too long
// while places are short.
var (
	errReclaimed = fmt.Errorf("nothing could be sent within %s, and other mail waits for a place", longestHold)
	errSilent    = fmt.Errorf("no answer, and other mail waits for a place: %w", os.ErrDeadlineExceeded)
	// errStopping ends what a stop does not wait for.
	errStopping = errors.New("the relay is stopping")
)

// places are the attempts that have sent nothing of their message yet.
type places struct {
	mu    sync.Mutex
	holds map[*hold]struct{}
}

// reclaim ends the waits that are too long. It is called while places are short.
func (p *places) reclaim(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for h := range p.holds {
		switch {
		case now.Sub(h.begun) > longestHold:
			h.cancel(errReclaimed)
		case h.conn != nil && h.conn.silence(now) > h.patience:
			h.conn.cut()
		}
	}
}

// hold is the place of one attempt. The zero value holds none, and its methods do
// nothing.
type hold struct {
	places *places
	// The rest is guarded by places.mu.
	begun    time.Time // of the attempt, or of the wait after it has sent something
	cancel   context.CancelCauseFunc
	conn     *heardConn    // to the host that it waits for; nil: to none
	patience time.Duration // for conn
}

// begin begins to hold a place. The context ends when it is reclaimed, with
// errReclaimed as its cause; end must follow.
func (h *hold) begin(ctx context.Context, p *places) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.holds == nil {
		p.holds = make(map[*hold]struct{})
	}
	*h = hold{places: p, begun: time.Now(), cancel: cancel}
	p.holds[h] = struct{}{}
	return ctx
}

// end gives the place back.
func (h *hold) end() {
	h.sends()
	h.cancel(nil)
}

// waits notes that the attempt waits for a host, on conn, and how long that may be
// silent.
func (h *hold) waits(conn *heardConn, patience time.Duration) {
	if h.places == nil {
		return
	}
	h.places.mu.Lock()
	defer h.places.mu.Unlock()
	now := time.Now()
	if _, ok := h.places.holds[h]; !ok { // it has sent something since
		h.begun = now
		h.places.holds[h] = struct{}{}
	}
	if h.conn, h.patience = conn, patience; conn != nil {
		conn.heard(now)
	}
}

// sends notes that content goes out: the place is not reclaimed until the attempt
// waits again.
func (h *hold) sends() {
	if h.places == nil {
		return
	}
	h.places.mu.Lock()
	defer h.places.mu.Unlock()
	h.conn = nil
	delete(h.places.holds, h)
}

// heardConn is a connection that knows when something came last.
type heardConn struct {
	net.Conn
	since time.Time
	last  atomic.Int64 // after since, in nanoseconds
	isCut atomic.Bool
}

func listenTo(conn net.Conn) *heardConn { return &heardConn{Conn: conn, since: time.Now()} }

func (c *heardConn) heard(now time.Time) { c.last.Store(int64(now.Sub(c.since))) }

// silence is how long nothing has come.
func (c *heardConn) silence(now time.Time) time.Duration {
	return now.Sub(c.since) - time.Duration(c.last.Load())
}

// cut closes the connection: who reads sees a timeout.
func (c *heardConn) cut() {
	c.isCut.Store(true)
	_ = c.Close()
}

func (c *heardConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.heard(time.Now())
	}
	if err != nil && c.isCut.Load() {
		err = errSilent
	}
	return n, err
}

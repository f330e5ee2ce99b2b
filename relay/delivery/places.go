package delivery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// While places are short (queue.PlacesShort), an attempt whose message has not gone out
// as a whole may not wait as long as RFC 5321, 4.5.3.2 permits: ten thousand silent hosts
// would keep all other mail from leaving.
const (
	// silentHello is how long a host may be silent before the envelope: at the greeting,
	// EHLO, STARTTLS, and in the handshake.
	silentHello = 30 * time.Second
	// silentEnvelope is how long it may be silent at MAIL, RCPT and DATA: some hosts ask
	// others before they answer.
	silentEnvelope = time.Minute
	// longestHold is how long an attempt may hold its place, whatever it waits for
	// and at however many hosts.
	longestHold = 90 * time.Second
	// leastRate is how many octets of content a second a host must read, and longestHold how
	// far it may be behind that. RFC 5321 has a bound for each write only: a host that
	// reads 200 octets a second would hold its place for an hour and more. Postfix knows
	// both as smtp_min_data_rate and smtp_data_xfer_timeout.
	leastRate = 500
)

// errReclaimed ends an attempt, and errSilent and errSlow a session, that has waited too
// long while places are short.
var (
	errReclaimed = fmt.Errorf("nothing could be sent within %s, and other mail waits for a place", longestHold)
	errSilent    = fmt.Errorf("no answer, and other mail waits for a place: %w", os.ErrDeadlineExceeded)
	errSlow      = fmt.Errorf("it reads less than %d octets a second, and other mail waits for a place: %w", leastRate, os.ErrDeadlineExceeded)
	// errStopping ends everything that a stop does not wait for.
	errStopping = errors.New("the relay is stopping")
)

// places are the attempts whose message has not gone out as a whole yet.
type places struct {
	mu    sync.Mutex
	holds map[*hold]struct{}
}

// reclaim ends waits that are too long. It is called while places are short.
func (p *places) reclaim(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for h := range p.holds {
		switch {
		case h.sending:
			if h.conn.slow(now) {
				h.conn.cut()
			}
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
	begun    time.Time // when the attempt began, or the wait after content was sent
	cancel   context.CancelCauseFunc
	conn     *heardConn    // to the host that the attempt waits for; nil: none
	patience time.Duration // for conn
	sending  bool          // content goes out to conn
}

// begin takes a place. The returned context ends when the place is reclaimed, with
// errReclaimed as its cause. end must follow.
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
	h.sent()
	h.cancel(nil)
}

// waits takes note that the attempt waits for the host at conn, which may be silent for
// patience.
func (h *hold) waits(conn *heardConn, patience time.Duration) {
	if h.places == nil {
		return
	}
	h.places.mu.Lock()
	defer h.places.mu.Unlock()
	now := time.Now()
	if _, ok := h.places.holds[h]; !ok || h.sending && !h.conn.isCut.Load() { // content was sent before
		h.begun = now
	}
	h.places.holds[h], h.sending = struct{}{}, false
	if h.conn, h.patience = conn, patience; conn != nil {
		conn.heard(now)
	}
}

// sends takes note that content goes out now to the host that the attempt waits for.
func (h *hold) sends() {
	if h.places == nil {
		return
	}
	h.places.mu.Lock()
	defer h.places.mu.Unlock()
	if h.sending = h.conn != nil; h.sending {
		h.conn.mayLag(time.Now(), longestHold)
	}
}

// sent takes note that the content went out: the host may have taken the message, and the
// place is not reclaimed until the attempt waits again.
func (h *hold) sent() {
	if h.places == nil {
		return
	}
	h.places.mu.Lock()
	defer h.places.mu.Unlock()
	h.conn, h.sending = nil, false
	delete(h.places.holds, h)
}

// content is a body that tells hold when all of it was read.
type content struct {
	body io.Reader
	hold *hold
}

func (c content) Read(p []byte) (int, error) {
	n, err := c.body.Read(p)
	if err != nil {
		c.hold.sent()
	}
	return n, err
}

// WriteTo spares a copy where the body has a WriteTo.
func (c content) WriteTo(w io.Writer) (int64, error) {
	n, err := io.Copy(w, c.body)
	if err == nil {
		c.hold.sent()
	}
	return n, err
}

// heardConn is a connection that knows when it received something last, and whether what is
// written is read fast enough.
type heardConn struct {
	net.Conn
	since time.Time
	last  atomic.Int64 // after since, in nanoseconds
	lag   atomic.Int64 // until when the next octets must be read, likewise
	isCut atomic.Bool
}

func listenTo(conn net.Conn) *heardConn { return &heardConn{Conn: conn, since: time.Now()} }

// NetConn returns the connection below.
func (c *heardConn) NetConn() net.Conn { return c.Conn }

func (c *heardConn) heard(now time.Time) { c.last.Store(int64(now.Sub(c.since))) }

// silence is how long nothing was received.
func (c *heardConn) silence(now time.Time) time.Duration {
	return now.Sub(c.since) - time.Duration(c.last.Load())
}

// mayLag grants the far end the time d to read what is written next.
func (c *heardConn) mayLag(now time.Time, d time.Duration) { c.lag.Store(int64(now.Sub(c.since) + d)) }

// slow reports whether the far end reads too slowly.
func (c *heardConn) slow(now time.Time) bool { return int64(now.Sub(c.since)) > c.lag.Load() }

func (c *heardConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	now := time.Now()
	left := time.Duration(c.lag.Load()) - now.Sub(c.since)
	c.mayLag(now, min(left+time.Duration(n)*time.Second/leastRate, longestHold))
	if err != nil && c.isCut.Load() {
		err = errSlow
	}
	return n, err
}

// cut closes the connection. What is under way fails with a timeout.
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

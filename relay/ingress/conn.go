package ingress

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/internal/printable"
)

const (
	// maxCommand and maxAuth bound command lines (RFC 5321, 4.5.3.1; RFC 4954,
	// 4), CRLF included.
	maxCommand = 2000
	maxAuth    = 12_288
	// readBuffer bounds what of a session's input is in memory.
	readBuffer = 16 << 10
)

// conn stands between the network and go-smtp. It knows the framing of SMTP,
// which go-smtp's own reading leaves open in places that matter:
//
//   - go-smtp is handed one command line at a time, of bounded length, so that
//     nothing that was pipelined behind STARTTLS, or that follows a body which
//     broke off, is ever read as a command;
//   - bodies have a deadline by progress and a lowest rate, not one deadline
//     for the whole;
//   - a message's content goes to the session straight from here, by body, and
//     go-smtp sees no more of it than the final dot: there is one opinion about
//     where a message ends, and one pass over its octets;
//   - BDAT (RFC 3030) becomes DATA on the way up: go-smtp reads chunks in a
//     goroutine of its own, which a RSET and the next message overtake;
//   - TLS lies below: STARTTLS is answered here, and everything above sees
//     clear text only.
//
// After the first error a conn is dead: it reads nothing more. Its Read and
// Write are called by one goroutine, go-smtp's. What it consists of has types of
// its own: dialogue (the order of commands), content (a message's octets), outbox
// (replies on their way) and standing (what is known of the client).
type conn struct {
	net.Conn // TCP, or TLS once that is up
	server   *Server
	listener *listener

	br  *bufio.Reader
	out []byte // for go-smtp, not yet taken
	mem []byte // memory of out
	err error

	dialogue dialogue
	content  content
	outbox   outbox
	standing
	tls  *tls.ConnectionState
	args args // of the last MAIL or RCPT

	draining  atomic.Bool
	closeOnce sync.Once
}

// errDialogue ends a session that left the order of commands by a fault of the
// relay.
var errDialogue = errors.New("internal error: the session left the order of commands")

func newConn(c net.Conn, l *listener) *conn {
	return &conn{Conn: c, server: l.server, listener: l, br: bufio.NewReaderSize(c, readBuffer), standing: standing{started: time.Now()}}
}

// Read gives go-smtp what it may see next: a command line, or the final dot of
// a message. Content that the session has left unread is thrown away.
func (c *conn) Read(p []byte) (int, error) {
	for len(c.out) == 0 {
		var err error
		switch st := c.dialogue.state(); {
		case c.err != nil:
			if c.outbox.farewell != "" {
				c.say("%s", c.outbox.farewell)
				c.outbox.farewell = ""
			}
			return 0, c.err
		case st == stateClosing:
			err = io.EOF
		case st.inContent():
			_, _ = c.body() // ends with an error that is kept, or with the final dot in out
		case c.dialogue.asked != none || st == stateCommitting || st == stateConnected:
			err = errDialogue // go-smtp reads only after it has answered
		case c.content.left > 0:
			err = c.skipChunk()
		default:
			err = c.readCommand()
		}
		if err != nil {
			c.fail(err)
		}
	}
	n := copy(p, c.out)
	c.out = c.out[n:]
	return n, nil
}

// fail ends the reading from the connection. A time-out stays a time-out, so that
// go-smtp tells the client.
func (c *conn) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}

// endSession ends the session after the next reply. farewell is one more reply,
// which says why.
func (c *conn) endSession(farewell string) {
	c.outbox.farewell = farewell
	c.fail(io.EOF)
}

func (c *conn) readCommand() error {
	deadline := c.until(c.server.limits().Idle)
	if end := c.started.Add(c.server.limits().SessionTime); end.Before(deadline) {
		deadline = end
	}
	_ = c.Conn.SetReadDeadline(deadline)
	// This comes after the deadline was set: the deadline of a drain that begins
	// from here on ends the read.
	if c.draining.Load() && !c.dialogue.state().inTransaction() {
		return c.shutdown()
	}
	if !c.dialogue.state().introduced() && !c.peekFirst() {
		return io.EOF
	}
	line, err := c.readLine()
	switch {
	case err != nil && c.draining.Load() && errors.Is(err, os.ErrDeadlineExceeded):
		return c.shutdown()
	case c.isOverdue(err):
		c.say("421 4.7.0 no right to send was shown within %.0f seconds; goodbye", c.server.limits().ProofTime.Seconds())
		return io.EOF
	case err != nil:
		return err
	}
	return c.takeCommand(line)
}

// shutdown ends the session because the relay stops.
func (c *conn) shutdown() error {
	c.outbox.logged = true
	c.say("421 4.3.2 %s is shutting down; try again later", c.server.hostname)
	return io.EOF
}

// readLine reads one command line, of the length that its verb may have.
func (c *conn) readLine() ([]byte, error) {
	line, err := c.br.ReadSlice('\n')
	if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
		return nil, err
	}
	limit := maxCommand
	if c.dialogue.state() == stateAuth || len(line) > 4 && strings.EqualFold(string(line[:5]), "AUTH ") {
		limit = maxAuth
	}
	if err != nil || len(line) > limit {
		c.say("500 5.5.6 Command lines may have %d octets at most", limit)
		return nil, io.EOF
	}
	return line, nil
}

// takeCommand passes a command line on to go-smtp, or answers it here: out of its
// order, and where it is about what lies below go-smtp.
func (c *conn) takeCommand(line []byte) error {
	if c.dialogue.state() == stateAuth {
		c.enter(response)
		c.ask(cmdAUTH, line)
		return nil
	}
	introduced := c.dialogue.state().introduced()
	text := strings.TrimRight(string(line), "\r\n")
	if bare := strings.TrimRight(text, blanks); len(bare) < len(text) && bare != "" {
		// go-smtp does not know a verb with a blank behind it (RFC 5321, 4.1.1).
		text, line = bare, []byte(bare+"\r\n")
	}
	in, arg := c.dialogue.command(text)
	if !introduced && isForeign(text) {
		c.say("421 4.7.0 this is a mail server and speaks SMTP; goodbye")
		return io.EOF
	}
	if in == cmdBDAT && !c.takeChunkSize(arg) {
		return nil
	}
	if in == cmdMAIL {
		line = c.takeArgs(line)
		c.sender = printable.String(human.Shorten(c.args.path, 320))
	}
	if step := c.dialogue.step(in); step.reply != "" {
		return c.answer(step)
	}
	switch in {
	case cmdEHLO, cmdHELO:
		if introduced {
			c.fruitless++ // it brings nothing new
		}
		line = helloLine(c.dialogue.verb, arg)
	case cmdSTARTTLS:
		return c.startTLS(strings.TrimSpace(arg))
	case cmdBDAT:
		if c.dialogue.state() == stateBdat {
			c.enter(cmdBDAT)
			return nil
		}
		line = []byte("DATA\r\n")
	case cmdRSET:
		if c.dialogue.state() == stateBdat {
			// go-smtp sees the end of the message, and Session.Data that it is none;
			// what that answers is the answer to RSET.
			c.content.aborted = true
			c.endContent(cmdRSET)
			return nil
		}
	case cmdRCPT:
		line = c.takeArgs(line)
	case cmdAUTH:
		if !c.listener.rule().Auth || c.tls == nil {
			// That it is refused has nothing to do with what follows the mechanism.
			mechanism, _, _ := strings.Cut(arg, " ")
			line = []byte(strings.TrimSpace("AUTH "+mechanism) + "\r\n")
		}
	}
	c.ask(in, line)
	return nil
}

// answer gives the reply that the table has for a command.
func (c *conn) answer(s step) error {
	if s.counts && c.refusedTooOften() {
		_, text, _ := strings.Cut(strings.TrimPrefix(s.reply, "503 "), " ")
		c.say("421 4.7.0 too many refused commands; goodbye (%s)", text)
		return io.EOF
	}
	c.say("%s", s.reply)
	return nil
}

// ask gives go-smtp a line of a command, which it answers next.
func (c *conn) ask(in input, line []byte) {
	c.dialogue.asked = in
	c.give(line)
}

// give lets go-smtp read a line, when it has read what was given before.
func (c *conn) give(line []byte) {
	c.mem = append(c.mem[:0], line...)
	c.out = c.mem
}

// Write sends a line of a reply of go-smtp. The greeting is the moment to refuse
// a client.
func (c *conn) Write(p []byte) (int, error) {
	d := &c.dialogue
	if d.state() == stateConnected {
		if !c.greet() || !c.enter(greeting) {
			return len(p), nil
		}
	}
	if c.isGone() {
		return 0, c.err // a probe that goes away is no client that was refused
	}
	if d.state() == stateClosing {
		return len(p), nil // go-smtp answers a message that broke off
	}
	reply := c.rewrite(p)
	if d.state() == stateCommitting && c.content.aborted {
		// The message was refused before RSET gave it up. RSET has one answer only
		// (RFC 5321, 4.1.1.5).
		c.content.aborted = false
		reply = []byte("250 2.0.0 the message is forgotten\r\n")
	}
	asked := d.asked
	if !c.answered(p, reply) {
		return len(p), nil
	}
	if asked == cmdBDAT && d.state() == stateChunk {
		return len(p), c.release() // the client has begun without a 354
	}
	c.note(reply)
	c.account(reply)
	if err := c.send(reply); err != nil {
		return 0, err
	}
	c.hangUp(reply)
	return len(p), nil
}

// answered changes the state by a line of go-smtp's reply, which the client gets
// as ours, and reports whether that goes on to the client.
func (c *conn) answered(theirs, ours []byte) bool {
	d := &c.dialogue
	if len(theirs) > 3 && theirs[3] == '-' {
		return true // the last line of a reply counts
	}
	in := d.asked
	d.asked = none
	if d.silent {
		d.silent = false
		return false
	}
	positive := ours[0] == '2' || ours[0] == '3'
	switch {
	case d.state() == stateCommitting:
		in = verdict
	case bytes.HasPrefix(ours, []byte("334")):
		in = challenge
	case in == none, !positive, in == cmdQUIT:
		return true
	}
	if !c.enter(in) {
		return false
	}
	switch in {
	case cmdEHLO, cmdHELO:
		d.esmtp = in == cmdEHLO
	case cmdDATA, cmdBDAT:
		c.content.reset(in == cmdBDAT)
	}
	return true
}

// greet admits the client, or replies why not. It reports whether it is admitted.
func (c *conn) greet() bool {
	if addr, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		c.remote = addr.AddrPort().Addr().Unmap().WithZone("")
	}
	refusal := c.server.admit(c)
	if c.listener.options.TLS == "implicit" {
		// The handshake comes after the counting, so that clients that never
		// make one are counted. A client that is refused gets the reply over TLS
		// only as long as there are few such clients.
		if refusal != "" && !c.server.refusing.tryEnter() {
			c.fail(io.EOF)
			return false
		}
		err := c.handshake()
		if refusal != "" {
			c.server.refusing.leave()
		}
		if err != nil {
			c.fail(io.EOF)
			return false
		}
	}
	if refusal != "" {
		c.outbox.logged = true
		c.say("%s", refusal)
		c.fail(io.EOF)
		return false
	}
	return true
}

// Close closes the connection once.
func (c *conn) Close() (err error) {
	c.closeOnce.Do(func() {
		c.server.leave(c)
		c.server.mu.Lock()
		conn := c.Conn
		c.server.mu.Unlock()
		err = conn.Close()
	})
	return err
}

// drain ends the session as soon as no message is on its way.
func (c *conn) drain() {
	c.draining.Store(true)
	if !c.dialogue.state().inTransaction() {
		_ = c.Conn.SetReadDeadline(time.Unix(1, 0)) // wakes a read that waits for a command
	}
}

// go-smtp's own deadlines would be for whole bodies; they are not used.

func (c *conn) SetDeadline(time.Time) error      { return nil }
func (c *conn) SetReadDeadline(time.Time) error  { return nil }
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

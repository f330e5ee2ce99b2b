// Package smtpclient is one SMTP session as a client (RFC 5321): greeting,
// EHLO, STARTTLS (RFC 3207), and message after message with every recipient's
// own reply, pipelined where the host offers it (RFC 2920).
//
// The connection comes from the caller: this package knows nothing of DNS, policies
// or queues. It judges no certificate either: the caller can see what the handshake
// showed.
package smtpclient

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/stsrelay/stsrelay/internal/clienthello"
	"github.com/stsrelay/stsrelay/internal/neterr"
	"github.com/stsrelay/stsrelay/internal/phrase"
)

// Timeouts bound the steps of a session. Zero values are those of RFC 5321,
// 4.5.3.2.
type Timeouts struct {
	Greeting time.Duration // default 5m
	Hello    time.Duration // EHLO and HELO; default 5m
	StartTLS time.Duration // with the handshake; default 2m
	// ServerHello is for the first octet of the answer to a ClientHello of more
	// than one segment; default clienthello.Silence.
	ServerHello time.Duration
	Mail        time.Duration // default 5m
	Rcpt        time.Duration // default 5m
	Data        time.Duration // default 2m
	Block       time.Duration // each write; default 3m
	Final       time.Duration // the reply to the final dot; default 10m
	Quit        time.Duration // default 5s
}

func (t Timeouts) withDefaults() Timeouts {
	for _, d := range []struct {
		v *time.Duration
		d time.Duration
	}{
		{&t.Greeting, 5 * time.Minute}, {&t.Hello, 5 * time.Minute}, {&t.StartTLS, 2 * time.Minute},
		{&t.Mail, 5 * time.Minute}, {&t.Rcpt, 5 * time.Minute}, {&t.Data, 2 * time.Minute},
		{&t.Block, 3 * time.Minute}, {&t.Final, 10 * time.Minute}, {&t.Quit, 5 * time.Second},
	} {
		if *d.v == 0 {
			*d.v = d.d
		}
	}
	return t
}

// Options configures New.
type Options struct {
	// Name is the relay's name in EHLO and HELO, before and after STARTTLS.
	Name string
	// NoChunking leaves CHUNKING (RFC 3030) unused where it is offered.
	NoChunking bool
	Timeouts   Timeouts
	// Trace is told of the dialogue; nil: nobody is. See SetTrace.
	Trace Trace
}

// Trace is told of a line of the dialogue: one that was sent, or else received.
type Trace func(sent bool, line string)

// ReplyError is a reply that refuses a step.
type ReplyError struct {
	Step  string // "greeting", "EHLO", "HELO", "STARTTLS", "AUTH", "RSET"
	Reply Reply
}

func (e *ReplyError) Error() string { return e.Phrase().String() }

// Phrase is the text of the error.
func (e *ReplyError) Phrase() phrase.Phrase {
	return phrase.New("%s answered with: %s", stepPhrase(e.Step), e.Reply)
}

// stepPhrase is the name of a step: a command, or a word.
func stepPhrase(step string) phrase.Phrase {
	if step == "greeting" {
		return phrase.New("greeting")
	}
	return phrase.Quote(step)
}

// ConnError is a connection that was lost at a step of the session.
type ConnError struct {
	Step string // as that of ReplyError; also "MAIL", "RCPT", "DATA", "BDAT", "final dot", "QUIT"
	Err  error
}

func (e *ConnError) Error() string { return e.Phrase().String() }

// Phrase is the text of the error.
func (e *ConnError) Phrase() phrase.Phrase {
	return phrase.New("%s: %s", stepPhrase(e.Step), neterr.Plain(e.Err))
}

func (e *ConnError) Unwrap() error { return e.Err }

// TLSError is returned where TLS was offered and broke: the host did not answer
// STARTTLS, the handshake failed, or the host ended the session right after it. It
// wraps a
// *clienthello.UnansweredError where a smaller ClientHello may help.
type TLSError struct {
	Err error
	// Behind reports whether the handshake itself had succeeded.
	Behind bool
}

// Error is the reason without addresses and ports.
func (e *TLSError) Error() string { return e.Phrase().String() }

// Phrase is the text of the error.
func (e *TLSError) Phrase() phrase.Phrase {
	if e.Behind {
		return phrase.New("%s, right behind the handshake", clienthello.Reason(e.Err))
	}
	return clienthello.Reason(e.Err)
}

func (e *TLSError) Unwrap() error { return e.Err }

// ErrInjected is returned where clear text came in behind the answer to STARTTLS:
// somebody on the way may have written it (RFC 3207, 6).
var ErrInjected = phrase.Errorf("clear text came in behind the answer to STARTTLS")

// Client is an open session, used by one goroutine at a time.
type Client struct {
	conn     net.Conn
	cut      func()          // closes conn
	raw      syscall.RawConn // below conn; nil where that is not known
	br       *bufio.Reader
	bw       *bufio.Writer
	name     string
	timeouts Timeouts

	ext      map[string]string
	greeting Reply
	peer     string
	trace    Trace
	tls      *tls.ConnectionState
	known    knownReplies
	content  bodyWriter // used anew for each message

	noChunks  bool
	knowsBDAT bool      // the host has taken a message by BDAT
	used      bool      // for a message
	heard     time.Time // when the last reply came
	unended   bool      // the last transaction did not end with accepted content
	broken    bool      // the session is over
	bye       Reply     // the 421 that ended the session
}

// New reads the greeting and says EHLO, or HELO to a host that does not know EHLO.
// On an error the connection is closed. The error is a *ReplyError where the host
// refused, else a *ConnError or the cause of ctx.
func New(ctx context.Context, conn net.Conn, o Options) (*Client, error) {
	c := &Client{name: o.Name, trace: o.Trace, noChunks: o.NoChunking, timeouts: o.Timeouts.withDefaults()}
	c.use(conn)
	defer c.watch(ctx)()
	if err := c.greet(); err != nil {
		_ = c.Close()
		return nil, ctxError(ctx, err)
	}
	return c, nil
}

func (c *Client) use(conn net.Conn) {
	c.conn, c.cut, c.raw = conn, func() { conn.Close() }, rawConn(conn)
	c.br = bufio.NewReaderSize(conn, keptLine)
	c.bw = bufio.NewWriterSize(deadlineWriter{conn, c.timeouts.Block}, 32<<10)
}

// rawConn returns the connection of the system below conn, nil where there is none.
func rawConn(conn net.Conn) syscall.RawConn {
	switch c := conn.(type) {
	case syscall.Conn:
		raw, _ := c.SyscallConn() // nil with an error
		return raw
	case interface{ NetConn() net.Conn }:
		return rawConn(c.NetConn())
	}
	return nil
}

// watch closes the connection when ctx ends, so that reads and writes fail at once.
// The returned function ends the watch, and reports whether the connection is still
// open.
func (c *Client) watch(ctx context.Context) func() bool {
	return context.AfterFunc(ctx, c.cut)
}

func ctxError(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (c *Client) greet() error {
	r, err := c.read("greeting", c.timeouts.Greeting)
	if err != nil {
		return err
	}
	if r.Code != 220 {
		return &ReplyError{Step: "greeting", Reply: r}
	}
	c.greeting, c.peer = r, firstWord(r)
	return c.hello()
}

// hello says EHLO, and HELO after every 5xx: hosts refuse EHLO with any 5xx code
// (RFC 5321, 3.2), and a host that refuses this relay refuses HELO too.
func (c *Client) hello() error {
	c.ext = nil
	r, err := c.command("EHLO", c.timeouts.Hello, "EHLO "+c.name)
	if err != nil {
		return err
	}
	switch {
	case r.Code == 250:
		c.ext = parseExtensions(r)
		if w := firstWord(r); w != "" {
			c.peer = w
		}
		return nil
	case !r.Permanent():
		return &ReplyError{Step: "EHLO", Reply: r}
	}
	r, err = c.command("HELO", c.timeouts.Hello, "HELO "+c.name)
	if err == nil && r.Code != 250 {
		err = &ReplyError{Step: "HELO", Reply: r}
	}
	return err
}

func firstWord(r Reply) string {
	w, _, _ := strings.Cut(r.Lines[0], " ")
	return w
}

// parseExtensions reads the keywords of an EHLO reply, in upper case.
func parseExtensions(r Reply) map[string]string {
	ext := make(map[string]string, len(r.Lines))
	for _, line := range r.Lines[1:] {
		keyword, params, _ := strings.Cut(line, " ")
		ext[strings.ToUpper(keyword)] = params
	}
	return ext
}

// Extension returns the parameters of an extension that the host offers now.
func (c *Client) Extension(keyword string) (params string, ok bool) {
	params, ok = c.ext[strings.ToUpper(keyword)]
	return params, ok
}

// Greeting is the reply with which the host began the session.
func (c *Client) Greeting() Reply { return c.greeting }

// PeerName is the name that the host gave itself in its greeting, or in its reply to EHLO.
func (c *Client) PeerName() string { return c.peer }

// LocalAddr is the address of the relay in the connection.
func (c *Client) LocalAddr() net.Addr { return c.conn.LocalAddr() }

// TLS is the state of the encrypted session; ok is false in clear.
func (c *Client) TLS() (state tls.ConnectionState, ok bool) {
	if c.tls == nil {
		return state, false
	}
	return *c.tls, true
}

// Usable reports whether the session can carry another message.
func (c *Client) Usable() bool { return !c.broken }

// StartTLS encrypts the session and says EHLO again. What the host offered before is
// forgotten (RFC 3207, 4.2). After a *ReplyError with Step "STARTTLS" the session goes
// on in clear; after every other error it is over.
func (c *Client) StartTLS(ctx context.Context, cfg *tls.Config) error {
	defer c.watch(ctx)()
	r, err := c.command("STARTTLS", c.timeouts.StartTLS, "STARTTLS")
	if err != nil {
		return ctxError(ctx, &TLSError{Err: err})
	}
	if r.Code != 220 {
		return &ReplyError{Step: "STARTTLS", Reply: r}
	}
	if c.br.Buffered() > 0 {
		_ = c.Close()
		return ErrInjected
	}
	conn, err := clienthello.Handshake(ctx, c.conn, cfg, clienthello.Limits{Whole: c.timeouts.StartTLS, First: c.timeouts.ServerHello})
	if err != nil {
		_ = c.Close()
		return ctxError(ctx, &TLSError{Err: err})
	}
	c.use(conn)
	if err := c.hello(); err != nil {
		_ = c.Close()
		// In TLS 1.3 the host judges the client's part of the handshake last: its alert
		// comes with the first read.
		if _, refused := errors.AsType[*ReplyError](err); !refused {
			err = &TLSError{Err: err, Behind: true}
		}
		return ctxError(ctx, err)
	}
	state := conn.ConnectionState()
	c.tls = &state
	return nil
}

// Quit ends the session politely and closes the connection.
func (c *Client) Quit(ctx context.Context) error {
	defer c.watch(ctx)()
	defer c.Close()
	if c.broken {
		return nil
	}
	_, err := c.command("QUIT", c.timeouts.Quit, "QUIT")
	return ctxError(ctx, err)
}

// Close closes the connection.
func (c *Client) Close() error {
	c.broken = true
	return c.conn.Close()
}

// SetTrace replaces who is told of the dialogue from now on; nil: nobody is. Content is
// told as its number of octets, and what AUTH sends as ***.
func (c *Client) SetTrace(t Trace) { c.trace = t }

// traceReply tells of the lines of a reply.
func (c *Client) traceReply(r Reply) {
	if c.trace == nil {
		return
	}
	for i := range r.Lines {
		c.trace(false, r.line(i))
	}
}

// traceContent tells of n octets of content.
func (c *Client) traceContent(n int64) {
	if c.trace != nil {
		c.trace(true, "("+strconv.FormatInt(n, 10)+" octets of content)")
	}
}

// command sends one line and reads its reply. A 421 ends the session (RFC 5321,
// 3.8), whatever it answers.
func (c *Client) command(step string, timeout time.Duration, line string) (Reply, error) {
	c.write(line)
	if err := c.flush(step); err != nil {
		return Reply{}, err
	}
	return c.read(step, timeout)
}

func (c *Client) write(line string) { c.writeShown(line, line) }

// writeShown writes a line of which the trace is told as shown.
func (c *Client) writeShown(line, shown string) {
	if c.trace != nil {
		c.trace(true, shown)
	}
	_, _ = c.bw.WriteString(line) // an error stays in the writer until flush
	_, _ = c.bw.WriteString("\r\n")
}

// validReply reports whether a reply is one that a step can have. After any other,
// it is not known what the host takes for commands and what for content.
func validReply(r Reply, step string) bool {
	switch r.Code / 100 {
	case 2:
		return step != "DATA"
	case 3:
		return step == "AUTH" || step == "DATA" && r.Code == 354
	}
	return true
}

func (c *Client) flush(step string) error {
	if err := c.bw.Flush(); err != nil {
		c.broken = true
		return &ConnError{step, err}
	}
	return nil
}

func (c *Client) read(step string, timeout time.Duration) (Reply, error) {
	_ = c.conn.SetReadDeadline(time.Now().Add(timeout))
	r, err := c.known.read(c.br, step == "MAIL" || step == "RCPT" || step == "DATA")
	if err != nil {
		c.broken = true
		if c.trace != nil {
			c.trace(false, "(no reply: "+neterr.Plain(err).Error()+")")
		}
		return Reply{}, &ConnError{step, err}
	}
	c.heard = time.Now()
	c.traceReply(r)
	if !validReply(r, step) {
		c.broken = true
		return Reply{}, &ConnError{step, phrase.Errorf("%w: %s", ErrUnexpected, r)}
	}
	if r.Code == 421 {
		c.broken = true
		c.bye = r
	}
	return r, nil
}

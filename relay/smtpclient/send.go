package smtpclient

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Errors of Send before anything is sent.
var (
	ErrTooLarge        = errors.New("the message is larger than the host takes")
	ErrNeedsSMTPUTF8   = errors.New("the message needs SMTPUTF8, which the host does not offer")
	ErrNeeds8BitMIME   = errors.New("the message needs 8BITMIME, which the host does not offer")
	ErrNeedsRequireTLS = errors.New("the message needs REQUIRETLS, which the host does not offer")
)

// Transaction is one message and the recipients to hand to the host.
type Transaction struct {
	// From is the reverse-path without angle brackets, quoted where needed; ""
	// is the null sender.
	From       string
	Recipients []Recipient
	// Size is the message's size in octets (RFC 1870); 0: not known.
	Size int64
	// Body is the message. It is read once; an error of it ends the session
	// without the final dot, so that nothing cut short is delivered.
	Body io.Reader
	// Bit8 declares 8-bit content (RFC 6152), SMTPUTF8 an internationalized
	// message (RFC 6531), RequireTLS the demand of RFC 8689.
	Bit8, SMTPUTF8, RequireTLS bool
	// EnvID and Ret are the DSN parameters of MAIL (RFC 3461), decoded.
	EnvID, Ret string
	// Content, if set, is called before the content goes out. The context that it
	// returns replaces that of Send from then on.
	Content func() context.Context
}

// Recipient is one forward-path with its DSN parameters (RFC 3461), decoded.
type Recipient struct {
	Address string
	Notify  []string
	ORcpt   string // "rfc822;user@example.com"
}

// Outcome is what the host said. A zero Reply means that the step was not
// reached, or not answered.
type Outcome struct {
	Mail       Reply
	Recipients []RecipientOutcome // by index of Transaction.Recipients
	Data       Reply              // to DATA, or to the first of two chunks
	Final      Reply              // to the end of the content
	// Bye is the 421 with which the host ended the session, whatever command it
	// answered. It is the reason for everything that has no reply.
	Bye Reply
	// BodySent reports whether the whole content went out, with its end. Where Final is
	// zero then, it is not known whether the host took the message.
	BodySent bool
}

// RecipientOutcome is what the host said about one recipient.
type RecipientOutcome struct {
	Reply    Reply
	Accepted bool
}

// taken reports whether the host waits for the content: it has accepted the sender
// and at least one recipient.
func (o *Outcome) taken() bool {
	return o.Mail.OK() && slices.ContainsFunc(o.Recipients, func(r RecipientOutcome) bool { return r.Accepted })
}

// Send makes one transaction, and returns when it was answered. Refusals of the host
// are in the outcome. The error is about the connection, or a *ReplyError with Step
// "RSET", or one of the Err values above. Usable reports afterwards whether the session
// goes on.
//
// RSET goes before MAIL where the transaction before did not end with accepted content:
// hosts refuse a MAIL within a transaction (RFC 5321, 4.1.4), and some count what
// follows as part of the transaction before.
func (c *Client) Send(ctx context.Context, t Transaction) (Outcome, error) {
	if err := c.check(&t); err != nil {
		return Outcome{}, err
	}
	out := Outcome{Recipients: make([]RecipientOutcome, len(t.Recipients))}
	if err := c.unasked(); err != nil {
		_ = c.Close()
		return out, &ConnError{"MAIL", err}
	}
	c.used = true
	unwatch := c.watch(ctx)
	defer func() { unwatch() }()
	content := func() error {
		if t.Content == nil {
			return nil
		}
		if !unwatch() {
			return context.Cause(ctx) // it has ended, and the connection with it
		}
		ctx = t.Content()
		unwatch = c.watch(ctx)
		return nil
	}
	var err error
	if c.chunks(&t) {
		err = c.chunked(&t, &out, content)
	} else {
		err = c.dotted(&t, &out, content)
	}
	if err != nil && out.taken() && !out.BodySent && c.refusedEarly(&out) {
		err = nil
	}
	c.unended = !out.Final.OK()
	out.Bye = c.bye
	if err != nil {
		// Without the end of its content the host must throw the message away.
		_ = c.Close()
	}
	return out, ctxError(ctx, err)
}

func (c *Client) check(t *Transaction) error {
	if limit, err := strconv.ParseInt(strings.TrimSpace(cmp.Or(c.ext["SIZE"], "0")), 10, 64); err == nil && limit > 0 && t.Size > limit {
		return fmt.Errorf("%w: %d octets, it takes %d", ErrTooLarge, t.Size, limit)
	}
	for _, need := range []struct {
		wanted  bool
		keyword string
		err     error
	}{{t.SMTPUTF8, "SMTPUTF8", ErrNeedsSMTPUTF8}, {t.Bit8, "8BITMIME", ErrNeeds8BitMIME}, {t.RequireTLS, "REQUIRETLS", ErrNeedsRequireTLS}} {
		if _, ok := c.ext[need.keyword]; need.wanted && !ok {
			return need.err
		}
	}
	return nil
}

// dotted sends the message by DATA; with PIPELINING, the whole envelope in one
// write (RFC 2920). content is called before the content goes out.
func (c *Client) dotted(t *Transaction, out *Outcome, content func() error) error {
	if c.pipelining() {
		c.writeEnvelope(t)
		c.write("DATA")
		if err := c.flush("MAIL"); err != nil {
			return err
		}
	}
	err := c.envelope(t, out)
	if err != nil || c.broken || !c.pipelining() && !out.taken() {
		return err
	}
	if out.Data, err = c.ask("DATA", c.timeouts.Data, func() string { return "DATA" }); err != nil || out.Data.Code != 354 {
		return err
	}
	switch {
	case out.taken():
		if err = content(); err == nil {
			err = c.body(t.Body)
		}
	case out.Mail.OK():
		// No recipient is accepted, and the host waits for content (RFC 2920, 3.1).
		c.write(".")
	default:
		// The host has refused the sender, and might deliver what goes out now.
		return c.Close()
	}
	if err != nil {
		return err
	}
	if err := c.flush("final dot"); err != nil {
		return err
	}
	out.BodySent = out.taken()
	r, err := c.read("final dot", c.timeouts.Final)
	if out.BodySent { // else it is about no recipient
		out.Final = r
	}
	return err
}

func (c *Client) pipelining() bool {
	_, ok := c.ext["PIPELINING"]
	return ok
}

// writeEnvelope writes the commands whose replies envelope reads.
func (c *Client) writeEnvelope(t *Transaction) {
	if c.unended {
		c.write("RSET")
	}
	c.write(c.mail(t))
	for i := range t.Recipients {
		c.write(c.rcpt(&t.Recipients[i]))
	}
}

// envelope reads the replies to the envelope, one by one. Without PIPELINING it sends
// the commands too. A host that refuses RSET is out of step, and the session ends.
func (c *Client) envelope(t *Transaction, out *Outcome) error {
	if c.unended {
		r, err := c.ask("RSET", c.timeouts.Mail, func() string { return "RSET" })
		if err == nil && r.Code != 250 {
			err = &ReplyError{Step: "RSET", Reply: r}
		}
		if err != nil {
			return err
		}
	}
	var err error
	if out.Mail, err = c.ask("MAIL", c.timeouts.Mail, func() string { return c.mail(t) }); err != nil || c.broken {
		return err
	}
	if !out.Mail.OK() && !c.pipelining() {
		return nil
	}
	for i := range t.Recipients {
		r, err := c.ask("RCPT", c.timeouts.Rcpt, func() string { return c.rcpt(&t.Recipients[i]) })
		out.Recipients[i] = RecipientOutcome{Reply: r, Accepted: r.OK()}
		if err != nil || c.broken {
			return err
		}
	}
	return nil
}

// ask reads the reply to a command of the envelope. With PIPELINING the command was
// sent with the others; else ask sends it.
func (c *Client) ask(step string, timeout time.Duration, line func() string) (Reply, error) {
	if c.pipelining() {
		return c.read(step, timeout)
	}
	return c.command(step, timeout, line())
}

// body writes the message with its final dot. The next flush sends the rest of it.
func (c *Client) body(r io.Reader) error {
	w := &c.content
	*w = bodyWriter{w: c.bw}
	n, err := io.Copy(w, r)
	c.traceContent(n)
	if err == nil {
		err = w.end()
	}
	if err != nil {
		return c.contentError("DATA", err)
	}
	return nil
}

// unasked returns why nothing may be sent: the host has said something too much, and each
// reply that follows would be taken for that to the next command; or it has closed the
// session, and it would not be known whether it took the message. What comes behind the
// reply to EHLO may be a message of TLS itself: only in a session that was used is that enough
// to open another one.
func (c *Client) unasked() error {
	if c.br.Buffered() > 0 {
		return ErrUnexpected
	}
	if c.raw == nil || !c.used {
		return nil
	}
	return unasked(c.raw)
}

// writeError is why the connection takes nothing more, nil where it does.
func (c *Client) writeError() error {
	_, err := c.bw.Write(nil)
	return err
}

// contentError is why content did not go out: the error of the connection, or else that of
// the message.
func (c *Client) contentError(step string, err error) error {
	if lost := c.writeError(); lost != nil {
		return &ConnError{step, lost}
	}
	return fmt.Errorf("message body: %w", err)
}

// refusedEarly reads the reply of a host that took no more of the content, and reports
// whether it is a refusal: hosts say so when they have read enough, and close the connection.
func (c *Client) refusedEarly(out *Outcome) bool {
	if c.writeError() == nil {
		return false // the message could not be read
	}
	r, err := c.read("final dot", c.timeouts.Quit)
	if err != nil || r.Code < 400 {
		return false
	}
	out.Final = r
	_ = c.Close()
	return true
}

// deadlineWriter sets a deadline for each write.
type deadlineWriter struct {
	conn net.Conn
	time time.Duration
}

func (d deadlineWriter) Write(p []byte) (int, error) {
	_ = d.conn.SetWriteDeadline(time.Now().Add(d.time))
	return d.conn.Write(p)
}

// mail is the MAIL command with the parameters that the host offers.
func (c *Client) mail(t *Transaction) string {
	b := append(append(append(make([]byte, 0, 256), "MAIL FROM:<"...), t.From...), '>')
	if _, ok := c.ext["SIZE"]; ok && t.Size > 0 {
		b = strconv.AppendInt(append(b, " SIZE="...), t.Size, 10)
	}
	if t.Bit8 {
		b = append(b, " BODY=8BITMIME"...)
	}
	if t.SMTPUTF8 {
		b = append(b, " SMTPUTF8"...)
	}
	if t.RequireTLS {
		b = append(b, " REQUIRETLS"...)
	}
	if _, ok := c.ext["DSN"]; ok {
		if t.Ret != "" {
			b = append(append(b, " RET="...), t.Ret...)
		}
		if t.EnvID != "" {
			b = append(append(b, " ENVID="...), xtext(t.EnvID)...)
		}
	}
	return string(b)
}

func (c *Client) rcpt(r *Recipient) string {
	s := "RCPT TO:<" + r.Address + ">"
	if _, ok := c.ext["DSN"]; ok {
		if len(r.Notify) > 0 {
			s += " NOTIFY=" + strings.Join(r.Notify, ",")
		}
		if kind, addr, ok := strings.Cut(r.ORcpt, ";"); ok {
			encode := xtext
			if strings.EqualFold(kind, "utf-8") {
				encode = utf8AddrXtext
			}
			s += " ORCPT=" + kind + ";" + encode(addr)
		}
	}
	return s
}

// xtext is the encoding of RFC 3461, 4.
func xtext(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < '!' || c > '~' || c == '+' || c == '=' {
			fmt.Fprintf(&b, "+%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// utf8AddrXtext is the encoding of RFC 6533, 3, which hosts without SMTPUTF8 can read
// too.
func utf8AddrXtext(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r < '!' || r > '~' || r == '+' || r == '=' || r == '\\' {
			fmt.Fprintf(&b, `\x{%02X}`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

package smtpclient

import (
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

// Errors of Send that come before anything is sent.
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
	Data       Reply
	Final      Reply
	// BodySent says that the final dot went out: where Final is zero then,
	// nobody knows whether the host took the message.
	BodySent bool
}

// RecipientOutcome is what the host said about one recipient.
type RecipientOutcome struct {
	Reply    Reply
	Accepted bool
}

// Send makes one transaction. Refusals of the host are in the outcome; the
// error is about the connection, or one of the Err values above, which come
// before anything was sent. After it, Usable says whether the session goes on.
//
// Up to Depth goroutines may Send at a time: where the host offers PIPELINING,
// the next transaction goes out behind the end of the one before, without
// waiting for its answer.
func (c *Client) Send(ctx context.Context, t Transaction) (Outcome, error) {
	if err := c.check(&t); err != nil {
		return Outcome{}, err
	}
	out := Outcome{Recipients: make([]RecipientOutcome, len(t.Recipients))}
	p := c.line.enter()
	defer p.leave()
	p.write()
	if c.broken.Load() {
		return out, errOver
	}
	defer c.watch(ctx)()
	var err error
	_, pipelining := c.ext["PIPELINING"]
	switch {
	case !pipelining:
		err = c.stepByStep(&t, &out, p)
	case c.chunks(&t):
		err = c.chunked(&t, &out, p)
	default:
		err = c.pipelined(&t, &out, p)
	}
	if err != nil {
		// Without the end of its content the host must throw the message away.
		_ = c.Close()
	}
	c.answered.Store(time.Now().UnixNano())
	return out, ctxError(ctx, err)
}

// errOver says that the session ended with a transaction before this one.
var errOver = errors.New("the session is over")

// Depth is how many transactions may be on their way at a time.
func (c *Client) Depth() int {
	_, pipelining := c.ext["PIPELINING"]
	switch {
	case !pipelining:
		return 1
	case c.knowsChunks():
		return 8
	}
	return 2
}

func (c *Client) check(t *Transaction) error {
	if limit, err := strconv.ParseInt(strings.TrimSpace(c.ext["SIZE"]), 10, 64); err == nil && limit > 0 && t.Size > limit {
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

// pipelined sends the whole envelope in one write (RFC 2920). All replies are
// read, whatever the first ones say.
func (c *Client) pipelined(t *Transaction, out *Outcome, p *place) error {
	c.envelope(t)
	c.write("DATA")
	if err := c.flush("MAIL"); err != nil {
		return err
	}
	p.read()
	if err := c.readEnvelope(out); err != nil || c.broken.Load() {
		return err
	}
	var err error
	if out.Data, err = c.read("DATA", c.timeouts.Data); err != nil {
		return err
	}
	return c.content(t, out, p)
}

// envelope writes MAIL and RCPT.
func (c *Client) envelope(t *Transaction) {
	c.write(c.mail(t))
	for i := range t.Recipients {
		c.write(c.rcpt(&t.Recipients[i]))
	}
}

// readEnvelope reads the replies to MAIL and RCPT.
func (c *Client) readEnvelope(out *Outcome) (err error) {
	if out.Mail, err = c.read("MAIL", c.timeouts.Mail); err != nil || c.broken.Load() {
		return err
	}
	for i := range out.Recipients {
		r, err := c.read("RCPT", c.timeouts.Rcpt)
		out.Recipients[i] = RecipientOutcome{Reply: r, Accepted: r.OK()}
		if err != nil || c.broken.Load() {
			return err
		}
	}
	return nil
}

func (o *Outcome) accepted() bool {
	return slices.ContainsFunc(o.Recipients, func(r RecipientOutcome) bool { return r.Accepted })
}

func (c *Client) stepByStep(t *Transaction, out *Outcome, p *place) (err error) {
	p.read()
	if out.Mail, err = c.command("MAIL", c.timeouts.Mail, c.mail(t)); err != nil || c.broken.Load() || !out.Mail.OK() {
		return err
	}
	for i := range t.Recipients {
		r, err := c.command("RCPT", c.timeouts.Rcpt, c.rcpt(&t.Recipients[i]))
		out.Recipients[i] = RecipientOutcome{Reply: r, Accepted: r.OK()}
		if err != nil || c.broken.Load() {
			return err
		}
	}
	if !out.accepted() {
		_, err = c.command("RSET", c.timeouts.Mail, "RSET")
		return err
	}
	if out.Data, err = c.command("DATA", c.timeouts.Data, "DATA"); err != nil {
		return err
	}
	return c.content(t, out, p)
}

// content sends the message where the host waits for it, or nothing but the dot
// where it took no recipient and waits all the same (RFC 2920, 3.1).
func (c *Client) content(t *Transaction, out *Outcome, p *place) error {
	if out.Data.Code != 354 {
		return nil
	}
	if !out.Mail.OK() {
		// It refused the sender and waits for the message all the same: whatever
		// goes out now might be delivered.
		return c.Close()
	}
	accepted := out.accepted()
	if accepted {
		if err := c.body(t.Body, &out.BodySent); err != nil {
			return err
		}
	} else {
		c.write(".")
	}
	if err := c.endOfWriting("final dot", p); err != nil {
		return err
	}
	var err error
	out.Final, err = c.read("final dot", c.timeouts.Final)
	if !accepted {
		out.Final = Reply{} // it is about no recipient
	}
	return err
}

// endOfWriting sends what is written, or leaves that to the transaction behind.
func (c *Client) endOfWriting(step string, p *place) error {
	if !p.followed() {
		if err := c.flush(step); err != nil {
			return err
		}
	}
	p.written()
	return nil
}

// body writes the message with its final dot; complete is set when the dot is
// about to go out.
func (c *Client) body(r io.Reader, complete *bool) error {
	w := &bodyWriter{w: c.bw}
	_, err := io.Copy(w, r)
	if err == nil {
		*complete = true
		err = w.end()
	}
	if err != nil {
		return fmt.Errorf("message body: %w", err)
	}
	return nil
}

// deadlineWriter gives every write its own time.
type deadlineWriter struct {
	conn net.Conn
	time time.Duration
}

func (d deadlineWriter) Write(p []byte) (int, error) {
	_ = d.conn.SetWriteDeadline(time.Now().Add(d.time))
	return d.conn.Write(p)
}

// mail is the MAIL command with the parameters that the host knows.
func (c *Client) mail(t *Transaction) string {
	var b strings.Builder
	b.WriteString("MAIL FROM:<" + t.From + ">")
	if _, ok := c.ext["SIZE"]; ok && t.Size > 0 {
		b.WriteString(" SIZE=" + strconv.FormatInt(t.Size, 10))
	}
	if t.Bit8 {
		b.WriteString(" BODY=8BITMIME")
	}
	if t.SMTPUTF8 {
		b.WriteString(" SMTPUTF8")
	}
	if t.RequireTLS {
		b.WriteString(" REQUIRETLS")
	}
	if _, ok := c.ext["DSN"]; ok {
		if t.Ret != "" {
			b.WriteString(" RET=" + t.Ret)
		}
		if t.EnvID != "" {
			b.WriteString(" ENVID=" + xtext(t.EnvID))
		}
	}
	return b.String()
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

// utf8AddrXtext is the encoding of RFC 6533, 3, that a host without SMTPUTF8 can
// take as well.
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

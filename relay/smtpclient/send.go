package smtpclient

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
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
func (c *Client) Send(ctx context.Context, t Transaction) (Outcome, error) {
	if err := c.check(&t); err != nil {
		return Outcome{}, err
	}
	defer c.watch(ctx)()
	out := Outcome{Recipients: make([]RecipientOutcome, len(t.Recipients))}
	var err error
	if _, ok := c.ext["PIPELINING"]; ok {
		err = c.pipelined(&t, &out)
	} else {
		err = c.stepByStep(&t, &out)
	}
	if err == nil && out.Data.Code == 354 {
		err = c.content(&t, &out)
	}
	return out, ctxError(ctx, err)
}

func (c *Client) check(t *Transaction) error {
	if limit, err := strconv.ParseInt(c.ext["SIZE"], 10, 64); err == nil && limit > 0 && t.Size > limit {
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
func (c *Client) pipelined(t *Transaction, out *Outcome) error {
	c.write(c.mail(t))
	for i := range t.Recipients {
		c.write(c.rcpt(&t.Recipients[i]))
	}
	c.write("DATA")
	if err := c.flush("MAIL", c.timeouts.Mail); err != nil {
		return err
	}
	var err error
	if out.Mail, err = c.read("MAIL", c.timeouts.Mail); err != nil || c.broken {
		return err
	}
	for i := range t.Recipients {
		r, err := c.read("RCPT", c.timeouts.Rcpt)
		out.Recipients[i] = RecipientOutcome{Reply: r, Accepted: r.OK()}
		if err != nil || c.broken {
			return err
		}
	}
	if out.Data, err = c.read("DATA", c.timeouts.Data); err != nil {
		return err
	}
	if out.Data.Code/100 == 3 && out.Data.Code != 354 {
		c.broken = true
		return fmt.Errorf("DATA: %w: %s", ErrProtocol, out.Data)
	}
	return nil
}

func (c *Client) stepByStep(t *Transaction, out *Outcome) (err error) {
	if out.Mail, err = c.command("MAIL", c.timeouts.Mail, c.mail(t)); err != nil || c.broken || !out.Mail.OK() {
		return err
	}
	accepted := false
	for i := range t.Recipients {
		r, err := c.command("RCPT", c.timeouts.Rcpt, c.rcpt(&t.Recipients[i]))
		out.Recipients[i] = RecipientOutcome{Reply: r, Accepted: r.OK()}
		if err != nil || c.broken {
			return err
		}
		accepted = accepted || r.OK()
	}
	if !accepted {
		_, err = c.command("RSET", c.timeouts.Mail, "RSET")
		return err
	}
	out.Data, err = c.command("DATA", c.timeouts.Data, "DATA")
	return err
}

// content sends the message, or nothing but the dot where the host wants one
// although it took no recipient (RFC 2920, 3.1).
func (c *Client) content(t *Transaction, out *Outcome) error {
	accepted := false
	for _, r := range out.Recipients {
		accepted = accepted || r.Accepted
	}
	if accepted {
		if err := c.body(t.Body, &out.BodySent); err != nil {
			// Without the dot the host must throw away what it has.
			_ = c.Close()
			return err
		}
	} else {
		c.write(".")
	}
	if err := c.flush("final dot", c.timeouts.Block); err != nil {
		return err
	}
	var err error
	out.Final, err = c.read("final dot", c.timeouts.Final)
	if !accepted {
		out.Final = Reply{} // it is about no recipient
	}
	return err
}

// body sends the message with its final dot; complete is set when the dot is
// about to go out.
func (c *Client) body(r io.Reader, complete *bool) error {
	w := &bodyWriter{w: bufio.NewWriterSize(deadlineWriter{c}, 64<<10)}
	_, err := io.Copy(w, r)
	if err == nil {
		*complete = true
		err = w.end()
	}
	if err == nil {
		err = w.w.Flush()
	}
	if err != nil {
		return fmt.Errorf("message body: %w", err)
	}
	return nil
}

// deadlineWriter gives every block its own time.
type deadlineWriter struct{ c *Client }

func (d deadlineWriter) Write(p []byte) (int, error) {
	_ = d.c.conn.SetWriteDeadline(time.Now().Add(d.c.timeouts.Block))
	return d.c.conn.Write(p)
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
			s += " ORCPT=" + kind + ";" + xtext(addr)
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

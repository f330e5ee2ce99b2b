package ingress

import (
	"bytes"
	"fmt"
	"strings"
	"time"
)

// This file sends replies, and logs those that refuse something.

// writeTime bounds the sending of a reply.
const writeTime = 2 * time.Minute

// outbox is the replies on their way to the client.
type outbox struct {
	held     []byte // go out with the next one
	farewell string // goes out behind the next reply, which is the last
	logged   bool   // the refusal that goes out next is in the log already
}

// send sends a reply, or holds it until the reply to the command that the client
// has sent behind this one (RFC 2920, 3.2): a group of commands gets its replies
// in one packet.
func (c *conn) send(p []byte) error {
	if c.server.refused != nil && len(p) > 4 && (p[0] == '4' || p[0] == '5') {
		code, status := replyCodes(p)
		c.server.refused(&Refusal{Client: c.remote.String(), From: c.sender, Command: c.dialogue.name(), Code: code, Status: status, Reply: string(bytes.TrimSpace(p))})
	}
	if c.holds(p) {
		c.outbox.held = append(c.outbox.held, p...)
		return nil
	}
	if len(c.outbox.held) > 0 {
		p = append(c.outbox.held, p...)
		c.outbox.held = p[:0]
	}
	most := writeTime
	if c.stranger {
		most = strangerWriteTime
	}
	_ = c.Conn.SetWriteDeadline(time.Now().Add(most))
	_, err := c.Conn.Write(p)
	if err != nil {
		c.fail(err)
	}
	return err
}

// release sends what is held, where no reply follows soon.
func (c *conn) release() error {
	if len(c.outbox.held) == 0 {
		return nil
	}
	p := c.outbox.held
	c.outbox.held = nil
	return c.send(p)
}

// holds reports whether a reply may wait for the next one: it accepts a command
// that another may follow, and that other one has arrived whole.
func (c *conn) holds(p []byte) bool {
	switch c.dialogue.verb {
	case "MAIL", "RCPT", "RSET":
	default:
		return false
	}
	if !bytes.HasPrefix(p, []byte("2")) {
		return false
	}
	next, _ := c.br.Peek(c.br.Buffered())
	return bytes.IndexByte(next, '\n') >= 0
}

// replyCodes are the code and the enhanced status of a reply (RFC 3463).
func replyCodes(p []byte) (code, status string) {
	word, _, _ := strings.Cut(string(p[4:]), " ")
	if len(word) > 9 || strings.Count(word, ".") != 2 || strings.Trim(word, "0123456789.") != "" {
		word = ""
	}
	return string(p[:3]), word
}

func (c *conn) say(format string, args ...any) {
	p := fmt.Appendf(nil, format+"\r\n", args...)
	c.note(p)
	c.account(p)
	_ = c.send(p) // a failure is kept in err
	c.hangUp(p)
}

// note logs a reply that refuses something, where nobody has yet: what go-smtp
// refuses itself, and what is refused here.
func (c *conn) note(p []byte) {
	logged := c.outbox.logged
	c.outbox.logged = false
	if !logged && len(p) > 4 && (p[0] == '4' || p[0] == '5') {
		_, status := replyCodes(p)
		c.refusal(string(bytes.TrimSpace(p)), status)
	}
}

// refusal is the log line of a reply that refuses something.
func (c *conn) refusal(reply, status string, more ...any) {
	attrs := append(c.who(), "command", c.dialogue.name(), "from", c.sender, "status", status, "reply", reply)
	c.server.log.Info("refused", append(attrs, more...)...)
}

// hangUp ends the session behind a reply that says so (RFC 5321, 3.8).
func (c *conn) hangUp(reply []byte) {
	if bytes.HasPrefix(reply, []byte("421 ")) || bytes.HasPrefix(reply, []byte("221 ")) {
		c.enter(goodbye)
	}
}

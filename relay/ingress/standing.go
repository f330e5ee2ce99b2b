package ingress

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"
)

// This file is the part of conn that knows whether a client may send, and ends the
// sessions that bring nothing.

const (
	// maxFruitless is how many commands that bring nothing a session may give
	// without a message between them (Postfix: smtpd_junk_command_limit).
	maxFruitless = 100
	// strangerWriteTime bounds the sending of a reply to a stranger.
	strangerWriteTime = 10 * time.Second
)

// standing is what is known of a client in its session. Only the goroutine of the
// session uses it.
type standing struct {
	stranger  bool   // no right to send was shown yet; Server counts these
	fruitless int    // commands that brought nothing since the last message
	refusals  int    // for good, since the last message that was accepted
	sender    string // the path of the last MAIL, taken or not; for the log
	remote    netip.Addr
	started   time.Time // of the connection
}

// until is the time d from now, and for a stranger no later than the end of the
// time that it has to show its right to send.
func (c *conn) until(d time.Duration) time.Time {
	t := time.Now().Add(d)
	if end := c.started.Add(c.server.limits().ProofTime); c.stranger && end.Before(t) {
		return end
	}
	return t
}

// isOverdue reports whether err is the end of a stranger's time.
func (c *conn) isOverdue(err error) bool {
	return c.stranger && errors.Is(err, os.ErrDeadlineExceeded) && time.Since(c.started) >= c.server.limits().ProofTime
}

// isGone reports whether the connection broke: nobody is there to read a reply.
func (c *conn) isGone() bool {
	return c.err != nil && !errors.Is(c.err, io.EOF) && !errors.Is(c.err, os.ErrDeadlineExceeded)
}

// account counts the command that a reply answers, where it brought nothing, and
// ends a session that consists of such commands. Recipients are not counted
// where they are taken, or are one message's excess.
func (c *conn) account(reply []byte) {
	if len(reply) < 4 || reply[3] != ' ' {
		return // the last line of a reply counts
	}
	accepted := reply[0] == '2' || reply[0] == '3'
	switch c.dialogue.verb {
	case "NOOP", "RSET", "VRFY", "EXPN", "HELP":
		accepted = false
	case "RCPT":
		accepted = accepted || bytes.HasPrefix(reply, []byte("452"))
	}
	if !accepted {
		c.fruitless++
	}
	if c.fruitless >= maxFruitless && c.err == nil {
		c.endSession("421 4.7.0 too many commands that bring nothing; goodbye")
	}
}

// refusedTooOften counts a refusal for good, and reports whether the session has
// had too many.
func (c *conn) refusedTooOften() bool {
	c.refusals++
	return c.refusals >= maxRefusals
}

// peekFirst reports whether a command can begin with the first octet of a session.
// A client of another protocol may never send a line.
func (c *conn) peekFirst() (ok bool) {
	first, err := c.br.Peek(1)
	switch {
	case err != nil || isLetter(first[0]) || strings.IndexByte("\r\n\t ", first[0]) >= 0:
		return true
	case first[0] == 0x16 && c.tls == nil: // a record of a TLS handshake
		c.say(`421 4.7.0 this port begins in clear: use STARTTLS, or the port of a listener that has tls = "implicit"; goodbye`)
	default:
		c.say("421 4.7.0 this is a mail server and speaks SMTP; goodbye")
	}
	return false
}

// foreignWords begin the first lines of other protocols.
var foreignWords = []string{
	"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE", "PATCH", "PRI", "PROPFIND", // HTTP
	"INVITE", "REGISTER", "DESCRIBE", // SIP, RTSP
}

// isForeign reports whether the first line of a session is of another protocol:
// commands of SMTP are words of letters (RFC 5321, 4.1), and none of HTTP's.
func isForeign(line string) bool {
	end := strings.IndexAny(line, " \t")
	if end < 0 {
		end = len(line)
	}
	verb := line[:end]
	if slices.ContainsFunc([]byte(verb), func(b byte) bool { return !isLetter(b) }) {
		return true
	}
	if slices.ContainsFunc(foreignWords, func(w string) bool { return strings.EqualFold(w, verb) }) {
		return true
	}
	line = strings.ToUpper(line)
	return slices.ContainsFunc([]string{" HTTP/", " SIP/", " RTSP/"}, func(p string) bool { return strings.Contains(line, p) })
}

func isLetter(b byte) bool { return 'a' <= b|0x20 && b|0x20 <= 'z' }

// hasCertificate reports whether the client has shown a certificate with which
// it may send.
func (c *conn) hasCertificate() bool {
	return c.listener.rule().ClientCAs != nil && c.tls != nil && len(c.tls.VerifiedChains) > 0
}

// who are the log attributes of a client.
func (c *conn) who() []any {
	attrs := []any{"client", c.remote.String()}
	if c.server.isGateway(c.remote) {
		attrs = append(attrs, "gateway", true)
	}
	return attrs
}

// isGateway reports whether an address is that of this machine's default
// gateway. In a container that is the engine's own address, which stands for
// everybody whose connections the engine hands over.
func (s *Server) isGateway(a netip.Addr) bool {
	return slices.ContainsFunc(s.rules.Load().Gateways, func(g netip.Addr) bool { return g.WithZone("") == a })
}

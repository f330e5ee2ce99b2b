package ingress

import (
	"bytes"
	"crypto/x509"
	"errors"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"
)

// This file is the part of conn that tracks whether a client has proved that it may send,
// and that ends unproductive sessions.

const (
	// maxFruitless is the number of unproductive commands since the last message after
	// which a session is ended (Postfix: smtpd_junk_command_limit).
	maxFruitless = 100
	// strangerWriteTime is the time limit for writing a reply to a stranger.
	strangerWriteTime = 10 * time.Second
)

// standing is the state of a client in its session. Only the goroutine of the session
// uses it.
type standing struct {
	stranger  bool   // the client has not proved that it may send; Server counts strangers
	fruitless int    // unproductive commands since the last message
	uncounted bool   // the refusal that goes out next is none of those
	refusals  int    // permanent refusals since the last accepted message
	sender    string // the path of the last MAIL, accepted or not; for the log
	remote    netip.Addr
	started   time.Time // of the connection
}

// until returns the time d from now. For a stranger it is no later than the end of
// limits.ProofTime.
func (c *conn) until(d time.Duration) time.Time {
	t := time.Now().Add(d)
	if end := c.started.Add(c.server.limits().ProofTime); c.stranger && end.Before(t) {
		return end
	}
	return t
}

// isOverdue reports whether err is the timeout of a stranger's ProofTime.
func (c *conn) isOverdue(err error) bool {
	return c.stranger && errors.Is(err, os.ErrDeadlineExceeded) && time.Since(c.started) >= c.server.limits().ProofTime
}

// isGone reports whether the connection is broken, so that a reply cannot be read.
func (c *conn) isGone() bool {
	return c.err != nil && !errors.Is(c.err, io.EOF) && !errors.Is(c.err, os.ErrDeadlineExceeded)
}

// account counts the command that reply answers if it was unproductive, and ends the
// session after too many of them. RCPT does not count if the recipient was accepted, or
// is one of those that a list may have (refuseRecipient).
func (c *conn) account(reply []byte) {
	if len(reply) < 4 || reply[3] != ' ' {
		return // not the last line of the reply
	}
	accepted := reply[0] == '2' || reply[0] == '3'
	switch c.dialogue.verb {
	case "NOOP", "RSET", "VRFY", "EXPN", "HELP":
		accepted = false
	case "RCPT":
		accepted = accepted || c.uncounted || bytes.HasPrefix(reply, []byte("452"))
	}
	c.uncounted = false
	if !accepted {
		c.fruitless++
	}
	if c.fruitless >= maxFruitless && c.err == nil {
		c.endSession("421 4.7.0 too many commands that bring nothing; goodbye")
	}
}

// refusedTooOften counts a permanent refusal, and reports whether the session has had too
// many.
func (c *conn) refusedTooOften() bool {
	c.refusals++
	return c.refusals >= maxRefusals
}

// peekFirst reports whether the first octet of a session can begin a command; if not, it
// replies. It does not wait for a line, because a client of another protocol may never
// send one.
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

// foreignWords are the first words of other protocols.
var foreignWords = []string{
	"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE", "PATCH", "PRI", "PROPFIND", // HTTP
	"INVITE", "REGISTER", "DESCRIBE", // SIP, RTSP
}

// isForeign reports whether the first line of a session belongs to another protocol. An
// SMTP command is a word of letters (RFC 5321, 4.1) and not one of foreignWords.
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

// hasCertificate reports whether the client has presented a certificate with which it
// may send. A reload may have taken its authority away since.
func (c *conn) hasCertificate() bool {
	authorities := c.listener.rule().ClientCAs
	return authorities != nil && c.tls != nil && slices.ContainsFunc(c.tls.VerifiedChains, func(chain []*x509.Certificate) bool {
		_, err := chain[len(chain)-1].Verify(x509.VerifyOptions{Roots: authorities, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		return err == nil
	})
}

// who returns the log attributes of a client.
func (c *conn) who() []any {
	attrs := []any{"client", c.remote.String()}
	if c.server.isGateway(c.remote) {
		attrs = append(attrs, "gateway", true)
	}
	return attrs
}

// isGateway reports whether an address is a default gateway of this machine. In a
// container this is the engine's own address, and connections that the engine forwards
// come from it, whoever the client is.
func (s *Server) isGateway(a netip.Addr) bool {
	return slices.ContainsFunc(s.rules.Load().Gateways, func(g netip.Addr) bool { return g.WithZone("") == a })
}

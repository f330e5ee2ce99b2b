package ingress

import (
	"bytes"
	"fmt"
	"strings"
)

// This file is what the relay knows of go-smtp's inside and relies on, beside its
// documented interface, and how go-smtp's replies are put right. gosmtp_test.go
// holds each point to the version in use:
//
//   - It writes a reply line by line, each with one Write, the greeting first.
//   - It reads a command after it has answered the one before, and takes a verb
//     only where it is the first four octets of a line, with a blank or the end of
//     the line behind it. Everything else is no command, or STARTTLS.
//   - The fourth line that is no command ends the session with a text in replies.
//   - EHLO and HELO make one session on a connection; each further one, RSET and
//     the end of a message call Session.Reset. Conn.Hostname is new by then.
//   - It writes 354 before it calls Session.Data, and refuses DATA without that.
//     When Data returns early, it reads up to the final dot before it answers.
//   - It writes the whole error of Session.Data, code and text, where that is an
//     SMTPError, also where it accepts.
//   - A read that fails inside a message has an answer all the same: 451 or what
//     Data returned. That comes behind our goodbye, and conn drops it. The next
//     read fails again, and ends the session.
//   - io.EOF ends a session without a word; a time-out is answered with 421, and
//     so is every other error. A 421 that a Session returns ends nothing.
//   - A panic is logged, answered with 421, and ends the session.
//   - A second AUTH after a right one is refused. Responses to 334 are read as one
//     line, and "*" gives up.
//   - It checks the order of commands of its own. The table in dialogue.go is as
//     strict everywhere, so that neither of the two is ahead.

// triedVersion is the version of go-smtp of which all this is true.
const triedVersion = "v0.25.1"

// replies are those of go-smtp that are said otherwise, by how they begin: some
// have another code by the RFCs, some are chatty.
var replies = []struct {
	theirs string
	ours   []byte // nobody changes it
}{
	{"250 2.0.0 Roger, accepting mail from", []byte("250 2.1.0 sender ok\r\n")},
	{"250 2.0.0 I'll make sure", []byte("250 2.1.5 recipient ok\r\n")},
	{"250 2.0.0 I have successfully done nothing", []byte("250 2.0.0 ok\r\n")},
	{"500 5.5.1 Too many errors. Quiting now", []byte("421 4.7.0 too many unknown commands; goodbye\r\n")},
	{"500 5.5.2 Syntax errors, ", []byte("500 5.5.2 that is no command\r\n")}, // it quotes a word that may be a password
	// RFC 4954, 4 and 6
	{"454 4.7.0 Invalid base64 data", []byte("501 5.5.2 that is not base64\r\n")},
	{"454 4.7.0 sasl: invalid response", []byte("501 5.5.2 that is no response of AUTH PLAIN\r\n")},
	{"502 5.5.4 Missing parameter", []byte("501 5.5.4 AUTH takes a mechanism\r\n")},
	{"235 2.0.0 ", []byte("235 2.7.0 welcome\r\n")},
}

// rewrite is a line of go-smtp's replies as the client gets it. It must not be changed.
func (c *conn) rewrite(p []byte) []byte {
	if c.dialogue.answersHello() {
		return c.rewriteHello(p)
	}
	for _, r := range replies {
		if len(p) >= len(r.theirs) && string(p[:len(r.theirs)]) == r.theirs {
			return r.ours
		}
	}
	return asciiReply(p)
}

// rewriteHello is a line of the reply to EHLO or HELO. It begins with the
// server's name (RFC 5321, 4.1.1.1) and offers what lies below go-smtp, and
// the size that is taken now.
func (c *conn) rewriteHello(p []byte) []byte {
	esmtp := c.dialogue.asked == cmdEHLO
	first := esmtp && bytes.HasPrefix(p, []byte("250-Hello ")) || bytes.HasPrefix(p, []byte("250 2.0.0 Hello "))
	switch {
	case first:
		out := fmt.Sprintf("%s%s greets you\r\n", p[:len("250-")], c.server.hostname)
		if esmtp && c.tls == nil && c.listener.tlsConfig != nil {
			out += "250-STARTTLS\r\n"
		}
		if esmtp && c.tls != nil {
			out += "250-REQUIRETLS\r\n"
		}
		return []byte(out)
	case esmtp && strings.TrimSpace(string(p[len("250-"):])) == "SIZE":
		return fmt.Appendf(nil, "%sSIZE %d\r\n", p[:len("250-")], c.server.limits().MessageSize)
	}
	return asciiReply(p)
}

// asciiReply is a reply as RFC 5321, 4.2, has it: go-smtp quotes what it was sent.
func asciiReply(p []byte) []byte {
	ok := func(i int) bool {
		switch b := p[i]; b {
		case '\n', '\t':
			return true
		case '\r':
			return i+1 == len(p) || p[i+1] == '\n'
		default:
			return b >= ' ' && b <= '~'
		}
	}
	var out []byte
	for i := range p {
		if ok(i) {
			continue
		}
		if out == nil {
			out = bytes.Clone(p)
		}
		out[i] = '?'
	}
	if out == nil {
		return p
	}
	return out
}

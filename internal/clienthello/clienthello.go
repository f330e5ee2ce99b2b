// Package clienthello makes TLS handshakes with hosts of all ages: mail hosts,
// policy hosts and receivers of reports.
//
// Go offers post-quantum key exchange, whose key share makes a ClientHello of
// about 1,500 octets: more than one TCP segment. Some hosts and firewalls drop
// the connection then, swallow what they got, or read one segment only. Where a
// handshake ends before the host has begun its ServerHello, the same address is
// tried once more with classical groups (about 300 octets), and Hosts remembers
// it. Only the groups differ: versions, cipher suites and what is asked of the
// certificate are the same.
package clienthello

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
)

// Silence is how long a host may take to begin its answer to a large
// ClientHello.
const Silence = 20 * time.Second

// UnansweredError is a handshake with a large ClientHello that ended before the
// host had begun its ServerHello: a smaller one may be answered.
type UnansweredError struct{ Err error }

func (e *UnansweredError) Error() string { return e.Err.Error() }
func (e *UnansweredError) Unwrap() error { return e.Err }

// Unanswered reports whether err is an *UnansweredError.
func Unanswered(err error) bool {
	_, ok := errors.AsType[*UnansweredError](err)
	return ok
}

// Classical returns cfg with groups that keep the ClientHello within one
// segment. No session is resumed, since tickets have any size.
func Classical(cfg *tls.Config) *tls.Config {
	cfg = cfg.Clone()
	cfg.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}
	cfg.ClientSessionCache = nil
	return cfg
}

// Limits are the times of one handshake. Zero values: no limit for Whole,
// Silence for First.
type Limits struct {
	Whole time.Duration // for all of it
	First time.Duration // for the first octet of the answer to a large ClientHello
}

// Handshake makes a handshake as the client on conn, which it leaves open on an
// error. The error is an *UnansweredError where a smaller ClientHello may help.
// Deadlines of conn are those of the handshake until the caller sets others.
func Handshake(ctx context.Context, conn net.Conn, cfg *tls.Config, limits Limits) (*tls.Conn, error) {
	large := cfg.CurvePreferences == nil
	a := &answer{Conn: conn}
	var first time.Time
	if limits.Whole > 0 {
		a.deadline = time.Now().Add(limits.Whole)
		first = a.deadline
	}
	if limits.First == 0 {
		limits.First = Silence
	}
	if large && (limits.Whole == 0 || limits.First < limits.Whole) {
		first = time.Now().Add(limits.First)
	}
	_ = conn.SetDeadline(first)
	client := tls.Client(a, cfg)
	err := client.HandshakeContext(ctx)
	if err != nil && large && !a.hello && ctx.Err() == nil {
		err = &UnansweredError{err}
	}
	if err != nil {
		return nil, err
	}
	return client, nil
}

// answer is a connection that notes whether a ServerHello has begun, and gives
// the host the rest of its time then.
type answer struct {
	net.Conn
	deadline time.Time
	begun    bool // an octet was read
	hello    bool // it was the first of a handshake record: no alert, no clear text
}

// recordHandshake is the content type of a ServerHello's record (RFC 8446, 5.1).
const recordHandshake = 22

func (a *answer) Read(p []byte) (int, error) {
	n, err := a.Conn.Read(p)
	if n > 0 && !a.begun {
		a.begun, a.hello = true, p[0] == recordHandshake
		_ = a.SetDeadline(a.deadline)
	}
	return n, err
}

// Suites are the cipher suites of TLS 1.2 and earlier that are offered to every
// host: all of the library but those with RC4, which RFC 7465 forbids. The ones
// with RSA key exchange, CBC with SHA-256 and 3DES come last. TLS 1.3 has its own.
func Suites() []uint16 {
	return slices.DeleteFunc(AllSuites(), WithRC4)
}

// AllSuites are Suites and those with RC4, for sessions that would be in clear
// otherwise and of which nobody asks for TLS (RFC 7435).
func AllSuites() []uint16 {
	var ids []uint16
	for _, s := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		ids = append(ids, s.ID)
	}
	return ids
}

// WithRC4 reports whether a cipher suite encrypts with RC4.
func WithRC4(suite uint16) bool {
	switch suite {
	case tls.TLS_RSA_WITH_RC4_128_SHA, tls.TLS_ECDHE_RSA_WITH_RC4_128_SHA, tls.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA:
		return true
	}
	return false
}

// maxReason is how much is told of an error that is not one of the usual ones.
const maxReason = 160

// Reason is why a handshake failed, for people and for reports. It has no address and no
// port, which differ each time.
func Reason(err error) phrase.Phrase {
	op, isOp := errors.AsType[*net.OpError](err)
	switch {
	case isOp && op.Op == "remote error":
		return phrase.New("the host sent the alert %s", strings.TrimPrefix(op.Err.Error(), "tls: "))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return phrase.New("the host did not answer in time")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return phrase.New("the host closed the connection") // which of them is chance
	case isOp && op.Op == "local error":
		err = op.Err
	}
	text := strings.TrimPrefix(err.Error(), "tls: ")
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "") + "…"
	}
	return phrase.Of(errors.New(text))
}

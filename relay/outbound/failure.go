package outbound

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/stsrelay/stsrelay/internal/neterr"
	"github.com/stsrelay/stsrelay/relay/smtpclient"
)

// Stage is the step of opening a session at which it failed.
type Stage string

// The stages, in their order.
const (
	// StageConnect: no address of the host could be connected to.
	StageConnect Stage = "connect"
	// StageReconnect: the first connection served to learn what the host can do, and
	// there was no second one.
	StageReconnect Stage = "reconnect"
	StageGreeting  Stage = "greeting"
	// StageEHLO: EHLO or HELO, in clear or within TLS.
	StageEHLO     Stage = "EHLO"
	StageStartTLS Stage = "STARTTLS"
	// StageHandshake: the context ended. A handshake that breaks is no Failure: it is
	// evidence.
	StageHandshake Stage = "handshake"
	StageAuth      Stage = "AUTH"
)

// Failure is why there is no session with a host.
type Failure struct {
	Stage Stage
	Host  string
	// Addr is where; the zero value where no address could be connected to, and those
	// are Addrs.
	Addr  netip.Addr
	Addrs []netip.Addr
	// Err is what happened: a *smtpclient.ReplyError where the host has refused the
	// session, a *security.Shortfall where it is not good enough for a password.
	Err error
	// Broken is the session before this one, whose handshake broke; nil where there was none.
	Broken *Session
}

func (f *Failure) Error() string {
	switch f.Stage {
	case StageConnect:
		return f.noConnection()
	case StageReconnect:
		return fmt.Sprintf("no second connection to %s: %s", f.Host, oneLine(neterr.Plain(f.Err)))
	}
	return fmt.Sprintf("%s [%s]: %v", f.Host, f.Addr, neterr.Plain(f.Err))
}

// noConnection says why no address of the host took a connection. An address is named once.
func (f *Failure) noConnection() string {
	joined, ok := f.Err.(interface{ Unwrap() []error }) //nolint:errorlint // that of happyeyeballs.Dial
	if !ok || len(joined.Unwrap()) < 2 {
		return fmt.Sprintf("no connection to %s %v: %s", f.Host, f.Addrs, oneLine(neterr.Plain(f.Err)))
	}
	var each []string
	for _, err := range joined.Unwrap() {
		text := oneLine(neterr.Plain(err))
		if op, ok := errors.AsType[*net.OpError](err); ok && op.Addr != nil {
			text = op.Addr.String() + ": " + text
		}
		each = append(each, text)
	}
	return fmt.Sprintf("no connection to %s: %s", f.Host, strings.Join(each, "; "))
}

func (f *Failure) Unwrap() error { return f.Err }

// oneLine puts the lines of an error into one.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// stageOf is where a session failed with an error of smtpclient.
func stageOf(err error) Stage {
	step := ""
	if refused, ok := errors.AsType[*smtpclient.ReplyError](err); ok {
		step = refused.Step
	} else if lost, ok := errors.AsType[*smtpclient.ConnError](err); ok {
		step = lost.Step
	}
	switch step {
	case "EHLO", "HELO":
		return StageEHLO
	case "STARTTLS":
		return StageStartTLS
	case "AUTH":
		return StageAuth
	}
	return StageGreeting
}

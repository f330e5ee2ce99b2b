package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"

	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/failure"
	"github.com/stsrelay/stsrelay/relay/outbound"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/relay/smtpclient"
	"github.com/stsrelay/stsrelay/relay/trace"
)

// session returns a session with the host that is good enough: an idle one of the pool, or
// a new one.
func (a *attempt) session(ctx context.Context, h *hostTry) (*session, *attemptError) {
	reach := a.reach()
	for range maxOpenings {
		a.trace.WaitsFor(trace.FreeSession, h.Name)
		s, err := a.d.pool.get(ctx, h.key, h.limit, func(s *session) bool {
			return !h.fresh && h.mayUse(s.addr) && reach.Admits(s.addr) && h.req.Satisfied(&s.evidence) == nil && (!s.resumed || h.req.Flawless(&s.evidence))
		})
		if busy, ok := errors.AsType[*errBusy](err); ok {
			return nil, busyFailure(h.Name, busy)
		}
		if err != nil {
			return nil, contextFailure(ctx, h.Name)
		}
		if s != nil {
			a.record.contacted(h.Name, s.remoteIP)
			a.record.session(h.req, s).Usable = true
			a.traceReused(h, s)
			return s, nil
		}
		start := a.d.now()
		s, f := a.openSession(ctx, h)
		if f == nil {
			s.key = h.key
			a.record.session(h.req, s).Usable = true
			a.d.pool.onOpened(h.key, a.d.now().Sub(start))
			a.d.pool.add(s)
			return s, nil
		}
		if f.overload {
			a.d.pool.onOverload(h.key)
		}
		// Where the host has other sessions and takes no further one, the attempt waits for
		// those.
		open, opening := a.d.pool.cancel(h.key, a.d.now(), f.overload)
		if full := f.overload && (open > 0 || f.reason == failure.Busy && opening > 0); !full {
			return nil, f
		}
	}
	return nil, busyFailure(h.Name, &errBusy{wait: minBusy})
}

// maxOpenings is how often an attempt tries to open a session with a host that has
// others.
const maxOpenings = 3

// contextFailure is the failure where the context ended a wait.
func contextFailure(ctx context.Context, host string) *attemptError {
	if cause := context.Cause(ctx); errors.Is(cause, errReclaimed) {
		return &attemptError{reason: failure.Connect, status: "4.2", host: host, domainWide: true, text: fmt.Sprintf("%s: %v", host, cause)}
	}
	return &attemptError{reason: failure.Internal, status: "3.2", host: host, text: errStopping.Error()}
}

// busyFailure is the failure of a host for which too many wait already.
func busyFailure(host string, busy *errBusy) *attemptError {
	return &attemptError{reason: failure.Busy, host: host, domainWide: busy.wait >= maxBusy, text: fmt.Sprintf("%s: %v", host, busy), busy: busy.wait}
}

// openSession opens a session to the first address of the host that answers and is
// good enough.
func (a *attempt) openSession(ctx context.Context, h *hostTry) (*session, *attemptError) {
	a.trace.WaitsFor(trace.Addresses, h.Name)
	addrs, f := a.addresses(ctx, h.Host)
	if f != nil {
		return nil, f
	}
	var at []netip.AddrPort
	for _, addr := range a.walk.Untried(a.d.opener.Dialer.Order(addrs)) {
		if h.mayUse(addr) {
			at = append(at, netip.AddrPortFrom(addr, h.Port))
		}
	}
	last := &attemptError{reason: failure.Connect, host: h.Name, text: "no address of " + h.Name + " was tried", domainWide: true}
	for tried := false; len(at) > 0 && a.walk.Left() > 0 && ctx.Err() == nil; tried = true {
		place, err := a.d.pool.reserve(h.key, at[:min(len(at), a.walk.Left())], h.limit, a.d.now())
		if busy, ok := errors.AsType[*errBusy](err); ok {
			if tried { // the others have failed
				return nil, last
			}
			return nil, busyFailure(h.Name, busy)
		}
		a.trace.WaitsFor(trace.Connection, h.Name)
		conn, won, n, err := a.d.opener.Dialer.Dial(ctx, place.at, a.settings.ConnectTimeout)
		a.walk.Dial(n)
		a.traceDial(h.Name, place.at, won, err)
		if err != nil {
			a.walk.InVain(place.at[:n]...)
			a.record.contacted(h.Name, place.at[0].Addr().String()) // the text has the others
			place.end(a.d.now())
			failed := outbound.Failure{Stage: outbound.StageConnect, Host: h.Name, Addrs: addrs, Err: err}
			return nil, &attemptError{reason: failure.Connect, host: h.Name, domainWide: true, overload: true, text: failed.Error()}
		}
		addr := place.at[won]
		place.keep(addr)
		s, f := a.openOn(ctx, h, conn, addr)
		if f == nil {
			s.place = place
			return s, nil
		}
		place.end(a.d.now())
		last = f
		a.walk.InVain(addr)
		// Those that lost the race were not heard.
		at = slices.DeleteFunc(at, func(x netip.AddrPort) bool { return x == addr })
	}
	return nil, last
}

// openOn opens a session on a connection, and once more in clear where the
// handshake broke and nobody asks for TLS.
func (a *attempt) openOn(ctx context.Context, h *hostTry, conn net.Conn, addr netip.AddrPort) (*session, *attemptError) {
	req := h.req
	a.record.contacted(req.Host, addr.Addr().String())
	s := &session{host: req.Host, addr: addr.Addr()}
	target := outbound.Target{
		Requirement: req, Addr: addr, LegacyTLS: a.settings.LegacyTLS, NoChunking: !a.d.pool.mayUseBDAT(h.key), ConnectTimeout: a.settings.ConnectTimeout,
		Trace: a.traceDialogue(req.Host),
		Wrap: func(conn net.Conn) net.Conn {
			s.conn = listenTo(conn)
			a.trace.WaitsFor(trace.Greeting, req.Host)
			a.hold.waits(s.conn, silentHello)
			return s.conn
		},
	}
	opened, failed := a.d.opener.Open(ctx, conn, target)
	if failed != nil {
		if failed.Broken != nil {
			s.opened(failed.Broken)
			a.record.session(req, s).Opened = true
			a.judgeSession(req, s)
			a.record.proved(req, &s.evidence)
		}
		return nil, openFailure(ctx, failed)
	}
	s.opened(opened)
	if opened.Unanswered != "" {
		a.d.log.LogAttrs(ctx, slog.LevelInfo, "the host does not take the usual ClientHello; it gets a smaller one for a day, with classical key exchange",
			slog.String("queue_id", a.claim.Envelope.ID.String()), slog.String("host", req.Host), slog.String("ip", addr.Addr().String()), slog.String("error", opened.Unanswered))
	}
	a.record.session(req, s).Opened = true
	a.traceEvidence(req, &s.evidence, s.resumed)
	if err := req.Satisfied(&s.evidence); err != nil {
		a.judgeSession(req, s)
		a.d.pool.quit(s)
		shortfall, _ := errors.AsType[*security.Shortfall](err)
		a.record.proved(req, &s.evidence)
		return nil, policyFailure(shortfall, req)
	}
	if r := a.to.Route(); r != nil && r.User != "" {
		if err := opened.LogIn(ctx, req, r.User, r.Password); err != nil {
			a.judgeSession(req, s)
			a.d.pool.quit(s)
			return nil, authFailure(s, r.User, err)
		}
	}
	if s.evidence.StartTLS == security.Broken {
		a.judgeSession(req, s)
		a.record.proved(req, &s.evidence)
		if failed := a.d.opener.InClear(ctx, target, opened); failed != nil {
			return nil, openFailure(ctx, failed)
		}
		s.client = opened.Client
		a.trace.Add(req.Host, trace.Connect, "the session goes on in clear, since the handshake broke and nobody asks for TLS")
	}
	return s, nil
}

// opened takes over what was opened.
func (s *session) opened(o *outbound.Session) {
	s.client, s.evidence, s.resumed = o.Client, o.Evidence, o.Resumed
	s.localIP, s.remoteIP = ip(s.client.LocalAddr()), s.addr.String()
}

// authFailure is the failure of a next hop at which the relay could not log in. The
// operator can mend it, so the mail waits.
func authFailure(s *session, user string, err error) *attemptError {
	f := &attemptError{reason: failure.RouteAuth, host: s.host, domainWide: true}
	if shortfall, ok := errors.AsType[*security.Shortfall](err); ok {
		f.status, f.text = "7.11", fmt.Sprintf("the password for %s is not sent: %s", s.host, shortfall.Text)
		return f
	}
	refused, ok := errors.AsType[*smtpclient.ReplyError](err)
	if !ok && !errors.Is(err, smtpclient.ErrNoAuth) {
		return greetingFailure(s.host, s.addr, err) // the connection was lost
	}
	if ok {
		l := rule(stepAuth, refused.Reply, situation{tls: s.evidence.StartTLS})
		if f = l.failure(s.host, refused.Reply); l.reason == failure.RouteAuth {
			f.status = ""
		}
		f.overload = refused.Reply.Code == 421
	}
	f.text = fmt.Sprintf("the log-in of %q at %s failed: %v", user, s.host, err)
	return f
}

// openFailure is the failure where a session could not be opened.
func openFailure(ctx context.Context, f *outbound.Failure) *attemptError {
	switch f.Stage {
	case outbound.StageReconnect:
		return &attemptError{reason: failure.Connect, host: f.Host, domainWide: true, text: f.Error()}
	case outbound.StageHandshake:
		return contextFailure(ctx, f.Host)
	}
	return greetingFailure(f.Host, f.Addr, f.Err)
}

// greetingFailure is the failure of a session that ended before the envelope. Whatever the
// host said is about the host, and another host may do better.
func greetingFailure(host string, addr netip.Addr, err error) *attemptError {
	f := &attemptError{reason: failure.Connect, status: "4.2", host: host, domainWide: true, overload: true, text: fmt.Sprintf("%s [%s]: %v", host, addr, err)}
	if refused, ok := errors.AsType[*smtpclient.ReplyError](err); ok {
		l := rule(step(refused.Step), refused.Reply, situation{})
		f.reason, f.status, f.reply = l.reason, "3.2", refused.Reply.String()
	}
	return f
}

// judgeSession takes note of what a session counts for TLS reports: once for each policy
// domain that uses it (RFC 8460, 4.3).
func (a *attempt) judgeSession(req *security.Requirement, s *session) {
	if a.counted() && s.countsFor(req.Domain) {
		a.record.judged(req, s, req.Judge(&s.evidence, nil), a.policy.Failure)
	}
}

// noteSkipped takes note of a host that was passed over because its requirement does
// not admit it.
func (a *attempt) noteSkipped(req *security.Requirement, s *security.Shortfall) {
	if a.counted() {
		a.record.skipped(req, s)
	}
}

// counted reports whether this message's sessions are counted: those of TLS
// reports are not (RFC 8460, 5.3), nor those to an address, which has no domain
// to report to.
func (a *attempt) counted() bool {
	return a.to.PolicyDomain != "" && a.claim.Envelope.Kind != queue.Report
}

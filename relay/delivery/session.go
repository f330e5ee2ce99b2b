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
)

// session returns a session that satisfies req: an idle one of the pool, or a
// new one to one of the host's addresses.
func (a *attempt) session(ctx context.Context, c candidate, req *security.Requirement) (*session, *attemptError) {
	key := c.key(a.user())
	a.use.key, a.use.limit = key, a.settings.PerHost
	if a.rule != nil && a.rule.PerHost > 0 {
		a.use.limit = a.rule.PerHost
	}
	for range maxOpenings {
		s, err := a.d.pool.get(ctx, key, a.use.limit, func(s *session) bool {
			return !a.use.fresh && a.mayUse(s.addr) && a.admits(s.addr) && req.Satisfied(&s.evidence) == nil && (!s.resumed || req.Flawless(&s.evidence))
		})
		if busy, ok := errors.AsType[*errBusy](err); ok {
			return nil, a.isBusy(c.host, busy)
		}
		if err != nil {
			return nil, ended(ctx, c.host)
		}
		if s != nil {
			a.record.contacted(c.host, s.addr)
			return s, nil
		}
		start := a.d.now()
		s, f := a.openSession(ctx, c, req)
		if f == nil {
			s.key = key
			a.record.session(req, s, nil, a.policy.Failure).Usable = true
			a.d.pool.opened(key, a.d.now().Sub(start))
			a.d.pool.add(s)
			return s, nil
		}
		if f.strained {
			a.d.pool.strained(key)
		}
		// A host that has other sessions of this relay, and no place for one more, costs
		// nothing but that.
		open, opening := a.d.pool.cancel(key, a.d.now(), f.strained)
		if full := f.strained && (open > 0 || f.reason == failure.Busy && opening > 0); !full {
			return nil, f
		}
	}
	return nil, a.isBusy(c.host, &errBusy{wait: minBusy})
}

// maxOpenings is how often an attempt tries to open another session with a host
// that has some.
const maxOpenings = 3

// ended tells of a wait that its context has ended.
func ended(ctx context.Context, host string) *attemptError {
	if cause := context.Cause(ctx); errors.Is(cause, errReclaimed) {
		return &attemptError{reason: failure.Connect, status: "4.2", host: host, domainWide: true, text: fmt.Sprintf("%s: %v", host, cause)}
	}
	return &attemptError{reason: failure.Internal, status: "3.2", host: host, text: errStopping.Error()}
}

// isBusy notes that the attempt has to wait for a session.
func (a *attempt) isBusy(host string, busy *errBusy) *attemptError {
	a.failures.busy = busy
	return &attemptError{reason: failure.Busy, host: host, domainWide: busy.wait >= maxBusy, text: fmt.Sprintf("%s: %v", host, busy)}
}

// mayUse says whether the host may be contacted at an address: not over a family
// of addresses over which it has refused the relay.
func (a *attempt) mayUse(addr netip.Addr) bool {
	return !a.use.refusedOver.IsValid() || a.use.refusedOver.Is4() != addr.Is4()
}

// route is the next hop that the operator has set, nil where there is none.
func (a *attempt) route() *outbound.Route {
	if a.rule == nil {
		return nil
	}
	return a.rule.Route
}

// user is who we are at the next hop, "" where it does not want to know.
func (a *attempt) user() string {
	if r := a.route(); r != nil {
		return r.User
	}
	return ""
}

func (a *attempt) openSession(ctx context.Context, c candidate, req *security.Requirement) (*session, *attemptError) {
	addrs, err := a.addresses(ctx, c)
	if err != nil {
		f, _ := errors.AsType[*attemptError](err)
		return nil, f
	}
	if a.d.isSelf(c.host, c.port, addrs) {
		return nil, &attemptError{permanent: true, reason: failure.Loop, host: c.host,
			text: fmt.Sprintf("mail for %s leads back to this relay (%s)", a.w.Domain, c.host)}
	}
	var at []netip.AddrPort
	for _, addr := range a.d.opener.Dialer.Order(addrs) {
		if a.mayUse(addr) && !a.hosts.passOver[addr.String()] {
			at = append(at, netip.AddrPortFrom(addr, c.port))
		}
	}
	last := &attemptError{reason: failure.Connect, host: c.host, text: "no address of " + c.host + " was tried", domainWide: true}
	for tried := false; len(at) > 0 && a.hosts.dials < outbound.MaxAddresses && ctx.Err() == nil; tried = true {
		place, err := a.d.pool.reserve(a.use.key, at[:min(len(at), outbound.MaxAddresses-a.hosts.dials)], a.use.limit, a.d.now())
		if busy, ok := errors.AsType[*errBusy](err); ok {
			if tried { // the others have failed
				return nil, last
			}
			return nil, a.isBusy(c.host, busy)
		}
		conn, won, n, err := a.d.opener.Dialer.Dial(ctx, place.at, a.settings.ConnectTimeout)
		a.hosts.dials += n
		if err != nil {
			a.note(place.at[:n])
			a.record.contacted(c.host, place.at[0].Addr()) // the text has the others
			place.end(a.d.now())
			failed := outbound.Failure{Stage: outbound.StageConnect, Host: c.host, Addrs: addrs, Err: err}
			return nil, &attemptError{reason: failure.Connect, host: c.host, domainWide: true, strained: true, text: failed.Error()}
		}
		addr := place.at[won]
		place.keep(addr)
		s, f := a.openOn(ctx, conn, addr, req)
		if f == nil {
			s.place = place
			return s, nil
		}
		place.end(a.d.now())
		last = f
		a.note([]netip.AddrPort{addr})
		// Those that lost the race were not heard.
		at = slices.DeleteFunc(at, func(x netip.AddrPort) bool { return x == addr })
	}
	return nil, last
}

// note takes note of addresses that were tried in vain.
func (a *attempt) note(at []netip.AddrPort) {
	for _, x := range at {
		a.hosts.tried[x.Addr().String()] = true
	}
}

// openOn opens a session on a connection, and once more in clear where the
// handshake broke and nobody asks for TLS.
func (a *attempt) openOn(ctx context.Context, conn net.Conn, addr netip.AddrPort, req *security.Requirement) (*session, *attemptError) {
	a.record.contacted(req.Host, addr.Addr())
	s := &session{host: req.Host, addr: addr.Addr()}
	target := outbound.Target{
		Requirement: req, Addr: addr, LegacyTLS: a.settings.LegacyTLS, NoChunking: !a.d.pool.chunking(a.use.key), ConnectTimeout: a.settings.ConnectTimeout,
		Wrap: func(conn net.Conn) net.Conn {
			s.conn = listenTo(conn)
			a.hold.waits(s.conn, silentHello)
			return s.conn
		},
	}
	opened, failed := a.d.opener.Open(ctx, conn, target)
	if failed != nil {
		if failed.Proved != nil {
			a.record.proved(req, failed.Proved)
		}
		return nil, openFailure(ctx, failed)
	}
	s.client, s.evidence, s.resumed = opened.Client, opened.Evidence, opened.Resumed
	if opened.Unanswered != "" {
		a.d.log.LogAttrs(ctx, slog.LevelInfo, "the host does not take the usual ClientHello; it gets a smaller one for a day, with classical key exchange",
			slog.String("queue_id", a.w.Envelope.ID.String()), slog.String("host", req.Host), slog.String("ip", addr.Addr().String()), slog.String("error", opened.Unanswered))
	}
	a.record.session(req, s, nil, a.policy.Failure).Opened = true
	if err := req.Satisfied(&s.evidence); err != nil {
		a.noteSession(req, s)
		a.d.pool.quit(s)
		shortfall, _ := errors.AsType[*security.Shortfall](err)
		a.record.proved(req, &s.evidence)
		return nil, policyFailure(shortfall, req)
	}
	if r := a.route(); r != nil && r.User != "" {
		if err := opened.LogIn(ctx, req, r.User, r.Password); err != nil {
			a.noteSession(req, s)
			a.d.pool.quit(s)
			return nil, authFailure(s, r.User, err)
		}
	}
	if s.evidence.StartTLS == security.Broken {
		a.noteSession(req, s)
		a.record.proved(req, &s.evidence)
		if failed := a.d.opener.InClear(ctx, target, opened); failed != nil {
			return nil, openFailure(ctx, failed)
		}
		s.client = opened.Client
	}
	return s, nil
}

// authFailure tells of a next hop that did not let us log in. What goes wrong
// there is the operator's to mend: the mail waits.
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
		f.strained = refused.Reply.Code == 421
	}
	f.text = fmt.Sprintf("the log-in of %q at %s failed: %v", user, s.host, err)
	return f
}

// openFailure tells of a session that could not be opened.
func openFailure(ctx context.Context, f *outbound.Failure) *attemptError {
	switch f.Stage {
	case outbound.StageReconnect:
		return &attemptError{reason: failure.Connect, host: f.Host, domainWide: true, text: f.Error()}
	case outbound.StageHandshake:
		return ended(ctx, f.Host)
	}
	return greetingFailure(f.Host, f.Addr, f.Err)
}

// greetingFailure tells of a session that ended before STARTTLS: whatever the
// host said, it is about the host, and another one may do better.
func greetingFailure(host string, addr netip.Addr, err error) *attemptError {
	f := &attemptError{reason: failure.Connect, status: "4.2", host: host, domainWide: true, strained: true, text: fmt.Sprintf("%s [%s]: %v", host, addr, err)}
	if refused, ok := errors.AsType[*smtpclient.ReplyError](err); ok {
		l := rule(step(refused.Step), refused.Reply, situation{})
		f.reason, f.status, f.reply = l.reason, "3.2", refused.Reply.String()
	}
	return f
}

// noteSession takes note of a session for the Event. It counts once for each policy
// domain that uses it (RFC 8460, 4.3).
func (a *attempt) noteSession(req *security.Requirement, s *session) *Session {
	var verdicts []security.Verdict
	if a.counted() && s.countsFor(req.Domain) {
		verdicts = req.Judge(&s.evidence, nil)
	}
	return a.record.session(req, s, verdicts, a.policy.Failure)
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
	return a.policyDomain != "" && a.w.Envelope.Kind != queue.Report
}

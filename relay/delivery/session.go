package delivery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/stsrelay/stsrelay/internal/clienthello"
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
	a.key, a.limit = key, a.settings.PerHost
	if a.rule != nil && a.rule.PerHost > 0 {
		a.limit = a.rule.PerHost
	}
	for range maxOpenings {
		s, err := a.d.pool.get(ctx, key, a.limit, func(s *session) bool {
			return !a.fresh && a.mayUse(s.addr) && a.admits(s.addr) && req.Satisfied(&s.evidence) == nil && (!s.resumed || req.Flawless(&s.evidence))
		})
		if busy, ok := errors.AsType[*errBusy](err); ok {
			return nil, a.isBusy(c.host, busy)
		}
		if err != nil {
			return nil, ended(ctx, c.host)
		}
		if s != nil {
			a.seen = append(a.seen, seen{c.host, s.addr})
			return s, nil
		}
		start := a.d.now()
		s, f := a.openSession(ctx, c, req)
		if f == nil {
			s.key = key
			a.d.opened(s.evidence.TLSName())
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
	a.busy = busy
	return &attemptError{reason: failure.Busy, host: host, domainWide: busy.wait >= maxBusy, text: fmt.Sprintf("%s: %v", host, busy)}
}

// mayUse says whether the host may be contacted at an address: not over a family
// of addresses over which it has refused the relay.
func (a *attempt) mayUse(addr netip.Addr) bool {
	return !a.refusedOver.IsValid() || a.refusedOver.Is4() != addr.Is4()
}

// user is who we are at the next hop, "" where it does not want to know.
func (a *attempt) user() string {
	if a.rule == nil || a.rule.Route == nil {
		return ""
	}
	return a.rule.Route.User
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
	for _, addr := range a.d.dialer.Order(addrs) {
		if a.mayUse(addr) && !a.passOver[addr.String()] {
			at = append(at, netip.AddrPortFrom(addr, c.port))
		}
	}
	last := &attemptError{reason: failure.Connect, host: c.host, text: "no address of " + c.host + " was tried", domainWide: true}
	for tried := false; len(at) > 0 && a.dials < outbound.MaxAddresses && ctx.Err() == nil; tried = true {
		place, err := a.d.pool.reserve(a.key, at[:min(len(at), outbound.MaxAddresses-a.dials)], a.limit, a.d.now())
		if busy, ok := errors.AsType[*errBusy](err); ok {
			if tried { // the others have failed
				return nil, last
			}
			return nil, a.isBusy(c.host, busy)
		}
		conn, won, n, err := a.d.dialer.Dial(ctx, place.at, a.settings.ConnectTimeout)
		a.dials += n
		if err != nil {
			a.note(place.at[:n])
			a.seen = append(a.seen, seen{c.host, place.at[0].Addr()}) // the text has the others
			place.end(a.d.now())
			return nil, &attemptError{reason: failure.Connect, host: c.host, domainWide: true, strained: true,
				text: fmt.Sprintf("no connection to %s %v: %s", c.host, addrs, lines(err))}
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
		a.tried[x.Addr().String()] = true
	}
}

// lines are the lines of an error in one.
func lines(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

// openOn opens a session on a connection, and once more in clear where the
// handshake broke and nobody asks for TLS.
func (a *attempt) openOn(ctx context.Context, conn net.Conn, addr netip.AddrPort, req *security.Requirement) (*session, *attemptError) {
	a.seen = append(a.seen, seen{req.Host, addr.Addr()})
	small := a.d.hellos.Small(addr.String())
	s, unanswered, f := a.greet(ctx, conn, addr, req, &tickets{shared: a.d.tickets}, small)
	if f == nil && unanswered {
		small = true
		s, f = a.smaller(ctx, s, addr, req)
	}
	if f == nil && s.tickets.wereOffered() && !req.Flawless(&s.evidence) {
		s.tickets.drop()
		a.d.pool.quit(s)
		if conn, f = a.again(ctx, addr, req); f == nil {
			s, _, f = a.greet(ctx, conn, addr, req, &tickets{shared: a.d.tickets, full: true}, small)
		}
	}
	if f != nil {
		return nil, f
	}
	a.d.handshaken(s.evidence.StartTLS.String())
	if !req.Flawless(&s.evidence) {
		s.tickets.drop()
	}
	if err := req.Satisfied(&s.evidence); err != nil {
		a.countSession(req, s)
		a.d.pool.quit(s)
		shortfall, _ := errors.AsType[*security.Shortfall](err)
		a.tls, a.protection = req.Describe(&s.evidence)
		return nil, policyFailure(shortfall, req)
	}
	if a.user() != "" {
		if f := a.authenticate(ctx, s, req); f != nil {
			a.countSession(req, s)
			a.d.pool.quit(s)
			return nil, f
		}
	}
	if s.evidence.StartTLS == security.Broken {
		a.countSession(req, s)
		_ = s.client.Close()
		a.tls, a.protection = req.Describe(&s.evidence)
		conn, f := a.again(ctx, addr, req)
		if f != nil {
			return nil, f
		}
		client, heard, f := a.hello(ctx, conn, addr, req)
		if f != nil {
			return nil, f
		}
		s.client, s.conn = client, heard // for the reports the two are one
		return s, nil
	}
	return s, nil
}

// again connects once more to the address of a session that was given up.
func (a *attempt) again(ctx context.Context, addr netip.AddrPort, req *security.Requirement) (net.Conn, *attemptError) {
	conn, _, _, err := a.d.dialer.Dial(ctx, []netip.AddrPort{addr}, a.settings.ConnectTimeout)
	if err != nil {
		return nil, &attemptError{reason: failure.Connect, host: req.Host, domainWide: true, text: fmt.Sprintf("no second connection to %s: %s", req.Host, lines(err))}
	}
	return conn, nil
}

// authenticate says who we are to a next hop that wants to know. What goes
// wrong there is the operator's to mend: the mail waits.
func (a *attempt) authenticate(ctx context.Context, s *session, req *security.Requirement) *attemptError {
	if err := req.MaySendPassword(&s.evidence); err != nil {
		shortfall, _ := errors.AsType[*security.Shortfall](err)
		return &attemptError{reason: failure.RouteAuth, status: "7.11", host: s.host, domainWide: true,
			text: fmt.Sprintf("the password for %s is not sent: %s", s.host, shortfall.Text)}
	}
	err := s.client.Auth(ctx, a.rule.Route.User, a.rule.Route.Password)
	if err == nil {
		return nil
	}
	refused, ok := errors.AsType[*smtpclient.ReplyError](err)
	if !ok && !errors.Is(err, smtpclient.ErrNoAuth) {
		return greetingFailure(s.host, s.addr, err) // the connection was lost
	}
	f := &attemptError{reason: failure.RouteAuth, host: s.host, domainWide: true}
	if ok {
		l := rule(stepAuth, refused.Reply, situation{tls: s.evidence.StartTLS})
		if f = l.failure(s.host, refused.Reply); l.reason == failure.RouteAuth {
			f.status = ""
		}
		f.strained = refused.Reply.Code == 421
	}
	f.text = fmt.Sprintf("the log-in of %q at %s failed: %v", a.rule.Route.User, s.host, err)
	return f
}

// hello begins a session in clear.
func (a *attempt) hello(ctx context.Context, conn net.Conn, addr netip.AddrPort, req *security.Requirement) (*smtpclient.Client, *heardConn, *attemptError) {
	heard := listenTo(conn)
	a.hold.waits(heard, silentHello)
	client, err := smtpclient.New(ctx, heard, smtpclient.Options{Name: a.d.hostname, NoChunking: !a.d.pool.chunking(a.key), Timeouts: a.d.timeouts})
	if err != nil {
		return nil, nil, greetingFailure(req.Host, addr.Addr(), err)
	}
	return client, heard, nil
}

// greet begins the session and tries STARTTLS where it is offered. unanswered
// says that a small ClientHello may do better.
func (a *attempt) greet(ctx context.Context, conn net.Conn, addr netip.AddrPort, req *security.Requirement, t *tickets, small bool) (s *session, unanswered bool, f *attemptError) {
	client, heard, f := a.hello(ctx, conn, addr, req)
	if f != nil {
		return nil, false, f
	}
	s = &session{client: client, conn: heard, host: req.Host, addr: addr.Addr(), evidence: security.Evidence{Host: req.Host}, tickets: t}
	if _, ok := client.Extension("STARTTLS"); !ok {
		return s, false, nil
	}
	cfg := outbound.TLSConfig(req, a.settings.LegacyTLS, small)
	if !small {
		cfg.ClientSessionCache = t
	}
	err := client.StartTLS(ctx, cfg)
	switch refused, ok := errors.AsType[*smtpclient.ReplyError](err); {
	case ok && refused.Step == "STARTTLS" && refused.Reply.Code != 421:
		s.evidence.StartTLS, s.evidence.Failure = security.Refused, refused.Reply.String()
		return s, false, nil
	case ok: // the handshake is not at fault: it said goodbye, or refuses our EHLO within TLS
		_ = client.Close()
		return nil, false, greetingFailure(req.Host, addr.Addr(), err)
	case ctx.Err() != nil:
		_ = client.Close()
		return nil, false, ended(ctx, req.Host)
	case err != nil:
		s.evidence.StartTLS, s.evidence.Failure = security.Broken, err.Error()
		return s, clienthello.Unanswered(err), nil
	}
	cs, _ := client.TLS()
	s.resumed = cs.DidResume
	s.evidence.Observe(cs, a.d.roots, a.d.now())
	_, s.evidence.OffersRequireTLS = client.Extension("REQUIRETLS")
	return s, false, nil
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

// countSession counts a session once for each policy domain that uses it (RFC
// 8460, 4.3).
func (a *attempt) countSession(req *security.Requirement, s *session) {
	if !a.counted() || !s.countsFor(req.Domain) {
		return
	}
	a.counts = append(a.counts, SessionCount{
		Requirement: req, Verdicts: req.Judge(&s.evidence, nil), Policy: a.policy,
		LocalIP: ip(s.client.LocalAddr()), RemoteIP: s.addr.String(), Helo: s.client.PeerName(),
	})
}

// countSkipped counts a host that was passed over because the policy does not
// name it.
func (a *attempt) countSkipped(req *security.Requirement, s *security.Shortfall) {
	if !a.counted() {
		return
	}
	a.counts = append(a.counts, SessionCount{
		Requirement: req, Policy: a.policy,
		Verdicts: []security.Verdict{{Source: s.Source, Binding: true, Shortfall: s}},
	})
}

// counted says whether this message's sessions are counted: those of TLS
// reports are not (RFC 8460, 5.3), nor those to an address, which has no domain
// to report to.
func (a *attempt) counted() bool {
	return a.d.count != nil && a.policyDomain != "" && a.w.Envelope.Kind != queue.Report
}

func ip(addr net.Addr) string {
	if t, ok := addr.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap().String()
	}
	return ""
}

package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/stsrelay/stsrelay/internal/clienthello"
	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/relay/smtpclient"
)

// quitTime is how long a host may take to answer the QUIT of a session that served
// only to learn what the host can do.
const quitTime = 2 * time.Second

// Opener opens sessions with hosts. Dialer is required.
type Opener struct {
	Dialer *Dialer
	// Hostname is the relay's name in EHLO.
	Hostname string
	// Roots are the trusted authorities of hosts; nil: the system's.
	Roots *x509.CertPool
	// Hellos remembers the hosts that answer a small ClientHello only; nil: none are
	// remembered.
	Hellos *clienthello.Hosts
	// Cache keeps TLS sessions to resume; nil: none are resumed.
	Cache    tls.ClientSessionCache
	Timeouts smtpclient.Timeouts
	// Now is the date for certificates; nil: time.Now.
	Now func() time.Time
}

// Target is the address of a host, and how a session with it is opened.
type Target struct {
	// Requirement is what is asked of the session. Open does not judge by it: it
	// decides which TLS is offered, and whether a resumed session is good enough.
	Requirement *security.Requirement
	Addr        netip.AddrPort
	// LegacyTLS offers TLS 1.0 and 1.1 too. NoChunking leaves CHUNKING unused.
	LegacyTLS, NoChunking bool
	// ConnectTimeout bounds each further connection to Addr.
	ConnectTimeout time.Duration
	// Wrap, if set, is given each connection before its greeting is read, and returns
	// the one to use.
	Wrap func(net.Conn) net.Conn
	// Trace is told of the dialogue; nil: nobody is.
	Trace smtpclient.Trace
}

// Session is an open session with what it proved. Where Evidence.StartTLS is
// security.Broken, the session is over: see Opener.InClear.
type Session struct {
	Client   *smtpclient.Client
	Evidence security.Evidence
	// Resumed reports whether the evidence is that of an earlier handshake.
	Resumed bool
	// Unanswered is what became of the usual ClientHello where only a small one
	// brought TLS about; else "".
	Unanswered string

	unanswered bool // a small ClientHello may do better
	cache      *sessionCache
}

// Open begins a session on a connection to t.Addr: greeting, EHLO, and STARTTLS
// where it is offered. It connects anew where another handshake tells more: a small
// one to a host that does not answer the usual one, a full one in the place of a
// resumed one that leaves something to be desired. The connection is closed on an
// error.
func (o *Opener) Open(ctx context.Context, conn net.Conn, t Target) (*Session, *Failure) {
	small := o.Hellos != nil && o.Hellos.Small(t.Addr.String())
	s, f := o.begin(ctx, conn, t, o.newCache(false), small)
	if f == nil && s.unanswered {
		small = true
		s, f = o.withSmallHello(ctx, t, s)
	}
	if f == nil && s.cache.used() && !t.Requirement.Flawless(&s.Evidence) {
		s.cache.drop()
		s.quit(ctx)
		if conn, f = o.reconnect(ctx, t); f == nil {
			s, f = o.begin(ctx, conn, t, o.newCache(true), small)
		}
	}
	if f != nil {
		return nil, f
	}
	if !t.Requirement.Flawless(&s.Evidence) {
		s.cache.drop()
	}
	return s, nil
}

// InClear opens s once more, after its handshake broke, and leaves STARTTLS out. The
// evidence stays: for TLS reports the two are one session.
func (o *Opener) InClear(ctx context.Context, t Target, s *Session) *Failure {
	_ = s.Client.Close()
	conn, f := o.reconnect(ctx, t)
	if f != nil {
		return f
	}
	client, f := o.hello(ctx, conn, t)
	if f == nil {
		s.Client = client
	}
	return f
}

// LogIn logs in at a next hop, if the session is good enough for a password. The error is
// a *security.Shortfall where it is not, else that of smtpclient.Client.Auth.
func (s *Session) LogIn(ctx context.Context, req *security.Requirement, user, password string) error {
	if err := req.MaySendPassword(&s.Evidence); err != nil {
		return err
	}
	return s.Client.Auth(ctx, user, password)
}

func (o *Opener) now() time.Time {
	if o.Now == nil {
		return time.Now()
	}
	return o.Now()
}

func (o *Opener) newCache(full bool) *sessionCache {
	if o.Cache == nil {
		return nil
	}
	return &sessionCache{shared: o.Cache, full: full}
}

// reconnect connects once more to the address of a session that was given up.
func (o *Opener) reconnect(ctx context.Context, t Target) (net.Conn, *Failure) {
	conn, _, _, err := o.Dialer.Dial(ctx, []netip.AddrPort{t.Addr}, t.ConnectTimeout)
	if err != nil {
		return nil, t.failed(StageReconnect, err)
	}
	return conn, nil
}

// withSmallHello tries an address once more, with a small ClientHello, where the host
// did not answer that of first. The address is remembered where that helps.
func (o *Opener) withSmallHello(ctx context.Context, t Target, first *Session) (*Session, *Failure) {
	conn, f := o.reconnect(ctx, t)
	if f != nil {
		f.Broken = first
		return nil, f
	}
	second, f := o.begin(ctx, conn, t, o.newCache(false), true)
	switch {
	case f != nil:
		f.Broken = first
		return nil, f
	case second.Evidence.StartTLS == security.Broken:
	case second.Evidence.StartTLS != security.Established:
		second.Evidence = first.Evidence // TLS was offered and broke
	default:
		second.Unanswered = first.Evidence.Failure.String()
		if o.Hellos != nil {
			o.Hellos.Remember(t.Addr.String())
		}
	}
	return second, nil
}

// hello begins a session in clear.
func (o *Opener) hello(ctx context.Context, conn net.Conn, t Target) (*smtpclient.Client, *Failure) {
	if t.Wrap != nil {
		conn = t.Wrap(conn)
	}
	client, err := smtpclient.New(ctx, conn, smtpclient.Options{Name: o.Hostname, NoChunking: t.NoChunking, Timeouts: o.Timeouts, Trace: t.Trace})
	if err != nil {
		return nil, t.failed(stageOf(err), err)
	}
	return client, nil
}

// begin begins the session and tries STARTTLS where it is offered.
func (o *Opener) begin(ctx context.Context, conn net.Conn, t Target, cache *sessionCache, small bool) (*Session, *Failure) {
	client, f := o.hello(ctx, conn, t)
	if f != nil {
		return nil, f
	}
	s := &Session{Client: client, Evidence: security.Evidence{Host: t.Requirement.Host}, cache: cache}
	if _, ok := client.Extension("STARTTLS"); !ok {
		return s, nil
	}
	cfg := tlsConfig(t.Requirement, t.LegacyTLS, small)
	if !small && cache != nil {
		cfg.ClientSessionCache = cache
	}
	err := client.StartTLS(ctx, cfg)
	switch refused, ok := errors.AsType[*smtpclient.ReplyError](err); {
	case ok && refused.Step == "STARTTLS" && refused.Reply.Code != 421:
		s.Evidence.StartTLS, s.Evidence.Failure = security.Refused, phrase.Quote(refused.Reply.String())
		return s, nil
	case ok: // the handshake is not at fault: it said goodbye, or refuses our EHLO within TLS
		_ = client.Close()
		return nil, t.failed(stageOf(err), err)
	case ctx.Err() != nil:
		_ = client.Close()
		return nil, t.failed(StageHandshake, context.Cause(ctx))
	case err != nil:
		s.Evidence.StartTLS, s.Evidence.Failure = security.Broken, phrase.Of(err)
		s.unanswered = clienthello.Unanswered(err)
		return s, nil
	}
	cs, _ := client.TLS()
	s.Resumed = cs.DidResume
	s.Evidence.Observe(cs, o.Roots, o.now())
	_, s.Evidence.OffersRequireTLS = client.Extension("REQUIRETLS")
	return s, nil
}

// failed is a failure of the target's host.
func (t *Target) failed(at Stage, err error) *Failure {
	return &Failure{Stage: at, Host: t.Requirement.Host, Addr: t.Addr.Addr(), Err: err}
}

// quit ends a session politely.
func (s *Session) quit(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, quitTime)
	defer cancel()
	_ = s.Client.Quit(ctx) // the session is over either way
}

// Package ingress is the SMTP server. It accepts mail from the mail servers and devices
// that may send through this relay, checks it, completes its header, and streams it
// into the queue. The 250 is written after the queue has made the message durable, never
// before.
//
// go-smtp implements SMTP itself; conn (conn.go) is between it and the network. Each
// listener has its own go-smtp server.
package ingress

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/stsrelay/stsrelay/internal/listenlog"
	"github.com/stsrelay/stsrelay/internal/proxied"
	"github.com/stsrelay/stsrelay/queue"
)

// Options configures New. Queue, Hostname and Listeners are required.
type Options struct {
	Queue     *queue.Queue
	Hostname  string
	Listeners []Listener
	// TLS returns the TLS configuration for a listener, given its lowest version.
	TLS func(minimum uint16) *tls.Config
	// Users checks a name and a password; nil: there are no users. An unknown name
	// must take as long as a wrong password.
	Users func(ctx context.Context, name, password string) (User, bool)
	// Current returns what a user who has logged in may do now; false where that log-in
	// counts no more. nil: users do not change.
	Current func(User) (User, bool)
	Limits  Limits
	Headers Headers
	// Rewrite replaces addresses, in the envelope and in the header.
	Rewrite AddressMap
	// Blocked are the recipients that nobody may write to; the values mean nothing.
	Blocked AddressMap
	// Journal is the address that gets a copy of every message; "": none does.
	Journal string
	// Postmaster is the address that receives mail to <postmaster> without a domain
	// (RFC 5321, 4.5.1); "": such mail is refused.
	Postmaster string
	// HonorTLSRequiredNo reports whether the header field "TLS-Required: No" (RFC 8689)
	// is honoured.
	HonorTLSRequiredNo bool
	// Sign begins the DKIM signatures of a message, given the domain of its From
	// field. If Sign is nil or returns nil, the message is not signed.
	Sign func(domain string) Signing
	// Drop takes the mail to one address, which is not relayed; nil: there is none.
	Drop *Drop
	// Accepted is called for every accepted message, with the envelope in the queue.
	// Refused is called for every reply that refuses a command, and must not wait. Either
	// may be nil.
	Accepted func(env *queue.Envelope)
	Refused  func(*Refusal)
	// Gateways are the default gateways of this machine; see isGateway.
	Gateways []netip.Addr
	// Now is the wall clock; default time.Now.
	Now    func() time.Time
	Logger *slog.Logger
}

// Refusal is a reply that refuses a client's command.
type Refusal struct {
	// Client is the client's address, From the sender of its transaction, "" for none, and
	// Command the verb that was refused, "" for the greeting, "unknown" for what is no command.
	Client, From, Command string
	// Code is the reply's code, Status its enhanced status code (RFC 3463), "" for none, and
	// Reply the whole of it.
	Code, Status, Reply string
}

// User is a person or program that has authenticated by AUTH.
type User struct {
	Name string
	// SenderDomains are the domains that the user may send as; empty: any.
	SenderDomains []string

	hash string // of the password with which the user has logged in
}

// Listener is an address to listen on, with the rules for the clients that may send
// there.
type Listener struct {
	// Address is "host:port".
	Address string
	// TLS is "none", "starttls" or "implicit"; RequireTLS refuses mail in clear.
	TLS        string
	RequireTLS bool
	// Allow are the networks that may send without AUTH.
	Allow []netip.Prefix
	// Auth offers AUTH PLAIN and LOGIN, over TLS only.
	Auth bool
	// MinTLS is the lowest TLS version, as in crypto/tls. Default TLS 1.2.
	MinTLS uint16
	// ClientCAs are the authorities for certificates with which a client may send.
	ClientCAs *x509.CertPool
	// SenderDomains are the domains of the senders that are allowed; empty: any.
	SenderDomains []string
	// ProxyFrom are the load balancers whose PROXY header is believed.
	ProxyFrom []netip.Prefix
}

// Signing is a message that is being signed. The message is written to it once; Close
// returns the header fields to put in front of the message. A message that does not come
// whole, or is written anew, needs no Close, and costs no signature.
type Signing interface {
	io.Writer
	Close() (fields []byte, err error)
}

// Limits are the limits for clients. Zero values select the defaults.
type Limits struct {
	MessageSize          int64         // octets; default 50 MiB
	Recipients           int           // of a message; default 1000
	Connections          int           // default 1000; half of them are kept for known clients
	ConnectionsPerClient int           // default 100
	Hops                 int           // Received fields; default 50
	Rate                 int           // messages a minute for one client address, and for one user; 0: no limit
	BareNewline          string        // "normalize" (default), "reject"
	LongLines            string        // "convert" (default), "pass", "reject"
	Idle                 time.Duration // between commands; default 5m
	SessionTime          time.Duration // of a session; default 2h
	ProofTime            time.Duration // for a client to prove that it may send; default 1m
	AuthDelay            time.Duration // after a wrong password, doubled each time; default 1s
}

func (l Limits) withDefaults() Limits {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	def(&l.Recipients, 1000)
	def(&l.Connections, 1000)
	def(&l.ConnectionsPerClient, 100)
	def(&l.Hops, 50)
	l.LongLines = cmp.Or(l.LongLines, "convert")
	if l.MessageSize == 0 {
		l.MessageSize = 50 << 20
	}
	if l.Idle == 0 {
		l.Idle = 5 * time.Minute
	}
	if l.SessionTime == 0 {
		l.SessionTime = 2 * time.Hour
	}
	if l.ProofTime == 0 {
		l.ProofTime = time.Minute
	}
	if l.AuthDelay == 0 {
		l.AuthDelay = time.Second
	}
	return l
}

// Server listens for SMTP clients and accepts mail.
type Server struct {
	queue     *queue.Queue
	hostname  string
	now       func() time.Time
	log       *slog.Logger
	listeners []*listener
	accepted  func(env *queue.Envelope)
	refused   func(*Refusal)
	rules     atomic.Pointer[Options] // the options that a reload may change

	stopped context.Context // canceled when the remaining sessions are cut off
	stop    context.CancelFunc

	// One password of a known client is checked at a time, and one of a stranger: however
	// many strangers try passwords, a known client does not wait behind them.
	checking, checkingStrangers semaphore
	refusing                    semaphore // bounds concurrent TLS handshakes with refused clients

	mu        sync.Mutex
	draining  bool
	conns     map[*conn]bool
	strangers int // number of strangers in conns
	clients   clients
}

// listener is one address with its go-smtp server.
type listener struct {
	server    *Server
	index     int
	options   Listener
	tlsConfig *tls.Config
	smtp      *smtp.Server
	net       net.Listener
}

// New returns a server that does not listen yet.
func New(o Options) (*Server, error) {
	if len(o.Listeners) == 0 {
		return nil, errors.New("ingress needs a listener")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Limits = o.Limits.withDefaults()
	s := &Server{
		queue: o.Queue, hostname: o.Hostname, now: o.Now, log: o.Logger,
		checking: make(semaphore, 1), checkingStrangers: make(semaphore, 1), refusing: make(semaphore, refusalsAtATime),
		conns: make(map[*conn]bool), clients: newClients(),
	}
	s.stopped, s.stop = context.WithCancel(context.Background())
	s.accepted, s.refused = o.Accepted, o.Refused
	s.rules.Store(&o)
	for i, lo := range o.Listeners {
		if lo.MinTLS == 0 {
			lo.MinTLS = tls.VersionTLS12
		}
		l := &listener{server: s, index: i, options: lo}
		if lo.TLS != "none" {
			if o.TLS == nil {
				return nil, fmt.Errorf("listener %s offers TLS and there is no certificate", lo.Address)
			}
			l.requestClientCertificates(o.TLS)
		}
		l.smtp = l.newSMTP(&o)
		s.listeners = append(s.listeners, l)
	}
	return s, nil
}

// requestClientCertificates sets up a TLS configuration that asks for a client
// certificate if the listener has ClientCAs. A client without a certificate may still
// send by address or with AUTH.
func (l *listener) requestClientCertificates(base func(uint16) *tls.Config) {
	l.tlsConfig = &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		c := base(l.options.MinTLS)
		if c.GetConfigForClient != nil {
			var err error
			if c, err = c.GetConfigForClient(h); err != nil {
				return nil, err
			}
		}
		c.ClientAuth, c.ClientCAs = tls.VerifyClientCertIfGiven, l.rule().ClientCAs
		if c.ClientCAs == nil {
			c.ClientAuth = tls.NoClientCert // nil would select the system's authorities
		}
		return c, nil
	}}
}

func (l *listener) newSMTP(o *Options) *smtp.Server {
	m := smtp.NewServer(smtp.BackendFunc(l.newSession))
	m.Domain = o.Hostname
	m.MaxMessageBytes = 0                  // a reload may change it: conn and session check it
	m.MaxLineLength = maxLine + readBuffer // command lines are bounded by conn
	m.EnableSMTPUTF8 = true
	m.EnableDSN = true
	m.EnableREQUIRETLS = true
	m.AllowInsecureAuth = true // go-smtp does not see the TLS layer; AuthMechanisms checks it
	m.ErrorLog = errorLog{l.server.log}
	return m
}

// errorLog receives go-smtp's own log, which is about broken connections, and about panics.
type errorLog struct{ log *slog.Logger }

func (e errorLog) Printf(format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	if strings.HasPrefix(format, "panic") {
		e.log.Error("a session ended by a fault of the relay", "text", text)
		return
	}
	e.log.Debug("go-smtp", "text", text)
}
func (e errorLog) Println(v ...any) { e.log.Debug("go-smtp", "text", fmt.Sprint(v...)) }

// ctx returns a context that is canceled when the server cuts off its sessions.
func (s *Server) ctx() context.Context { return s.stopped }

// limits returns the limits in force now.
func (s *Server) limits() *Limits { return &s.rules.Load().Limits }

// rule returns the listener's part of the options in force now.
func (l *listener) rule() *Listener { return &l.server.rules.Load().Listeners[l.index] }

// Update changes the limits, networks, users and sender domains. Listeners keep their
// addresses and TLS modes.
func (s *Server) Update(o Options) {
	old := s.rules.Load()
	o.Limits = o.Limits.withDefaults()
	// Rules belong to an address, not to a position in the file: the wide rules of an
	// internal address must never apply to an external one.
	given := o.Listeners
	o.Listeners = slices.Clone(old.Listeners)
	for i := range o.Listeners {
		if n := slices.IndexFunc(given, func(l Listener) bool { return l.Address == old.Listeners[i].Address }); n >= 0 {
			o.Listeners[i] = given[n]
		}
	}
	s.rules.Store(&o)
}

// Listen binds all addresses.
func (s *Server) Listen() error {
	for _, l := range s.listeners {
		ln, err := net.Listen("tcp", l.options.Address)
		if err != nil {
			for _, bound := range s.listeners {
				if bound.net != nil {
					bound.net.Close()
				}
			}
			return explainListen(l.options.Address, err)
		}
		l.net = proxied.Listener(listenlog.Listener(ln, s.log), l.options.ProxyFrom)
	}
	return nil
}

// explainListen adds the ways out to the error of a port that only some users may bind.
func explainListen(address string, err error) error {
	_, port, _ := net.SplitHostPort(address)
	if n, e := strconv.Atoi(port); e != nil || n >= 1024 || !errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("listen: %w", err)
	}
	return fmt.Errorf("listen: %w: this user may not bind a port below 1024. Ways out: a port from 1024 on, such as 2525; systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE, as in deploy/stsrelay.service; "+
		"a program on its own: setcap cap_net_bind_service=+ep on its file; a container with a network of its own: --sysctl net.ipv4.ip_unprivileged_port_start=%s; "+
		"with the network of the host: sysctl net.ipv4.ip_unprivileged_port_start=%s there", err, port, port)
}

func contains(list []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(a) })
}

// Addrs returns the addresses that the server listens on.
func (s *Server) Addrs() (out []net.Addr) {
	for _, l := range s.listeners {
		if l.net != nil {
			out = append(out, l.net.Addr())
		}
	}
	return out
}

// Serve accepts mail until Shutdown. Listen must be called first.
func (s *Server) Serve() error {
	errs := make(chan error, len(s.listeners))
	for _, l := range s.listeners {
		go func() {
			err := l.smtp.Serve(acceptor{l})
			if s.stopped.Err() != nil && errors.Is(err, net.ErrClosed) {
				err = nil
			}
			errs <- err
		}()
	}
	var err error
	for range s.listeners {
		err = errors.Join(err, <-errs)
	}
	return err
}

// acceptor is the net.Listener for go-smtp: its connections are conns.
type acceptor struct{ l *listener }

func (a acceptor) Accept() (net.Conn, error) {
	c, err := a.l.net.Accept()
	if err != nil {
		return nil, err
	}
	return newConn(c, a.l), nil
}

func (a acceptor) Close() error   { return a.l.net.Close() }
func (a acceptor) Addr() net.Addr { return a.l.net.Addr() }

// admit registers a connection, or returns the reply that refuses it. Half of the
// sessions are kept for clients whose address may send or that have proved lately that
// they may. So strangers that open many connections do not block known clients.
func (s *Server) admit(c *conn) (refusal string) {
	limits := s.limits()
	allowed := contains(c.listener.rule().Allow, c.remote)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return fmt.Sprintf("421 4.3.2 %s is shutting down; try again later", s.hostname)
	}
	k := s.clients.of(c.remote)
	stranger := !allowed && s.now().Sub(k.known) > knownMemory
	refuse := func(why string, limit int, reply string) string {
		s.log.Warn("client refused", append(c.who(), "why", why, "limit", limit, "status", "4.7.0")...)
		return "421 4.7.0 " + reply + "; try again later"
	}
	switch most := max(limits.Connections/2, 1); {
	case len(s.conns) >= limits.Connections:
		return refuse("too many connections", limits.Connections, s.hostname+" has too many connections")
	case k.connections >= limits.ConnectionsPerClient:
		return refuse("too many connections of its own", limits.ConnectionsPerClient, fmt.Sprintf("too many connections from %s", c.remote))
	case stranger && s.strangers >= most:
		return refuse("too many connections of strangers", most, s.hostname+" has too many connections of clients that it does not know")
	}
	k.connections++
	s.conns[c] = true
	if stranger {
		c.stranger = true
		s.strangers++
	}
	return ""
}

// leave removes a connection. The wrong passwords and the rate of the client are kept
// for a while.
func (s *Server) leave(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.conns[c] {
		return
	}
	delete(s.conns, c)
	if c.stranger {
		s.strangers--
	}
	s.clients.of(c.remote).connections--
	s.clients.forget(s.now(), 10*len(s.conns)+1000)
}

// Sessions returns the number of open sessions.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Shutdown refuses new sessions with 421. Sessions that are inside a message may finish
// it; the others are ended. When ctx ends, the remaining sessions are cut off. Shutdown
// returns when all sessions have ended.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.draining = true
	for c := range s.conns {
		c.drain()
	}
	s.mu.Unlock()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for s.Sessions() > 0 && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	err := ctx.Err()
	s.stop()
	for _, l := range s.listeners {
		if l.net == nil {
			continue
		}
		// go-smtp closes only a listener that was passed to Serve, which may not
		// have happened yet.
		_ = l.net.Close()
		if e := l.smtp.Close(); e != nil && !errors.Is(e, net.ErrClosed) && !errors.Is(e, smtp.ErrServerClosed) {
			err = errors.Join(err, e)
		}
	}
	for _, l := range s.listeners { // returns when the goroutines of go-smtp have ended
		_ = l.smtp.Shutdown(context.Background())
	}
	return err
}

// mayClaim reports whether a sender's domain is allowed; an empty list allows all.
func mayClaim(allowed []string, domain string) bool {
	return len(allowed) == 0 || slices.ContainsFunc(allowed, func(d string) bool { return strings.EqualFold(d, domain) })
}

// Package webfetch asks HTTPS of hosts that strangers name: policy hosts, receivers of
// reports. Whoever owns a domain chooses the name, what it leads to, and what is
// answered. So only public addresses are contacted, names are looked up by the caller's
// resolver, no proxy of the environment is used, no redirect is followed, no connection
// is kept, and what is read of an answer is bounded.
//
// What an answer must look like is the caller's matter, and so is how long the whole may
// take: the context of the request says that.
package webfetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/stsrelay/stsrelay/internal/clienthello"
	"github.com/stsrelay/stsrelay/internal/happyeyeballs"
	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/internal/publicaddr"
)

const (
	// maxAddrs is how many addresses of a host are tried.
	maxAddrs = 8
	// maxHeader is the most that the header of an answer may be, in octets.
	maxHeader = 32 << 10
)

// ErrPrivateAddress is wrapped by the error about a name that leads to addresses that are
// not public, and not contacted.
var ErrPrivateAddress = phrase.Errorf("non-public address")

// Options configures New. LookupAddrs is required.
type Options struct {
	// LookupAddrs finds the addresses of a host. Its errors are passed on.
	LookupAddrs func(ctx context.Context, host string) ([]netip.Addr, error)
	// DialContext opens connections to "IP:port"; default net.Dialer.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// AllowPrivate reports whether private, loopback and link-local addresses are
	// contacted too; nil: they are not.
	AllowPrivate func() bool
	// Roots are the trusted authorities; nil: the system's. Insecure takes any
	// certificate.
	Roots    *x509.CertPool
	Insecure bool
	// HTTP2 offers it beside HTTP/1.1.
	HTTP2 bool
	// ConnectTimeout bounds the connection to one address; default 10s. Handshake
	// bounds TLS; Whole is 10s by default. HeaderTimeout bounds the wait for the header
	// of the answer; 0: only the context does.
	ConnectTimeout time.Duration
	Handshake      clienthello.Limits
	HeaderTimeout  time.Duration
	// MaxBody is the most that the caller reads of an answer's body, in octets; more than
	// one octet beyond is never there. Default 64 KiB.
	MaxBody int64
	// Hellos remembers hosts that answer a small ClientHello only; nil: none is
	// remembered.
	Hellos *clienthello.Hosts
	// Now is the date for certificates; default time.Now.
	Now func() time.Time
}

// Client asks hosts.
type Client struct{ o Options }

// New returns a Client.
func New(o Options) *Client {
	dial := o.DialContext
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	o.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return wholeConn{conn}, nil
	}
	if o.AllowPrivate == nil {
		o.AllowPrivate = func() bool { return false }
	}
	if o.ConnectTimeout == 0 {
		o.ConnectTimeout = 10 * time.Second
	}
	if o.Handshake.Whole == 0 {
		o.Handshake.Whole = 10 * time.Second
	}
	if o.MaxBody == 0 {
		o.MaxBody = 64 << 10
	}
	return &Client{o: o}
}

// Exchange is a question and what came of it.
type Exchange struct {
	// Addr is the address that a connection was opened to, "" where none was.
	Addr string
	// SmallHello reports whether TLS came about with a second, small ClientHello only.
	SmallHello bool
	// Answer is nil where there is none. Its Body must be closed.
	Answer *http.Response
}

// Do makes one request. The Exchange is never nil; Answer is set where the error is nil. Where
// the context of req has ended, the error is its cause. It wraps ErrPrivateAddress where no
// address of the host is public.
func (c *Client) Do(req *http.Request) (*Exchange, error) {
	ctx := req.Context()
	var reached reached
	cfg := &tls.Config{
		ServerName: req.URL.Hostname(), RootCAs: c.o.Roots, MinVersion: tls.VersionTLS12, Time: c.o.Now,
		InsecureSkipVerify: c.o.Insecure, //nolint:gosec // the caller's choice
	}
	transport := &http.Transport{
		DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return c.dialTLS(ctx, network, address, cfg, &reached)
		},
		ResponseHeaderTimeout:  c.o.HeaderTimeout,
		DisableCompression:     true,
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: maxHeader,
	}
	if c.o.HTTP2 {
		cfg.NextProtos = []string{"h2", "http/1.1"}
		transport.ForceAttemptHTTP2 = true
		// What a host may send before it is read; the default is 4 MiB.
		most := int(max(c.o.MaxBody, 64<<10))
		transport.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: most, MaxReceiveBufferPerConnection: most}
	}
	answer, err := transport.RoundTrip(req) //nolint:bodyclose // the caller closes it; a RoundTripper follows no redirect
	out := reached.exchange()
	if err != nil {
		transport.CloseIdleConnections()
		return out, causeOf(ctx, err)
	}
	answer.Body = &body{ctx: ctx, limited: io.LimitReader(answer.Body, c.o.MaxBody+1), whole: answer.Body, end: transport.CloseIdleConnections}
	out.Answer = answer
	return out, nil
}

// reached is what a connection has reached. Where the context of a request ends, Transport goes
// on with the connection for a while, on a goroutine of its own.
type reached struct {
	addr       atomic.Pointer[string]
	smallHello atomic.Bool
}

func (r *reached) exchange() *Exchange {
	x := &Exchange{SmallHello: r.smallHello.Load()}
	if addr := r.addr.Load(); addr != nil {
		x.Addr = *addr
	}
	return x
}

// body is the body of an answer, bounded.
type body struct {
	ctx     context.Context //nolint:containedctx // of the request, whose end ends the body
	limited io.Reader
	whole   io.Closer
	end     func()
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.limited.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // what a Reader returns is not wrapped
		err = causeOf(b.ctx, err)
	}
	return n, err
}

func (b *body) Close() error {
	defer b.end()
	return b.whole.Close()
}

// causeOf returns the reason why ctx has ended, where it has, else err.
func causeOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// dialTLS connects and makes the handshake, once more with a small ClientHello where the
// host does not answer a large one.
func (c *Client) dialTLS(ctx context.Context, network, address string, cfg *tls.Config, to *reached) (net.Conn, error) {
	conn, addr, err := c.dial(ctx, address)
	if err != nil {
		return nil, err
	}
	ip := addr.Addr().String()
	to.addr.Store(&ip)
	again := false
	client, err := c.o.Hellos.Client(ctx, conn, addr.String(), cfg, c.o.Handshake, func(ctx context.Context) (net.Conn, error) {
		again = true
		return c.o.DialContext(ctx, network, addr.String())
	})
	if err != nil {
		return nil, err
	}
	to.smallHello.Store(again)
	return client, nil
}

// dial connects to the first address of a host that answers, IPv6 and IPv4 in turn, and
// returns the one that did.
func (c *Client) dial(ctx context.Context, address string) (net.Conn, netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	addrs, err := c.addrs(ctx, host)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	if len(addrs) == 0 {
		return nil, netip.AddrPort{}, phrase.Errorf("%s has no address", host)
	}
	var targets []netip.AddrPort
	var refused []error
	anywhere := c.o.AllowPrivate()
	for _, a := range happyeyeballs.Interleave(addrs) {
		if anywhere || publicaddr.Public(a) {
			targets = append(targets, netip.AddrPortFrom(a, uint16(port)))
		} else {
			refused = append(refused, phrase.Errorf("%s: %w, which is not contacted", a, ErrPrivateAddress))
		}
	}
	if len(targets) == 0 {
		return nil, netip.AddrPort{}, errors.Join(refused...)
	}
	won, err := happyeyeballs.Dial(ctx, targets[:min(len(targets), maxAddrs)], c.o.ConnectTimeout, c.o.DialContext)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	return won.Conn, targets[won.Index], nil
}

// addrs are the addresses of a host, which may be an address itself.
func (c *Client) addrs(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	return c.o.LookupAddrs(ctx, host)
}

// wholeConn is a connection whose end is an error: TLS says by close_notify that all has
// come, and an answer that the end of the connection alone delimits may have been cut by
// anybody (RFC 8446, 6.1; RFC 9112, 9.8).
type wholeConn struct{ net.Conn }

// errCut is not io.EOF or io.ErrUnexpectedEOF itself, which crypto/tls takes for an orderly
// end.
var errCut = phrase.Errorf("the connection ended in the middle: %w", io.ErrUnexpectedEOF)

func (c wholeConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err == io.EOF { //nolint:errorlint // what a Reader returns is not wrapped
		err = errCut
	}
	return n, err
}

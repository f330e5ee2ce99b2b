package sts

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/stsrelay/stsrelay/internal/clienthello"
	"github.com/stsrelay/stsrelay/internal/happyeyeballs"
	"github.com/stsrelay/stsrelay/internal/publicaddr"
)

const (
	// wellKnown is the path of a policy (RFC 8461, 3.3).
	wellKnown = "/.well-known/mta-sts.txt"
	// maxAddrs is how many addresses of a policy host are tried, each for
	// dialTimeout at most.
	maxAddrs    = 8
	dialTimeout = 10 * time.Second
)

// FailureType is a result type of RFC 8460, 4.3.2.2.
type FailureType string

// The ways in which a policy cannot be had.
const (
	// PolicyFetchError: the policy host did not answer with a policy.
	PolicyFetchError FailureType = "sts-policy-fetch-error"
	// PolicyInvalid: what it answered is no valid policy.
	PolicyInvalid FailureType = "sts-policy-invalid"
	// WebPKIInvalid: its certificate is not trusted or not for its name.
	WebPKIInvalid FailureType = "sts-webpki-invalid"
)

// ErrNoHost is what FetcherOptions.LookupAddrs says of a name that does not
// exist or has no address. Every other error means that nobody knows.
var ErrNoHost = errors.New("the policy host does not exist")

// FetchError is a policy that could not be had.
type FetchError struct {
	Type   FailureType
	Domain string
	// Text is what was received instead of a policy, "" if nothing.
	Text string
	// Seen is what the fetch has shown before it failed, without a Policy. It is
	// nil where the failure is remembered only.
	Seen *Fetched
	Err  error
}

func (e *FetchError) Error() string {
	return fmt.Sprintf("policy of %s from https://%s%s: %v (%s)", e.Domain, policyHost(e.Domain), wellKnown, e.Err, e.Type)
}

func (e *FetchError) Unwrap() error { return e.Err }

func policyHost(domain string) string { return "mta-sts." + domain }

// FetcherOptions configures NewFetcher. LookupAddrs is required.
type FetcherOptions struct {
	// Roots are the trusted authorities of policy hosts; nil: the system's.
	Roots *x509.CertPool
	// LookupAddrs finds the addresses of a policy host.
	LookupAddrs func(ctx context.Context, host string) ([]netip.Addr, error)
	// DialContext opens connections to "IP:443"; default net.Dialer.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// AllowPrivate permits private, loopback and link-local addresses, which
	// are refused otherwise: the domain's owner chooses them.
	AllowPrivate bool
	// Timeout bounds a whole fetch. Default 60s.
	Timeout time.Duration
	// Hellos remembers policy hosts that answer a small ClientHello only; nil: none
	// is remembered.
	Hellos *clienthello.Hosts
	// Now is the date for certificates; default time.Now.
	Now func() time.Time
}

// Fetcher fetches policies (RFC 8461, 3.3).
type Fetcher struct{ o FetcherOptions }

// Fetched is a policy and what its fetch has shown.
type Fetched struct {
	// Policy is as it is applied: see Policy.Applied.
	Policy  *Policy
	Remarks Remarks
	// Text is the policy as it was received.
	Text string
	// TLS is the state of the connection, Addr the address that answered.
	TLS  *tls.ConnectionState
	Addr string
	// SmallHello reports whether TLS came about with a second, small ClientHello only.
	SmallHello bool
	// Status, ContentType, ContentCoding (its Content-Encoding, in lower case) and
	// Location are those of the HTTP answer, 0 and "" where there was none.
	Status        int
	ContentType   string
	ContentCoding string
	Location      string
}

// NewFetcher returns a Fetcher.
func NewFetcher(o FetcherOptions) *Fetcher {
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
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Fetcher{o: o}
}

// Fetch gets the policy of a domain now. The error is a *FetchError; it wraps
// ErrNoHost where there is no policy host, and ErrPrivateAddress where it must
// not be contacted.
func (f *Fetcher) Fetch(ctx context.Context, domain string) (*Fetched, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, f.o.Timeout, fmt.Errorf("no policy within %s", f.o.Timeout))
	defer cancel()
	out := &Fetched{}
	body, err := f.get(ctx, domain, out)
	if err != nil {
		return nil, &FetchError{Type: fetchType(err), Domain: domain, Seen: out, Err: err}
	}
	out.Text = string(body)
	policy, remarks, err := parsePolicy(out.Text)
	if err != nil {
		return nil, &FetchError{Type: PolicyInvalid, Domain: domain, Text: out.Text, Seen: out, Err: err}
	}
	out.Policy, out.Remarks = policy.Applied(), append(out.Remarks, remarks...)
	if n := policy.leftOut(out.Policy); n > 0 {
		out.Remarks.Add(RemarkManyMX, "the policy has %d patterns, more than are applied: the last %d of them do not count", len(out.Policy.MX)+n, n)
	}
	return out, nil
}

// fetchType tells a certificate that does not hold from all other trouble.
func fetchType(err error) FailureType {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return WebPKIInvalid
	}
	return PolicyFetchError
}

func (f *Fetcher) get(ctx context.Context, domain string, out *Fetched) ([]byte, error) {
	host := policyHost(domain)
	// A transport of its own for every fetch: no connection is kept, no proxy
	// of the environment is used, nothing is cached on the way.
	cfg := &tls.Config{ServerName: host, RootCAs: f.o.Roots, MinVersion: tls.VersionTLS12, Time: f.o.Now, NextProtos: []string{"h2", "http/1.1"}}
	transport := &http.Transport{
		DialTLSContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return f.dialTLS(ctx, network, host, cfg, out)
		},
		ForceAttemptHTTP2: true,
		// What a host may send before it is read; the default is 4 MiB.
		HTTP2:                  &http.HTTP2Config{MaxReceiveBufferPerStream: maxBody, MaxReceiveBufferPerConnection: maxBody},
		ResponseHeaderTimeout:  20 * time.Second,
		DisableCompression:     true,
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: 32 << 10,
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+wellKnown, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "stsrelay (MTA-STS, RFC 8461)")
	resp, err := transport.RoundTrip(req) // a RoundTripper follows no redirect
	if err != nil {
		return nil, causeOf(ctx, err)
	}
	defer resp.Body.Close()
	out.TLS, out.Status = resp.TLS, resp.StatusCode
	out.ContentType, out.ContentCoding, out.Location = resp.Header.Get("Content-Type"), contentCoding(resp.Header), resp.Header.Get("Location")
	return readBody(ctx, resp, &out.Remarks)
}

// causeOf gives the reason why ctx ended, where it did.
func causeOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// ErrPrivateAddress says that a name leads to addresses that are not contacted.
var ErrPrivateAddress = errors.New("non-public address")

// handshakeTimeout bounds one TLS handshake with a policy host.
const handshakeTimeout = 10 * time.Second

// dialTLS connects and makes the handshake, once more with a small ClientHello
// where the host does not answer a large one.
func (f *Fetcher) dialTLS(ctx context.Context, network, host string, cfg *tls.Config, out *Fetched) (net.Conn, error) {
	conn, err := f.dial(ctx, host, out)
	if err != nil {
		return nil, err
	}
	address, again := net.JoinHostPort(out.Addr, "443"), false
	client, err := f.o.Hellos.Client(ctx, conn, address, cfg, clienthello.Limits{Whole: handshakeTimeout, First: f.o.Timeout / 3}, func(ctx context.Context) (net.Conn, error) {
		again = true
		return f.o.DialContext(ctx, network, address)
	})
	if err != nil {
		return nil, err
	}
	out.SmallHello = again
	return client, nil
}

// dial connects to the first address of the policy host that answers, IPv6 and
// IPv4 in turn.
func (f *Fetcher) dial(ctx context.Context, host string, out *Fetched) (net.Conn, error) {
	addrs, err := f.o.LookupAddrs(ctx, host)
	if err != nil {
		return nil, err
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("%s has no address", host)
	}
	var targets []netip.AddrPort
	var refused []error
	for _, a := range happyeyeballs.Interleave(addrs) {
		if f.o.AllowPrivate || publicaddr.Public(a) {
			targets = append(targets, netip.AddrPortFrom(a, 443))
		} else {
			refused = append(refused, fmt.Errorf("%s: %w, which is not contacted", a, ErrPrivateAddress))
		}
	}
	if len(targets) == 0 {
		return nil, errors.Join(refused...)
	}
	won, err := happyeyeballs.Dial(ctx, targets[:min(len(targets), maxAddrs)], dialTimeout, f.o.DialContext)
	if err != nil {
		return nil, err
	}
	out.Addr = targets[won.Index].Addr().String()
	return won.Conn, nil
}

package sts

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/clienthello"
	"github.com/stsrelay/stsrelay/internal/publicaddr"
)

const (
	// maxBody is the most that a policy may be, in octets; one more is an error.
	maxBody = 64 << 10
	// wellKnown is the path of a policy (RFC 8461, 3.3).
	wellKnown = "/.well-known/mta-sts.txt"
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
	Policy  *Policy
	Remarks []Remark
	// Text is the policy as it was received.
	Text string
	// TLS is the state of the connection, Addr the address that answered.
	TLS  *tls.ConnectionState
	Addr string
	// SmallHello says that TLS came about with a second, small ClientHello only.
	SmallHello bool
	// Status, ContentType and Location are those of the HTTP answer, 0 and ""
	// where there was none.
	Status      int
	ContentType string
	Location    string
}

// NewFetcher returns a Fetcher.
func NewFetcher(o FetcherOptions) *Fetcher {
	if o.DialContext == nil {
		o.DialContext = new(net.Dialer).DialContext
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
	out.Policy, out.Remarks = policy, append(out.Remarks, remarks...)
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
	var transport *http.Transport
	transport = &http.Transport{
		DialTLSContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return f.dialTLS(ctx, network, host, transport.TLSClientConfig, out)
		},
		TLSClientConfig:        &tls.Config{ServerName: host, RootCAs: f.o.Roots, MinVersion: tls.VersionTLS12, Time: f.o.Now},
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
	out.ContentType, out.Location = resp.Header.Get("Content-Type"), resp.Header.Get("Location")
	return f.body(ctx, resp, out)
}

func (f *Fetcher) body(ctx context.Context, resp *http.Response, out *Fetched) ([]byte, error) {
	if resp.StatusCode != http.StatusOK {
		if to := resp.Header.Get("Location"); to != "" {
			return nil, fmt.Errorf("it answered %s to %q, and redirects must not be followed (RFC 8461, 3.3)", resp.Status, cut(to, 120))
		}
		return nil, fmt.Errorf("it answered %q instead of 200", resp.Status)
	}
	if ct := resp.Header.Get("Content-Type"); ct == "" {
		out.Remarks = append(out.Remarks, "the policy host sends no Content-Type; it should be text/plain")
	} else if mediaType, _, err := mime.ParseMediaType(ct); err != nil && mediaType == "" || !strings.EqualFold(mediaType, "text/plain") {
		return nil, fmt.Errorf("its Content-Type is %q, not text/plain", cut(ct, 80))
	}
	if resp.ContentLength > maxBody {
		return nil, fmt.Errorf("it is %d octets long, more than %d", resp.ContentLength, maxBody)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return nil, causeOf(ctx, err)
	}
	if len(body) > maxBody {
		return nil, fmt.Errorf("it is longer than %d octets", maxBody)
	}
	return body, nil
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
	conn, err := f.dial(ctx, network, host, out)
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

// dial tries the addresses of the policy host in turn.
func (f *Fetcher) dial(ctx context.Context, network, host string, out *Fetched) (net.Conn, error) {
	addrs, err := f.o.LookupAddrs(ctx, host)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, a := range addrs {
		if !f.o.AllowPrivate && !publicaddr.Public(a) {
			errs = append(errs, fmt.Errorf("%s: %w, which is not contacted", a, ErrPrivateAddress))
			continue
		}
		dialCtx, cancel := context.WithTimeout(ctx, 10*time.Second)
		conn, err := f.o.DialContext(dialCtx, network, net.JoinHostPort(a.String(), "443"))
		cancel()
		if err == nil {
			out.Addr = a.String()
			return conn, nil
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return nil, fmt.Errorf("%s has no address", host)
	}
	return nil, errors.Join(errs...)
}

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
	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/internal/webfetch"
)

const (
	// wellKnown is the path of a policy (RFC 8461, 3.3).
	wellKnown = "/.well-known/mta-sts.txt"
	// headerTimeout bounds the wait for the answer of a policy host.
	headerTimeout = 20 * time.Second
)

// FailureType is a result type of RFC 8460, 4.3.2.2.
type FailureType string

// The ways in which a fetch fails.
const (
	// PolicyFetchError: the policy host did not answer with a policy.
	PolicyFetchError FailureType = "sts-policy-fetch-error"
	// PolicyInvalid: what it answered is no valid policy.
	PolicyInvalid FailureType = "sts-policy-invalid"
	// WebPKIInvalid: its certificate is not trusted or not for its name.
	WebPKIInvalid FailureType = "sts-webpki-invalid"
)

// ErrPrivateAddress means that a name leads to addresses that are not contacted.
var ErrPrivateAddress = webfetch.ErrPrivateAddress

// ErrNoHost is the error of FetcherOptions.LookupAddrs for a name that does not exist or
// has no address. After any other error, it is not known whether it has one.
var ErrNoHost = phrase.Errorf("the policy host does not exist")

// FetchError is why a policy could not be fetched.
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
type Fetcher struct {
	web     *webfetch.Client
	timeout time.Duration
}

// Fetched is a policy and what its fetch has shown.
type Fetched struct {
	// Policy is as it is applied: see Policy.Applied.
	Policy   *Policy
	Warnings Warnings
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
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	return &Fetcher{timeout: o.Timeout, web: webfetch.New(webfetch.Options{
		LookupAddrs: o.LookupAddrs, DialContext: o.DialContext, AllowPrivate: func() bool { return o.AllowPrivate },
		Roots: o.Roots, HTTP2: true, Handshake: clienthello.Limits{First: o.Timeout / 3}, HeaderTimeout: headerTimeout,
		MaxBody: maxBody, Hellos: o.Hellos, Now: o.Now,
	})}
}

// Fetch gets the policy of a domain now. The error is a *FetchError; it wraps
// ErrNoHost where there is no policy host, and ErrPrivateAddress where it must
// not be contacted.
func (f *Fetcher) Fetch(ctx context.Context, domain string) (*Fetched, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, f.timeout, phrase.Errorf("no policy within %s", f.timeout))
	defer cancel()
	out := &Fetched{}
	body, err := f.get(ctx, domain, out)
	if err != nil {
		return nil, &FetchError{Type: fetchType(err), Domain: domain, Seen: out, Err: err}
	}
	out.Text = string(body)
	policy, warnings, err := parsePolicy(out.Text)
	if err != nil {
		return nil, &FetchError{Type: PolicyInvalid, Domain: domain, Text: out.Text, Seen: out, Err: err}
	}
	out.Policy, out.Warnings = policy.Applied(), append(out.Warnings, warnings...)
	if n := policy.leftOut(out.Policy); n > 0 {
		out.Warnings.Add(WarnManyMX, phrase.New("the policy has %d patterns, more than are applied: the last %d of them do not count", len(out.Policy.MX)+n, n))
	}
	return out, nil
}

// fetchType is the result type of an error: that of a certificate, or the general one.
func fetchType(err error) FailureType {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return WebPKIInvalid
	}
	return PolicyFetchError
}

// get asks the policy host and reads the policy out of its answer. It fills in out, also
// where it fails.
func (f *Fetcher) get(ctx context.Context, domain string, out *Fetched) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+policyHost(domain)+wellKnown, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "stsrelay (MTA-STS, RFC 8461)")
	exchange, err := f.web.Do(req)
	out.Addr, out.SmallHello = exchange.Addr, exchange.SmallHello
	if err != nil {
		return nil, err
	}
	answer := exchange.Answer
	defer answer.Body.Close()
	out.TLS, out.Status = answer.TLS, answer.StatusCode
	out.ContentType, out.ContentCoding, out.Location = answer.Header.Get("Content-Type"), contentCoding(answer.Header), answer.Header.Get("Location")
	return readBody(answer, &out.Warnings)
}

package tlsrpt

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/clienthello"
	"github.com/stsrelay/stsrelay/internal/webfetch"
)

// HTTPSubmitterOptions configures NewHTTPSubmitter. LookupAddrs is required.
type HTTPSubmitterOptions struct {
	// Roots are the trusted authorities; nil: the system's.
	Roots *x509.CertPool
	// LookupAddrs finds the addresses of a host.
	LookupAddrs func(ctx context.Context, host string) ([]netip.Addr, error)
	// DialContext opens connections to an IP and a port; default net.Dialer.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// AllowPrivate permits private, loopback and link-local addresses, which are
	// refused otherwise: the domain's owner chooses them.
	AllowPrivate func() bool
	// Insecure permits certificates that do not hold (RFC 8460, 5.4), with a
	// warning in the log.
	Insecure func() bool
	// Hellos remembers receivers that answer a small ClientHello only; nil: none is
	// remembered.
	Hellos *clienthello.Hosts
	// Now is the date for certificates; default time.Now.
	Now func() time.Time
	// Timeout bounds a whole submission. Default 2m.
	Timeout time.Duration
	Logger  *slog.Logger
}

// HTTPSubmitter submits reports over HTTPS (RFC 8460, 5.4).
type HTTPSubmitter struct {
	o        HTTPSubmitterOptions
	web      *webfetch.Client
	insecure *webfetch.Client // takes any certificate
}

// stepTimeout bounds the connection to one address of a receiver, and the handshake with it.
const stepTimeout = 20 * time.Second

// NewHTTPSubmitter returns an HTTPSubmitter.
func NewHTTPSubmitter(o HTTPSubmitterOptions) *HTTPSubmitter {
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Minute
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	web := webfetch.Options{
		LookupAddrs: o.LookupAddrs, DialContext: o.DialContext, AllowPrivate: o.AllowPrivate, Roots: o.Roots, Now: o.Now,
		ConnectTimeout: stepTimeout, Handshake: clienthello.Limits{Whole: stepTimeout}, Hellos: o.Hellos,
	}
	p := &HTTPSubmitter{o: o, web: webfetch.New(web)}
	web.Insecure = true
	p.insecure = webfetch.New(web)
	return p
}

// maxRedirects bounds the redirects to other paths of the same host.
const maxRedirects = 3

// Post submits a compressed report. Any 2xx accepts it; a redirect is followed
// on the same host only. The error wraps ErrRefused where the receiver refuses the
// report. After a server error (5xx), a missing path (404) and a redirect to another
// host, the report is tried again: the owner may correct them.
func (p *HTTPSubmitter) Post(ctx context.Context, target string, report []byte) error {
	ctx, cancel := context.WithTimeoutCause(ctx, p.o.Timeout, fmt.Errorf("no answer within %s", p.o.Timeout))
	defer cancel()
	u, err := url.Parse(target)
	if err != nil {
		return fmt.Errorf("%w: it is no URL", ErrRefused)
	}
	for range maxRedirects + 1 {
		to, err := p.post(ctx, u, report)
		if err != nil || to == nil {
			return err
		}
		if to.Scheme != "https" || !strings.EqualFold(to.Host, u.Host) {
			return fmt.Errorf("it redirects to %s, and redirects to other hosts are not followed", cut(to.String(), 120))
		}
		u = to
	}
	return errors.New("it redirects too often")
}

// post makes one request; to is the target of a redirect, nil where there is none.
func (p *HTTPSubmitter) post(ctx context.Context, u *url.URL, report []byte) (to *url.URL, err error) {
	resp, err := request(ctx, p.web, u, report)
	if bad, ok := errors.AsType[*tls.CertificateVerificationError](err); ok && p.o.Insecure != nil && p.o.Insecure() {
		p.o.Logger.Warn("the certificate of a receiver of TLS reports does not hold; sent nevertheless (tlsrpt.insecure_https)", "url", u.String(), "error", bad)
		resp, err = request(ctx, p.insecure, u, report)
	}
	if errors.Is(err, webfetch.ErrPrivateAddress) {
		return nil, fmt.Errorf("it is not a public address, and is not contacted (delivery.private_addresses): %w", err)
	}
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch code := resp.StatusCode; {
	case code/100 == 2:
		return nil, nil
	case code/100 == 3:
		if to, err := resp.Location(); err == nil {
			return to, nil
		}
	case code == http.StatusNotFound, code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests:
	case code/100 == 4, code == http.StatusNotImplemented:
		return nil, fmt.Errorf("%w: it answered %q%s", ErrRefused, resp.Status, said(resp.Body))
	}
	return nil, fmt.Errorf("it answered %q%s", resp.Status, said(resp.Body))
}

// said is the beginning of the text of an answer, for error texts.
func said(r io.Reader) string {
	data, _ := io.ReadAll(io.LimitReader(r, 200))
	text := strings.Join(strings.Fields(strings.ToValidUTF8(string(data), "")), " ")
	if text == "" || strings.HasPrefix(text, "<") { // a page for browsers
		return ""
	}
	return fmt.Sprintf(": %q", text)
}

func request(ctx context.Context, web *webfetch.Client, u *url.URL, report []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(report))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/tlsrpt+gzip")
	req.Header.Set("User-Agent", "stsrelay (TLS-RPT, RFC 8460)")
	exchange, err := web.Do(req)
	return exchange.Answer, err
}

func cut(s string, n int) string {
	if len(s) > n {
		return s[:n] + "…"
	}
	return s
}

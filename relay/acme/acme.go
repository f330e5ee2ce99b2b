// Package acme gets certificates from a certificate authority (RFC 8555) and renews them:
// for the names that it is told, and for no others, whatever clients ask for. One
// certificate has one name, so that a name that cannot be had blocks no other.
//
// certmagic speaks the protocol, solves the challenges, and renews when the authority says
// so (RFC 9773). This package decides what is ordered and when, keeps certmagic's values in
// the store, and writes its log.
package acme

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/internal/store"
)

// Protocol is that of the challenge tls-alpn-01, for ALPN (RFC 8737).
const Protocol = acmez.ACMETLS1Protocol

// Options configures New. Store and Directory are required.
type Options struct {
	Store store.Store
	// Directory is the address of the authority's directory.
	Directory string
	// Agreed reports whether the operator agrees to the authority's terms; without that
	// nothing is ordered.
	Agreed bool
	// Email is told to the authority; "": none is.
	Email string
	// Roots are trusted for the directory's own certificate; nil: the system's.
	Roots *x509.CertPool
	// Profile is one that the directory names; "": the authority's default.
	Profile string
	// ExternalAccount binds the account to one that there is; nil: it is bound to none.
	ExternalAccount *ExternalAccount
	// HTTP and HTTPS are the addresses at which the challenges http-01 and tls-alpn-01 are
	// answered; nil: that one is not used.
	HTTP, HTTPS net.Addr
	// DNS sets the records of the challenge dns-01; nil: it is not used. With it, no other
	// is.
	DNS *DNS
	// Ready returns why a certificate for a name cannot be had now, nil where it can. It is
	// asked before every order: a failed one counts at the authority.
	Ready func(ctx context.Context, name string) error
	// CAA looks up the CAA records of a name, as LookupCAA does; nil: they are not looked at.
	CAA func(ctx context.Context, name string) ([]CAA, error)
	// Changed is told of a name that has got a certificate; nil: nobody is.
	Changed func(name string)
	// RenewCheck is how often certificates are looked at for their renewal. Default 10m.
	RenewCheck time.Duration
	Logger     *slog.Logger
}

// ExternalAccount is an account that there is at the authority (RFC 8555, 7.3.4).
type ExternalAccount struct {
	KeyID string
	// Key is in base64url.
	Key string
}

// Certificates gets and renews certificates. Its methods may be called from many
// goroutines.
type Certificates struct {
	o      Options
	cache  *certmagic.Cache
	config *certmagic.Config
	issuer *certmagic.ACMEIssuer

	authority *Authority

	mu    sync.Mutex
	names map[string]*name
	queue []string      // names whose first order waits, in turn
	took  time.Duration // of an order lately, 0: none was made
	wake  chan struct{}
}

// name is a name that a certificate is wanted for.
type name struct {
	state State
	// tries counts the failed orders since the last that came to its end.
	tries int
	// forced is when Renew was last called.
	forced time.Time
}

// State is what there is to know of the certificate of a name.
type State struct {
	// NotBefore and NotAfter bound its life; zero: there is none.
	NotBefore, NotAfter time.Time
	// Problem is why there is none, or why it is not renewed; "": all is well. Refused
	// reports whether the authority said so, and not a look before the order.
	Problem string
	Refused bool
	// Next is when the next try is made; zero: none is planned.
	Next time.Time
}

// New returns Certificates of no name. Run must follow, and Close.
func New(o Options) (*Certificates, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Ready == nil {
		o.Ready = func(context.Context, string) error { return nil }
	}
	if o.Changed == nil {
		o.Changed = func(string) {}
	}
	c := &Certificates{o: o, names: make(map[string]*name), wake: make(chan struct{}, 1), authority: NewAuthority(o.Directory, o.Roots)}
	log := zap.New(bridge{o.Logger})
	c.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert:   func(certmagic.Certificate) (*certmagic.Config, error) { return c.config, nil },
		RenewCheckInterval: cmp.Or(o.RenewCheck, certmagic.DefaultRenewCheckInterval),
		Logger:             log,
	})
	c.config = certmagic.New(c.cache, certmagic.Config{
		Storage: newStorage(o.Store), OnEvent: c.event, ShouldEmitFunc: func(event string) bool { return strings.HasPrefix(event, "cert_") },
		OCSP: certmagic.OCSPConfig{DisableStapling: true}, KeySource: certmagic.StandardKeyGenerator{KeyType: certmagic.P256}, Logger: log,
	})
	c.issuer = certmagic.NewACMEIssuer(c.config, c.template(log))
	c.config.Issuers = []certmagic.Issuer{c.issuer}
	return c, nil
}

// template is the part of certmagic that speaks with the authority.
func (c *Certificates) template(log *zap.Logger) certmagic.ACMEIssuer {
	o := c.o
	t := certmagic.ACMEIssuer{
		CA: o.Directory, Agreed: o.Agreed, TrustedRoots: o.Roots, Profile: o.Profile, Logger: log,
		// Not "", for which certmagic would ask at the terminal; it cuts white space off.
		Email:                cmp.Or(o.Email, " "),
		DisableHTTPChallenge: o.HTTP == nil, DisableTLSALPNChallenge: o.HTTPS == nil,
		NewAccountFunc: func(_ context.Context, _ *certmagic.ACMEIssuer, a acme.Account) (acme.Account, error) {
			o.Logger.Warn("a new account is made at the certificate authority; CAA records that name an account (accounturi) must name this one", "directory", o.Directory)
			return a, nil
		},
	}
	if o.ExternalAccount != nil {
		t.ExternalAccount = &acme.EAB{KeyID: o.ExternalAccount.KeyID, MACKey: o.ExternalAccount.Key}
	}
	if o.DNS != nil {
		t.DNS01Solver = o.DNS
		return t
	}
	// certmagic tries to bind these addresses itself, and leaves the challenge to whoever
	// has them; that are our own listeners. It knows one host for both.
	host, port := split(o.HTTP)
	t.ListenHost, t.AltHTTPPort = host, port
	other, port := split(o.HTTPS)
	if o.HTTPS != nil && o.HTTP != nil && other != host {
		t.DisableTLSALPNChallenge = true
	} else if o.HTTPS != nil {
		t.ListenHost, t.AltTLSALPNPort = other, port
	}
	return t
}

func split(a net.Addr) (host string, port int) {
	if a == nil {
		return "", 0
	}
	host, service, _ := net.SplitHostPort(a.String()) // of a listener
	port, _ = strconv.Atoi(service)
	return host, port
}

// Certificate is GetCertificate of tls.Config. It also answers the challenge tls-alpn-01.
func (c *Certificates) Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.config.GetCertificate(hello)
}

// Of returns the certificate of a name, nil where there is none.
func (c *Certificates) Of(name string) *tls.Certificate {
	var best *tls.Certificate
	for _, cert := range c.cache.AllMatchingCertificates(name) {
		if cert.Leaf != nil && cert.Leaf.VerifyHostname(name) == nil && (best == nil || cert.Leaf.NotAfter.After(best.Leaf.NotAfter)) {
			best = &cert.Certificate
		}
	}
	return best
}

// Challenge answers a request of the challenge http-01 and reports whether it was one.
func (c *Certificates) Challenge(w http.ResponseWriter, r *http.Request) bool {
	return c.issuer.HandleHTTPChallenge(w, r)
}

// State returns what there is to know of the certificate of a name.
func (c *Certificates) State(of string) State {
	cert := c.Of(of)
	c.mu.Lock()
	defer c.mu.Unlock()
	var s State
	if n := c.names[of]; n != nil {
		s = n.state
	}
	for i, waits := range c.queue {
		if waits == of && s.Next.IsZero() {
			s.Next = time.Now().Add(time.Duration(i) * cmp.Or(c.took, time.Second) / workers)
		}
	}
	if cert != nil {
		s.NotBefore, s.NotAfter = cert.Leaf.NotBefore, cert.Leaf.NotAfter
	}
	return s
}

// ErrRenewedLately is the answer to a Renew within an hour of the last one.
var ErrRenewedLately = phrase.Errorf("it was renewed by hand less than an hour ago")

// Renew orders a certificate for a name now, whatever is left of the one that there is. It
// may be called once an hour, but again where the authority was not reached.
func (c *Certificates) Renew(ctx context.Context, of string) error {
	c.mu.Lock()
	n := c.names[of]
	if n == nil {
		c.mu.Unlock()
		return phrase.Errorf("no certificate is wanted for %s", of)
	}
	if last := n.forced; !last.IsZero() && time.Since(last) < time.Hour {
		c.mu.Unlock()
		return phrase.Errorf("%s: %w; again after %s UTC", of, ErrRenewedLately, last.Add(time.Hour).UTC().Format("15:04"))
	}
	n.forced = time.Now()
	c.mu.Unlock()
	if !c.o.Agreed {
		return errNotAgreed
	}
	if err := c.renew(ctx, of, true); err != nil {
		text, refused := explain(err)
		if !refused { // it costs the authority nothing: it may be tried again at once
			c.mu.Lock()
			n.forced = time.Time{}
			c.mu.Unlock()
		}
		return phrase.Errorf("the certificate of %s is not renewed: %s", of, text)
	}
	c.o.Changed(of)
	return nil
}

// renew renews the certificate of a name, and serves the new one from then on. Without
// force it does so only where it is due.
func (c *Certificates) renew(ctx context.Context, of string, force bool) error {
	old := c.cache.AllMatchingCertificates(of)
	if err := c.config.RenewCertSync(ctx, of, force); err != nil {
		return err
	}
	now, err := c.config.CacheManagedCertificate(ctx, of)
	if err != nil {
		return err
	}
	var gone []string
	for _, cert := range old {
		if cert.Hash() != now.Hash() {
			gone = append(gone, cert.Hash())
		}
	}
	c.cache.Remove(gone)
	return nil
}

// Close ends certmagic. Run must have returned.
func (c *Certificates) Close() { c.cache.Stop() }

package check

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/relay/smtpclient"
)

// visitAll opens a session with each of the host's addresses, side by side.
func (c *checker) visitAll(ctx context.Context, h *host) {
	var wg sync.WaitGroup
	for _, a := range h.addrs[:min(len(h.addrs), maxDials)] {
		v := &visit{Session: Session{Address: a.String(), Verdicts: []Verdict{}}, evidence: security.Evidence{Host: h.Name}}
		h.visits = append(h.visits, v)
		wg.Go(func() {
			select {
			case c.slots <- struct{}{}:
				c.visit(ctx, h, v, a)
				<-c.slots
			case <-ctx.Done():
				v.connectProblem(context.Cause(ctx))
			}
		})
	}
	wg.Wait()
}

// visit opens a session as a delivery does, up to the EHLO inside TLS, and ends
// it.
func (c *checker) visit(ctx context.Context, h *host, v *visit, addr netip.Addr) {
	dialCtx, cancel := context.WithTimeout(ctx, c.ConnectTimeout)
	conn, err := c.dialHost(dialCtx, netip.AddrPortFrom(addr, h.Port))
	cancel()
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		v.connectProblem(err)
		return
	}
	client, err := smtpclient.New(ctx, conn, smtpclient.Options{Name: c.Hostname})
	if err != nil {
		v.greetingProblem(err)
		return
	}
	v.open = true
	v.Greeting = client.Greeting().String()
	c.startTLS(ctx, h, v, client)
	// The verdict is made; how the host takes leave does not matter.
	quitCtx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_ = client.Quit(quitCtx)
}

// dialHost connects to a mail host from source_ip, where the operator has set it.
func (c *checker) dialHost(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	if c.Dial != nil {
		return c.Dial(ctx, "tcp", to.String())
	}
	var dialer net.Dialer
	for _, from := range c.SourceIPs {
		if from.Is4() == to.Addr().Is4() {
			dialer.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
		}
	}
	return dialer.DialContext(ctx, "tcp", to.String())
}

func (c *checker) startTLS(ctx context.Context, h *host, v *visit, client *smtpclient.Client) {
	v.STARTTLS = "not offered"
	if _, ok := client.Extension("STARTTLS"); !ok {
		return
	}
	err := client.StartTLS(ctx, c.tlsConfig(h))
	if refused, ok := errors.AsType[*smtpclient.ReplyError](err); ok {
		if refused.Step != "STARTTLS" || refused.Reply.Code == 421 {
			v.open, v.STARTTLS = false, "" // it is not about TLS: a delivery tries the next host
			v.greetingProblem(err)
			return
		}
		v.STARTTLS = "refused"
		v.evidence.StartTLS, v.evidence.Failure = security.Refused, refused.Reply.String()
		return
	}
	if err != nil {
		v.STARTTLS = "broken"
		v.evidence.StartTLS, v.evidence.Failure = security.Broken, err.Error()
		return
	}
	v.STARTTLS = "established"
	cs, _ := client.TLS()
	v.evidence.Observe(cs, c.Roots, c.Now())
	_, v.evidence.OffersRequireTLS = client.Extension("REQUIRETLS")
	v.TLS, v.Cipher = tls.VersionName(cs.Version), tls.CipherSuiteName(cs.CipherSuite)
	v.RequireTLS = v.evidence.OffersRequireTLS
	v.Certificate = c.certificate(&v.evidence)
}

// tlsConfig is that of a delivery: the certificate is judged by
// security.Evidence after the handshake, where a failure is evidence too.
func (c *checker) tlsConfig(h *host) *tls.Config {
	cfg := &tls.Config{
		ServerName:         h.Name,
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // verified by security.Evidence.Observe
	}
	if h.set != nil {
		cfg.ServerName = h.set.Base // RFC 7672, 8.1
	}
	if c.LegacyTLS {
		cfg.MinVersion = tls.VersionTLS10
	}
	return cfg
}

func (v *visit) connectProblem(err error) {
	p := Problem{Fault, "no connection: " + err.Error(), "RFC 5321, 5.1", "the host's owner: let the mail server listen on this port; on this side, see that the firewall and the provider of this machine let it reach port 25 (many block it)"}
	if errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EHOSTUNREACH) {
		p = Problem{Note, "no connection: " + err.Error(), "RFC 5321, 5.1", "nothing, if the host has other addresses: this machine has no way to this one (IPv6?)"}
	}
	v.Problems = append(v.Problems, p)
}

func (v *visit) greetingProblem(err error) {
	p := Problem{Fault, err.Error(), "RFC 5321, 3.1", "the host's owner: let the mail server greet with 220 and know EHLO"}
	if refused, ok := errors.AsType[*smtpclient.ReplyError](err); ok {
		v.Greeting = refused.Reply.String()
		p.Mend = "look up in the reply why the host does not want to talk with this machine: often its address is on a block list, or its name does not lead back to it"
	}
	v.Problems = append(v.Problems, p)
}

// certificate describes the leaf that a session showed, nil where there is none.
func (c *checker) certificate(e *security.Evidence) *Certificate {
	if len(e.Chain) == 0 {
		return nil
	}
	leaf := e.Chain[0]
	out := &Certificate{
		Names: leaf.DNSNames, CommonName: leaf.Subject.CommonName, Issuer: leaf.Issuer.String(),
		NotBefore: leaf.NotBefore.UTC(), NotAfter: leaf.NotAfter.UTC(), DaysLeft: days(leaf.NotAfter.Sub(c.Now())),
		Trusted: e.Certificate == security.Trusted, Why: e.CertificateWhy, Named: e.NameMatches,
	}
	for _, cert := range e.Chain {
		out.Chain = append(out.Chain, cert.Issuer.String())
	}
	return out
}

// days is whole days, rounded down.
func days(d time.Duration) int {
	n := int(d / (24 * time.Hour))
	if d < 0 && d%(24*time.Hour) != 0 {
		n--
	}
	return n
}

// endsSoon warns of a certificate that is still good.
func (c *checker) endsSoon(host string, cert *Certificate) []Problem {
	if !cert.Trusted || !security.EndsSoon(cert.NotBefore, cert.NotAfter, c.Now()) {
		return nil
	}
	return []Problem{{Warning, "the certificate of " + host + " ends on " + cert.NotAfter.Format(time.DateTime) + " UTC", "RFC 5280, 4.1.2.5",
		"the host's owner: renew it, and look why that has not happened by itself"}}
}

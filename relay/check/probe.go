package check

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/stsrelay/stsrelay/internal/clienthello"
	"github.com/stsrelay/stsrelay/relay/outbound"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/relay/smtpclient"
)

// visitAll opens a session with each of the host's addresses, side by side: as many
// as a delivery tries in one attempt, and more where none of them answers.
func (c *checker) visitAll(ctx context.Context, h *host) {
	for addrs := range slices.Chunk(h.addrs, outbound.MaxAddresses) {
		var wg sync.WaitGroup
		for _, a := range addrs {
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
		if slices.ContainsFunc(h.visits, func(v *visit) bool { return v.open }) || ctx.Err() != nil {
			return
		}
	}
}

// visit opens a session as a delivery does, up to the EHLO inside TLS, and ends
// it.
func (c *checker) visit(ctx context.Context, h *host, v *visit, addr netip.Addr) {
	at := netip.AddrPortFrom(addr, h.Port)
	client, err := c.hello(ctx, at)
	if failed, ok := errors.AsType[*connectError](err); ok {
		v.connectProblem(failed.err)
		return
	}
	if err != nil {
		v.greetingProblem(err)
		return
	}
	v.open = true
	v.Greeting = client.Greeting().String()
	if c.startTLS(ctx, h, v, client, false) {
		client = c.smaller(ctx, h, v, at, client)
	}
	// The verdict is made; how the host takes leave does not matter.
	quitCtx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_ = client.Quit(quitCtx)
}

// connectError is a connection that could not be opened.
type connectError struct{ err error }

func (e *connectError) Error() string { return e.err.Error() }

// hello connects and says EHLO.
func (c *checker) hello(ctx context.Context, at netip.AddrPort) (*smtpclient.Client, error) {
	dialCtx, cancel := context.WithTimeout(ctx, c.ConnectTimeout)
	conn, err := c.dialHost(dialCtx, at)
	cancel()
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, &connectError{err}
	}
	// A host that swallows a large ClientHello leaves time for a small one.
	return smtpclient.New(ctx, conn, smtpclient.Options{Name: c.Hostname, Timeouts: smtpclient.Timeouts{ServerHello: min(clienthello.Silence, c.Timeout/3)}})
}

// smaller tries once more with a small ClientHello, as a delivery does. It returns
// the session that is left to end.
func (c *checker) smaller(ctx context.Context, h *host, v *visit, at netip.AddrPort, first *smtpclient.Client) *smtpclient.Client {
	large := v.evidence
	client, err := c.hello(ctx, at)
	if err != nil {
		return first // which tells enough
	}
	c.startTLS(ctx, h, v, client, true)
	switch {
	case !v.open, v.evidence.StartTLS == security.Broken:
	case v.evidence.StartTLS != security.Established:
		v.evidence, v.STARTTLS = large, "broken"
	case clienthello.WithRC4(v.evidence.Suite): // the suite was at fault, not the size
	default:
		v.SmallHello = true
		v.Problems = append(v.Problems, smallHello("the host"))
	}
	return client
}

// smallHello tells of a host that did not take the usual ClientHello.
func smallHello(who string) Problem {
	return Problem{Warning, who + " takes only a small ClientHello; most senders send one of more than a TCP segment now (1,500 octets), and may get no TLS", "RFC 8446, 4.1.2",
		"the host's owner: update what ends TLS there, or the firewall before it. This relay tries once more with classical key exchange"}
}

// dialHost connects to a mail host from source_ip, where the operator has set it.
func (c *checker) dialHost(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	dial := c.Dial
	if dial == nil {
		dial = outbound.DialFrom(func() []netip.Addr { return c.SourceIPs })
	}
	return dial(ctx, "tcp", to.String())
}

// startTLS notes what comes of STARTTLS. It reports whether a small ClientHello may
// do better.
func (c *checker) startTLS(ctx context.Context, h *host, v *visit, client *smtpclient.Client, small bool) (unanswered bool) {
	v.STARTTLS = "not offered"
	if _, ok := client.Extension("STARTTLS"); !ok {
		return false
	}
	err := client.StartTLS(ctx, outbound.TLSConfig(&security.Requirement{Host: h.Name, TLSA: h.set}, c.LegacyTLS, small))
	if refused, ok := errors.AsType[*smtpclient.ReplyError](err); ok {
		if refused.Step != "STARTTLS" || refused.Reply.Code == 421 {
			v.open, v.STARTTLS = false, "" // it is not about TLS: a delivery tries the next host
			v.greetingProblem(err)
			return false
		}
		v.STARTTLS = "refused"
		v.evidence.StartTLS, v.evidence.Failure = security.Refused, refused.Reply.String()
		return false
	}
	if err != nil {
		v.STARTTLS = "broken"
		v.evidence.StartTLS, v.evidence.Failure = security.Broken, err.Error()
		return clienthello.Unanswered(err)
	}
	v.STARTTLS = "established"
	cs, _ := client.TLS()
	v.evidence.Observe(cs, c.Roots, c.Now())
	_, v.evidence.OffersRequireTLS = client.Extension("REQUIRETLS")
	v.TLS, v.Cipher, v.Group = tls.VersionName(cs.Version), tls.CipherSuiteName(cs.CipherSuite), v.evidence.GroupName()
	v.RequireTLS = v.evidence.OffersRequireTLS
	v.Certificate = c.certificate(&v.evidence)
	return false
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
		Trusted: e.Certificate == security.Trusted, Why: e.CertificateText, Named: e.NameMatches,
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

package check

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/stsrelay/stsrelay/internal/clienthello"
	"github.com/stsrelay/stsrelay/internal/neterr"
	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/outbound"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/relay/smtpclient"
)

// openAll opens a session with each of the host's addresses at the same time: with as many
// as a delivery tries in one attempt, and with more where none of them answers.
func (c *checker) openAll(ctx context.Context, h *host) {
	for addrs := range slices.Chunk(h.addrs, outbound.MaxAddresses) {
		var wg sync.WaitGroup
		for _, a := range addrs {
			v := &session{Session: Session{Address: a.String(), Verdicts: []Verdict{}}, evidence: security.Evidence{Host: h.Name}}
			h.sessions = append(h.sessions, v)
			wg.Go(func() {
				select {
				case c.slots <- struct{}{}:
					c.open(ctx, h, v, a)
					<-c.slots
				case <-ctx.Done():
					v.connectProblem(context.Cause(ctx))
				}
			})
		}
		wg.Wait()
		if slices.ContainsFunc(h.sessions, func(v *session) bool { return v.open }) || ctx.Err() != nil {
			return
		}
	}
}

// open opens a session as a delivery does, up to the EHLO within TLS, and ends it.
func (c *checker) open(ctx context.Context, h *host, v *session, addr netip.Addr) {
	at := netip.AddrPortFrom(addr, h.Port)
	conn, _, _, err := c.opener.Dialer.Dial(ctx, []netip.AddrPort{at}, c.ConnectTimeout)
	if err != nil {
		v.connectProblem(causeOf(ctx, err))
		return
	}
	s, f := c.opener.Open(ctx, conn, outbound.Target{
		Requirement: &security.Requirement{Host: h.Name, TLSA: h.set}, Addr: at, LegacyTLS: c.LegacyTLS, ConnectTimeout: c.ConnectTimeout,
	})
	switch {
	case f == nil:
		c.describeSession(v, s)
		// Whatever the host answers to QUIT, the verdict is made.
		quitCtx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_ = s.Client.Quit(quitCtx)
	case f.Stage == outbound.StageReconnect:
		v.connectProblem(causeOf(ctx, f.Err))
	case f.Stage == outbound.StageHandshake: // a delivery would wait for longer
		v.open, v.STARTTLS = true, startTLSWords[security.Broken]
		v.evidence.StartTLS, v.evidence.Failure = security.Broken, phrase.Of(f.Err)
	default:
		v.greetingProblem(f.Err)
	}
}

// causeOf is why ctx ended, or err where it has not.
func causeOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// describeSession notes what a session showed.
func (c *checker) describeSession(v *session, s *outbound.Session) {
	v.open, v.evidence = true, s.Evidence
	v.Greeting = s.Client.Greeting().String()
	e := &v.evidence
	if v.STARTTLS = startTLSWords[e.StartTLS]; e.StartTLS != security.Established {
		return
	}
	v.TLS, v.Cipher, v.Group = e.TLSName(), e.SuiteName(), e.GroupName()
	v.RequireTLS = e.OffersRequireTLS
	v.Certificate = c.certificate(e)
	if s.Unanswered != "" && !clienthello.WithRC4(e.Suite) { // else the suite was at fault, not the size
		v.SmallHello = true
		v.Problems = append(v.Problems, smallHello(phrase.New("the host")))
	}
}

// startTLSWords are the words of Session.STARTTLS.
var startTLSWords = map[security.StartTLS]phrase.Phrase{
	security.NotOffered: phrase.New("not offered"), security.Refused: phrase.New("refused"), security.Broken: phrase.New("broken"), security.Established: phrase.New("established"),
}

// smallHello is the problem of a host that does not answer the usual ClientHello.
func smallHello(who phrase.Phrase) Problem {
	return Problem{Warning, phrase.New("%s takes only a small ClientHello; most senders send one of more than a TCP segment now (1,500 octets), and may get no TLS", who), "RFC 8446, 4.1.2",
		phrase.New("the host's owner: update what ends TLS there, or the firewall before it. This relay tries once more with classical key exchange")}
}

func (v *session) connectProblem(err error) {
	p := Problem{Fault, phrase.New("no connection: %v", neterr.Plain(err)), "RFC 5321, 5.1",
		phrase.New("the host's owner: let the mail server listen on this port; on this side, see that the firewall and the provider of this machine let it reach port 25 (many block it)")}
	if errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, syscall.EHOSTUNREACH) {
		p = Problem{Note, phrase.New("no connection: %v", neterr.Plain(err)), "RFC 5321, 5.1", phrase.New("nothing, if the host has other addresses: this machine has no way to this one (IPv6?)")}
	}
	v.Problems = append(v.Problems, p)
}

func (v *session) greetingProblem(err error) {
	p := Problem{Fault, phrase.Of(err), "RFC 5321, 3.1", phrase.New("the host's owner: let the mail server greet with 220 and know EHLO")}
	if refused, ok := errors.AsType[*smtpclient.ReplyError](err); ok {
		v.Greeting = refused.Reply.String()
		p.Remedy = phrase.New("look up in the reply why the host does not want to talk with this machine: often its address is on a block list, or its name does not lead back to it")
	}
	v.Problems = append(v.Problems, p)
}

// certificate describes the leaf certificate that a session showed; nil: none.
func (c *checker) certificate(e *security.Evidence) *Certificate {
	if len(e.Chain) == 0 {
		return nil
	}
	leaf := e.Chain[0]
	out := &Certificate{
		Names: leaf.DNSNames, CommonName: leaf.Subject.CommonName, Issuer: leaf.Issuer.String(),
		NotBefore: leaf.NotBefore.UTC(), NotAfter: leaf.NotAfter.UTC(), DaysLeft: days(leaf.NotAfter.Sub(c.Now())),
		Trusted: e.Certificate == security.Trusted, Why: e.CertificateText, Named: e.NameMatches, Key: keyOf(leaf),
	}
	for _, cert := range e.Chain {
		out.Chain = append(out.Chain, cert.Issuer.String())
		out.Shown = append(out.Shown, ChainEntry{cert.Subject.String(), cert.Issuer.String(), cert.NotAfter.UTC()})
	}
	return out
}

// keyOf is the kind and size of a certificate's key.
func keyOf(cert *x509.Certificate) string {
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", key.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA " + key.Curve.Params().Name
	}
	return cert.PublicKeyAlgorithm.String()
}

// days is a time in whole days, rounded down.
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
	return []Problem{{Warning, phrase.New("the certificate of %s ends on %s UTC", host, cert.NotAfter.Format(time.DateTime)), "RFC 5280, 4.1.2.5",
		phrase.New("the host's owner: renew it, and look why that has not happened by itself")}}
}

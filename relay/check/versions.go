package check

import (
	"context"
	"crypto/tls"
	"errors"
	"net/netip"
	"time"

	"github.com/stsrelay/stsrelay/internal/clienthello"
	"github.com/stsrelay/stsrelay/relay/smtpclient"
)

// versionTime bounds the trial of one version of TLS.
const versionTime = 2 * time.Second

// tryVersions tries each version of TLS that was not negotiated already, at one address of
// the host that mail goes to, or of the first host where TLS was met. One connection is
// open at a time: some hosts count them.
func (c *checker) tryVersions(ctx context.Context) {
	h, s := c.tryVersionsAt()
	if s == nil {
		return
	}
	addr, err := netip.ParseAddr(s.Address)
	if err != nil {
		return
	}
	for v := uint16(tls.VersionTLS13); v >= tls.VersionTLS10; v-- {
		takes, known := true, true
		if s.TLS != tls.VersionName(v) {
			takes, known = c.takesVersion(ctx, netip.AddrPortFrom(addr, h.Port), h.Name, v)
		}
		switch {
		case known && takes:
			s.Offers = append(s.Offers, tls.VersionName(v))
		case known:
			s.Refuses = append(s.Refuses, tls.VersionName(v))
		}
	}
}

// tryVersionsAt finds the session whose address is tried.
func (c *checker) tryVersionsAt() (host *Host, at *Session) {
	for i := range c.report.Hosts {
		h := &c.report.Hosts[i]
		for j := range h.Sessions {
			s := &h.Sessions[j]
			if h.Name == c.report.Outcome.Host && s.Address == c.report.Outcome.Address {
				if s.offeredTLS() {
					return h, s
				}
				return nil, nil
			}
			if at == nil && s.offeredTLS() {
				host, at = h, s
			}
		}
	}
	return host, at
}

// offeredTLS reports whether the host began a handshake.
func (s *Session) offeredTLS() bool {
	word := s.STARTTLS.String()
	return word == "established" || word == "broken"
}

// takesVersion reports whether a host completes a handshake with one version. known is
// false where the trial did not come so far.
func (c *checker) takesVersion(ctx context.Context, addr netip.AddrPort, name string, version uint16) (takes, known bool) {
	ctx, cancel := context.WithTimeout(ctx, versionTime)
	defer cancel()
	conn, _, _, err := c.opener.Dialer.Dial(ctx, []netip.AddrPort{addr}, versionTime)
	if err != nil {
		return false, false
	}
	client, err := smtpclient.New(ctx, conn, smtpclient.Options{Name: c.Hostname, Timeouts: c.opener.Timeouts})
	if err != nil {
		return false, false
	}
	defer client.Close()
	if _, ok := client.Extension("STARTTLS"); !ok {
		return false, false
	}
	err = client.StartTLS(ctx, &tls.Config{
		ServerName: name, MinVersion: version, MaxVersion: version, CipherSuites: clienthello.AllSuites(),
		InsecureSkipVerify: true, //nolint:gosec // nothing is sent, and the certificate is judged elsewhere
	})
	if _, refused := errors.AsType[*smtpclient.TLSError](err); ctx.Err() != nil || err != nil && !refused {
		return false, false
	}
	if err == nil {
		_ = client.Quit(ctx) // the answer is known already
	}
	return err == nil, true
}

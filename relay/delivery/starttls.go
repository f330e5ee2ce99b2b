package delivery

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/netip"

	"github.com/stsrelay/stsrelay/internal/clienthello"
	"github.com/stsrelay/stsrelay/relay/security"
)

// TLSConfig is that of a session for req. The certificate is judged by
// security.Evidence after the handshake, where a failure is evidence too. small
// keeps the ClientHello within one segment. What would be in clear otherwise may
// be encrypted with RC4 then, the last resort (RFC 7435).
func TLSConfig(req *security.Requirement, legacy, small bool) *tls.Config {
	c := &tls.Config{
		ServerName:         req.Host,
		MinVersion:         tls.VersionTLS12,
		CipherSuites:       clienthello.Suites(),
		InsecureSkipVerify: true, //nolint:gosec // verified by security.Evidence.Observe
	}
	if req.TLSA != nil {
		c.ServerName = req.TLSA.Base // RFC 7672, 8.1
	}
	if legacy {
		c.MinVersion = tls.VersionTLS10
	}
	if !small {
		return c
	}
	if !req.Binding() {
		c.CipherSuites = clienthello.AllSuites()
	}
	return clienthello.Classical(c)
}

// smaller tries an address once more, with a small ClientHello, where the host
// did not answer that of s. The address is remembered where that helps.
func (a *attempt) smaller(ctx context.Context, s *session, addr netip.AddrPort, req *security.Requirement) (*session, *attemptError) {
	a.tls, a.protection = req.Describe(&s.evidence)
	conn, f := a.again(ctx, addr, req)
	if f != nil {
		return nil, f
	}
	second, _, f := a.greet(ctx, conn, addr, req, &tickets{shared: a.d.tickets}, true)
	switch {
	case f != nil:
		return nil, f
	case second.evidence.StartTLS == security.Broken:
	case second.evidence.StartTLS != security.Established:
		second.evidence = s.evidence // TLS was offered and broke
	default:
		a.d.hellos.Remember(addr.String())
		a.d.log.LogAttrs(ctx, slog.LevelInfo, "the host does not take the usual ClientHello; it gets a smaller one for a day, with classical key exchange",
			slog.String("queue_id", a.w.Envelope.ID.String()), slog.String("host", req.Host), slog.String("ip", addr.Addr().String()), slog.String("error", s.evidence.Failure))
	}
	return second, nil
}

package delivery

import (
	"context"
	"log/slog"
	"net/netip"

	"github.com/stsrelay/stsrelay/relay/security"
)

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

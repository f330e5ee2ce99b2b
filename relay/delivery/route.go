package delivery

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/stsrelay/stsrelay/internal/dnsclient"
)

// candidate is a host that may take mail for a domain.
type candidate struct {
	host       string
	preference uint16
	addr       netip.Addr // of an address literal; else looked up
}

// route is where mail for a domain goes.
type route struct {
	candidates []candidate // in the order in which they are tried
	secure     bool        // the MX records were validated
	literal    bool        // the domain is an address literal: no policy applies
}

// findRoute looks up the hosts of a domain (RFC 5321, 5.1; RFC 7505). The error
// is a *failure.
func (d *Delivery) findRoute(ctx context.Context, domain string) (route, error) {
	if addr, ok := literal(domain); ok {
		return route{candidates: []candidate{{host: domain, addr: addr}}, literal: true}, nil
	}
	mx, err := d.resolver.MX(ctx, domain)
	switch {
	case errors.Is(err, dnsclient.ErrNXDomain):
		return route{}, &failure{permanent: true, status: "5.1.2", why: whyDNS, text: fmt.Sprintf("the domain %s does not exist", domain)}
	case errors.Is(err, dnsclient.ErrNoData):
		// No MX record: the domain itself is the host (RFC 5321, 5.1).
		return route{candidates: []candidate{{host: domain}}}, nil
	case err != nil:
		return route{}, &failure{status: "4.4.3", why: whyDNS, text: err.Error(), domainWide: true}
	}
	if len(mx.Records) == 1 && mx.Records[0].Host == "." {
		return route{}, &failure{permanent: true, status: "5.1.10", why: whyNullMX, text: fmt.Sprintf("the domain %s takes no mail (null MX)", domain)}
	}
	r := route{secure: mx.Secure}
	for _, m := range mx.Records {
		if m.Host != "." {
			r.candidates = append(r.candidates, candidate{host: m.Host, preference: m.Preference})
		}
	}
	rand.Shuffle(len(r.candidates), func(i, j int) {
		r.candidates[i], r.candidates[j] = r.candidates[j], r.candidates[i]
	})
	slices.SortStableFunc(r.candidates, func(a, b candidate) int { return int(a.preference) - int(b.preference) })
	return r, nil
}

// addresses returns the addresses of a candidate that may be dialed. The error
// is a *failure.
func (d *Delivery) addresses(ctx context.Context, c candidate, s *Settings) ([]netip.Addr, error) {
	addrs := []netip.Addr{c.addr}
	if !c.addr.IsValid() {
		a, err := d.resolver.Addrs(ctx, c.host)
		if err != nil {
			return nil, &failure{status: "4.4.3", why: whyDNS, host: c.host, text: err.Error(), domainWide: true}
		}
		addrs = a.Addrs
	}
	allowed := make([]netip.Addr, 0, len(addrs))
	for _, a := range addrs {
		if s.AllowPrivate || d.public(a) {
			allowed = append(allowed, a)
		}
	}
	if len(allowed) == 0 {
		return nil, &failure{status: "4.4.4", why: whyDNS, host: c.host, domainWide: true,
			text: fmt.Sprintf("%s has only private addresses (%v), which are not contacted (delivery.private_addresses)", c.host, addrs)}
	}
	return allowed, nil
}

// literal reads an address literal, "[192.0.2.1]" or "[IPv6:2001:db8::1]" (RFC
// 5321, 4.1.3).
func literal(domain string) (netip.Addr, bool) {
	inner, ok := strings.CutPrefix(domain, "[")
	if !ok {
		return netip.Addr{}, false
	}
	inner = strings.TrimSuffix(inner, "]")
	if len(inner) > 5 && strings.EqualFold(inner[:5], "IPv6:") {
		inner = inner[5:]
	}
	addr, err := netip.ParseAddr(inner)
	return addr, err == nil
}

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
	"github.com/stsrelay/stsrelay/internal/publicaddr"
	"github.com/stsrelay/stsrelay/relay/reason"
)

// candidate is a host that may take mail for a domain.
type candidate struct {
	host       string
	preference uint16
	port       uint16
	addr       netip.Addr // of an address literal or a route; else looked up
}

// key is what sessions to the candidate are kept by.
func (c candidate) key(user string) string {
	if c.port == smtpPort && user == "" {
		return c.host
	}
	return fmt.Sprintf("%s:%d %s", c.host, c.port, user)
}

const smtpPort = 25

// maxHosts is how many hosts of a domain are looked at in one attempt, the best
// ones. Its owner says how many there are: an answer has room for thousands,
// each of which would be looked up, and counted in the commit of the result.
const maxHosts = 30

// route is where mail for a domain goes.
type route struct {
	candidates []candidate // in the order in which they are tried
	secure     bool        // nobody can have forged them
	alias      string      // the end of the aliases of the domain, "" where it is none
}

// findRoute finds the hosts: those that the operator set, or those of the
// domain. The error is a *failure.
func (a *attempt) findRoute(ctx context.Context) (route, error) {
	set := (*Route)(nil)
	if a.rule != nil {
		set = a.rule.Route
	}
	if set == nil {
		if addr, ok := literal(a.w.Domain); ok {
			return route{candidates: []candidate{{host: a.w.Domain, port: smtpPort, addr: addr}}}, nil
		}
		return a.d.findMX(ctx, a.w.Domain, smtpPort)
	}
	if set.MX {
		r, err := a.d.findMX(ctx, set.Host, set.Port)
		if f, ok := errors.AsType[*failure](err); ok && f.permanent {
			// The route is at fault, not the recipients' domain.
			f.permanent, f.status, f.domainWide = false, "4.4.4", true
		}
		return r, err
	}
	c := candidate{host: set.Host, port: set.Port}
	if addr, err := netip.ParseAddr(set.Host); err == nil {
		c.addr = addr
	}
	return route{candidates: []candidate{c}, secure: true}, nil
}

// findMX looks up the hosts of a domain (RFC 5321, 5.1; RFC 7505). The error is
// a *failure.
func (d *Delivery) findMX(ctx context.Context, domain string, port uint16) (route, error) {
	mx, err := d.resolver.MX(ctx, domain)
	switch {
	case errors.Is(err, dnsclient.ErrNXDomain):
		return route{}, &failure{permanent: true, status: "5.1.2", why: reason.DNS, text: fmt.Sprintf("the domain %s does not exist", domain)}
	case errors.Is(err, dnsclient.ErrNoData):
		// No MX record: the domain itself is the host (RFC 5321, 5.1).
		none, _ := errors.AsType[*dnsclient.Error](err)
		return route{candidates: []candidate{{host: domain, port: port}}, secure: none.Secure}, nil
	case err != nil:
		return route{}, &failure{status: "4.4.3", why: reason.DNS, text: err.Error(), domainWide: true}
	}
	r := route{secure: mx.Secure, alias: mx.CNAME}
	for _, m := range mx.Records {
		if m.Host != "." {
			r.candidates = append(r.candidates, candidate{host: m.Host, port: port, preference: m.Preference})
		}
	}
	if len(r.candidates) == 0 {
		return route{}, &failure{permanent: true, status: "5.1.10", why: reason.NullMX, text: fmt.Sprintf("the domain %s takes no mail (null MX)", domain)}
	}
	if r.candidates = d.betterThanUs(r.candidates, port); len(r.candidates) == 0 {
		return route{}, &failure{permanent: true, status: "5.4.6", why: reason.Loop, text: fmt.Sprintf("mail for %s leads back to this relay, its best MX host", domain)}
	}
	rand.Shuffle(len(r.candidates), func(i, j int) {
		r.candidates[i], r.candidates[j] = r.candidates[j], r.candidates[i]
	})
	slices.SortStableFunc(r.candidates, func(a, b candidate) int { return int(a.preference) - int(b.preference) })
	r.candidates = r.candidates[:min(len(r.candidates), maxHosts)]
	return r, nil
}

// betterThanUs leaves out this relay, where it is an MX host by name, and all
// that are not preferred to it (RFC 5321, 5.1).
func (d *Delivery) betterThanUs(hosts []candidate, port uint16) []candidate {
	us := slices.IndexFunc(hosts, func(c candidate) bool { return c.host == d.hostname && d.isSelf(c.host, port, nil) })
	if us < 0 {
		return hosts
	}
	ours := hosts[us].preference
	return slices.DeleteFunc(hosts, func(c candidate) bool { return c.preference >= ours })
}

// addresses returns the addresses of a candidate that may be dialed. Those of a
// route may be private: the operator named it. The error is a *failure.
func (a *attempt) addresses(ctx context.Context, c candidate) ([]netip.Addr, error) {
	addrs := []netip.Addr{c.addr}
	if !c.addr.IsValid() {
		found, err := a.d.resolver.Addrs(ctx, c.host)
		if err != nil {
			return nil, noAddresses(c, err)
		}
		addrs = found.Addrs
	}
	allowed := make([]netip.Addr, 0, len(addrs))
	for _, addr := range addrs {
		if addr = addr.Unmap(); a.admits(addr) {
			allowed = append(allowed, addr)
		}
	}
	if len(allowed) == 0 && !slices.ContainsFunc(addrs, func(x netip.Addr) bool { return a.settings.Family.admits(x.Unmap()) }) {
		return nil, &failure{status: "4.4.4", why: reason.DNS, host: c.host, domainWide: true,
			text: fmt.Sprintf("%s has no %s address (%v), and no other is contacted (delivery.ip_family)", c.host, a.settings.Family, addrs)}
	}
	if len(allowed) == 0 {
		return nil, &failure{status: "4.4.4", why: reason.DNS, host: c.host, domainWide: true,
			text: fmt.Sprintf("%s has only private addresses (%v), which are not contacted (delivery.private_addresses)", c.host, addrs)}
	}
	return allowed, nil
}

// admits says whether an address may be contacted for this message; a session to
// it may have been opened for another.
func (a *attempt) admits(addr netip.Addr) bool {
	anywhere := a.settings.AllowPrivate || a.rule != nil && a.rule.Route != nil
	return a.settings.Family.admits(addr) && (anywhere || publicaddr.Public(addr))
}

func noAddresses(c candidate, err error) *failure {
	return &failure{status: "4.4.3", why: reason.DNS, host: c.host, text: err.Error(), domainWide: true}
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

package delivery

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/stsrelay/stsrelay/internal/dnsclient"
	"github.com/stsrelay/stsrelay/internal/publicaddr"
	"github.com/stsrelay/stsrelay/relay/failure"
	"github.com/stsrelay/stsrelay/relay/outbound"
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

// route is where mail for a domain goes.
type route struct {
	candidates []candidate // in the order in which they are tried
	secure     bool        // nobody can have forged them
	alias      string      // the end of the aliases of the domain, "" where it is none
	// plan is what the domain publishes; without hosts where the operator set the
	// route, or the address is the host.
	plan outbound.Plan
}

// findRoute finds the hosts: those that the operator set, or those of the
// domain. The error is a *attemptError.
func (a *attempt) findRoute(ctx context.Context) (route, error) {
	set := (*outbound.Route)(nil)
	if a.rule != nil {
		set = a.rule.Route
	}
	if set == nil {
		if addr, ok := outbound.ParseLiteral(a.w.Domain); ok {
			return route{candidates: []candidate{{host: a.w.Domain, port: smtpPort, addr: addr}}}, nil
		}
		return a.d.findMX(ctx, a.w.Domain, smtpPort)
	}
	if set.MX {
		r, err := a.d.findMX(ctx, set.Host, set.Port)
		if f, ok := errors.AsType[*attemptError](err); ok && f.permanent {
			// The route is at fault, not the recipients' domain.
			f.permanent, f.status, f.domainWide = false, "4.4", true
		}
		return r, err
	}
	c := candidate{host: set.Host, port: set.Port}
	if addr, err := netip.ParseAddr(set.Host); err == nil {
		c.addr = addr
	}
	return route{candidates: []candidate{c}, secure: true}, nil
}

// findMX looks up the hosts of a domain. The error is a *attemptError.
func (d *Delivery) findMX(ctx context.Context, domain string, port uint16) (route, error) {
	plan, err := outbound.Find(ctx, d.resolver, domain, func(name string) bool { return name == d.hostname && d.isSelf(name, port, nil) })
	if denied, ok := errors.AsType[*outbound.Denial](err); ok {
		return route{}, &attemptError{permanent: true, reason: denied.Reason, status: denied.Status, text: denied.Text}
	}
	if err != nil {
		return route{}, &attemptError{reason: failure.DNS, text: err.Error(), domainWide: true}
	}
	r := route{secure: plan.Secure, alias: plan.Alias, plan: plan}
	for _, h := range plan.Hosts {
		r.candidates = append(r.candidates, candidate{host: h.Name, port: port, preference: h.Preference})
	}
	rand.Shuffle(len(r.candidates), func(i, j int) {
		r.candidates[i], r.candidates[j] = r.candidates[j], r.candidates[i]
	})
	slices.SortStableFunc(r.candidates, func(a, b candidate) int { return int(a.preference) - int(b.preference) })
	return r, nil
}

// addresses returns the addresses of a candidate that may be dialed. Those of a
// route may be private: the operator named it. The error is a *attemptError.
func (a *attempt) addresses(ctx context.Context, c candidate) ([]netip.Addr, error) {
	addrs := []netip.Addr{c.addr}
	if !c.addr.IsValid() {
		found, err := a.lookup(ctx, c)
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
	if len(allowed) == 0 && !slices.ContainsFunc(addrs, func(x netip.Addr) bool { return a.settings.Family.Admits(x.Unmap()) }) {
		return nil, &attemptError{reason: failure.DNS, status: "4.4", host: c.host, domainWide: true,
			text: fmt.Sprintf("%s has no %s address (%v), and no other is contacted (delivery.ip_family)", c.host, a.settings.Family, addrs)}
	}
	if len(allowed) == 0 {
		return nil, &attemptError{reason: failure.DNS, status: "4.4", host: c.host, domainWide: true,
			text: fmt.Sprintf("%s has only private addresses (%v), which are not contacted (delivery.private_addresses)", c.host, addrs)}
	}
	return allowed, nil
}

// admits says whether an address may be contacted for this message; a session to
// it may have been opened for another.
func (a *attempt) admits(addr netip.Addr) bool {
	return a.settings.Family.Admits(addr) && (a.anywhere() || publicaddr.Public(addr))
}

// lookup looks up the addresses of a candidate. Those of a route are whatever the
// operator says.
func (a *attempt) lookup(ctx context.Context, c candidate) (dnsclient.Addrs, error) {
	return outbound.Addresses(ctx, a.d.resolver, c.host, a.anywhere())
}

// anywhere reports whether hosts of private networks may be contacted.
func (a *attempt) anywhere() bool {
	return a.settings.AllowPrivate || a.rule != nil && a.rule.Route != nil
}

func noAddresses(c candidate, err error) *attemptError {
	return &attemptError{reason: failure.DNS, host: c.host, text: err.Error(), domainWide: true}
}

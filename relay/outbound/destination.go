package outbound

import (
	"net/netip"

	"github.com/stsrelay/stsrelay/internal/publicaddr"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/sts"
)

// Destination is a domain that mail goes to, with the operator's rule for it.
type Destination struct {
	Domain string
	// Rule is nil where there is none.
	Rule *Rule
	// PolicyDomain is the domain whose published policies apply: Domain, or the next
	// hop that the operator has set (RFC 8461, 3.4); "" for addresses.
	PolicyDomain string
}

// Destination returns a domain, in lower case, with its rule.
func (r Rules) Destination(domain string) Destination {
	d := Destination{Domain: domain, Rule: r.For(domain)}
	if route := d.Route(); route != nil {
		d.PolicyDomain = route.PolicyDomain()
	} else if _, literal := ParseLiteral(domain); !literal {
		d.PolicyDomain = domain
	}
	return d
}

// Route is the next hop that the operator has set, nil where there is none.
func (d *Destination) Route() *Route {
	if d.Rule == nil {
		return nil
	}
	return d.Rule.Route
}

// User is the name to log in with at the next hop, "" where nobody logs in.
func (d *Destination) User() string {
	if r := d.Route(); r != nil {
		return r.User
	}
	return ""
}

// Overridden reports whether the operator's rule stands in for what the domain
// publishes.
func (d *Destination) Overridden() bool { return d.Rule != nil && d.Rule.Override }

// Requirement is what is asked of a host of the plan, for a message that asks for
// nothing itself. refusePlaintext is for domains without a rule that says otherwise.
func (d *Destination) Requirement(host string, p *Plan, policy *sts.Policy, refusePlaintext bool) *security.Requirement {
	req := &security.Requirement{
		Domain: d.PolicyDomain, Host: host, Policy: policy, RefusePlaintext: refusePlaintext,
		MXSecure: p.Secure, DomainAlias: p.Alias,
	}
	if req.Domain == "" {
		req.Domain = d.Domain
	}
	if r := d.Rule; r != nil {
		req.Override, req.Level, req.Names = r.Override, r.Level, r.PinnedNames(d.Domain)
		if r.Opportunistic {
			req.RefusePlaintext, req.Level = false, security.NoLevel
		}
	}
	return req
}

// Reach is which addresses of hosts are contacted.
type Reach struct {
	Family IPFamily
	// Private permits private, loopback and link-local addresses.
	Private bool
}

// Reach restricts the addresses of the destination's hosts. Those of a route may be
// private: the operator has named it.
func (d *Destination) Reach(family IPFamily, private bool) Reach {
	return Reach{Family: family, Private: private || d.Route() != nil}
}

// Admits reports whether an address may be contacted.
func (r Reach) Admits(a netip.Addr) bool {
	return r.Family.Admits(a) && (r.Private || publicaddr.Public(a))
}

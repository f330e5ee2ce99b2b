package outbound

import (
	"fmt"
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
	// RuleName is the name under which the rule stands.
	RuleName string
	// BySender reports whether mail from another sender may go another way.
	BySender bool
	// PolicyDomain is the domain whose published policies apply: Domain, or the next
	// hop that the operator has set (RFC 8461, 3.4); "" for addresses.
	PolicyDomain string

	second bool // this is the fallback way
}

// Destination returns a domain, with its rule for mail from the domain of a sender. Both
// are in lower case; sender may be "".
func (r Rules) Destination(domain, sender string) Destination {
	d := Destination{Domain: domain}
	d.RuleName, d.Rule, d.BySender = r.Find(domain, sender)
	return d.along()
}

// along sets the domain whose policies apply to the way.
func (d Destination) along() Destination {
	d.PolicyDomain = ""
	if route := d.Route(); route != nil {
		d.PolicyDomain = route.PolicyDomain()
	} else if _, literal := ParseLiteral(d.Domain); !literal {
		d.PolicyDomain = d.Domain
	}
	return d
}

// Fallback is the second way to the destination: the operator's route, where that is for
// mail that no MX host takes. ok reports whether there is one.
func (d *Destination) Fallback() (second Destination, ok bool) {
	if d.second || d.Rule == nil || d.Rule.Fallback == NoFallback || d.Rule.Route == nil {
		return Destination{}, false
	}
	second = *d
	second.second = true
	return second.along(), true
}

// Key is the destination in one word: what is remembered of its hosts is kept under it.
func (d *Destination) Key() string {
	if r := d.Route(); r != nil {
		return fmt.Sprintf("%s by %s:%d", d.Domain, r.Host, r.Port)
	}
	return d.Domain
}

// Route is the next hop that the operator has set for this way, nil where there is none.
func (d *Destination) Route() *Route {
	if d.Rule == nil || d.Rule.Fallback != NoFallback && !d.second {
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
		req.Override, req.Level, req.Names = r.Override, d.Level(), d.pinnedNames()
		if r.Opportunistic {
			req.RefusePlaintext, req.Level = false, security.NoLevel
		}
	}
	return req
}

// Level is what the operator asks of the sessions of this way. A fallback route without
// tls asks for a verified next hop: an attacker who keeps the relay from the MX hosts
// must not choose a weaker way with that. So does a route to log in at.
func (d *Destination) Level() security.Level {
	route := d.Route()
	if d.Rule.Level == security.NoLevel && !d.Rule.Opportunistic && route != nil && (d.second || route.User != "") {
		return security.Verify
	}
	return d.Rule.Level
}

// pinnedNames are the patterns of security.MatchName that the rule asks for; none where
// its level is not security.Secure.
func (d *Destination) pinnedNames() []string {
	switch route := d.Route(); {
	case d.Rule.Level != security.Secure:
		return nil
	case len(d.Rule.Match) > 0:
		return d.Rule.Match
	case route != nil:
		return []string{route.Host, "." + route.Host}
	}
	return []string{d.Domain, "." + d.Domain}
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

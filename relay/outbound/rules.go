package outbound

import (
	"net/netip"
	"strings"

	"github.com/stsrelay/stsrelay/relay/security"
)

// Rule is the operator's rule for mail to a domain, or to all domains below one.
type Rule struct {
	// Level is what is asked of every session, whatever the domain publishes.
	Level security.Level
	// Match are the names that security.Secure accepts, as security.MatchName reads
	// them; none: the next-hop domain and what is below it.
	Match []string
	// Opportunistic allows plaintext where the relay otherwise refuses it.
	Opportunistic bool
	// Override makes the rule count instead of what the domain publishes.
	Override bool
	// Route is where the mail goes; nil: to the domain's MX hosts.
	Route *Route
	// PerHost bounds the sessions to one host; 0: the bound for all hosts.
	PerHost int
}

// Route is a next hop that the operator has set.
type Route struct {
	// Host is a name, in lower case without final dot, or an address.
	Host string
	Port uint16
	// MX reports whether the mail goes to the MX hosts of Host, not to Host itself.
	MX bool
	// User and Password are for AUTH (RFC 4954); User "" means none. See
	// security.Requirement.MaySendPassword.
	User, Password string
}

// PinnedNames are the patterns of security.MatchName that the rule asks for in mail to
// domain; none where its level is not security.Secure.
func (r *Rule) PinnedNames(domain string) []string {
	if r.Level != security.Secure {
		return nil
	}
	if len(r.Match) > 0 {
		return r.Match
	}
	if r.Route != nil {
		domain = r.Route.Host
	}
	return []string{domain, "." + domain}
}

// PolicyDomain is the domain whose published policies apply to the route: the next hop
// itself (RFC 8461, 3.4); "" where that is an address.
func (r *Route) PolicyDomain() string {
	if _, err := netip.ParseAddr(r.Host); err == nil {
		return ""
	}
	return r.Host
}

// Rules are the operator's rules by name: "example.com" is the rule for that domain, and
// ".example.com" for all domains below it.
type Rules map[string]*Rule

// For finds the rule with the most specific name, nil where there is none.
// domain is in lower case.
func (r Rules) For(domain string) *Rule {
	if len(r) == 0 {
		return nil
	}
	if rule, ok := r[domain]; ok {
		return rule
	}
	for rest := domain; ; {
		_, after, ok := strings.Cut(rest, ".")
		if !ok {
			return nil
		}
		if rule, ok := r["."+after]; ok {
			return rule
		}
		rest = after
	}
}

// ParseLiteral reads an address literal, "[192.0.2.1]" or "[IPv6:2001:db8::1]" (RFC
// 5321, 4.1.3).
func ParseLiteral(domain string) (netip.Addr, bool) {
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

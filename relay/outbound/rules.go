package outbound

import (
	"iter"
	"net/netip"
	"strings"

	"github.com/stsrelay/stsrelay/relay/security"
)

// Rule is the operator's rule for mail to a domain, to all domains below one, or to all.
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
	// Fallback says which mail takes the route only where no MX host of the domain can be
	// used; NoFallback: all mail takes it.
	Fallback Fallback
	// PerHost bounds the sessions to one host; 0: the bound for all hosts.
	PerHost int
	// BySender are the rules that count instead for the mail of some senders, by the
	// sender's domain.
	BySender Rules
	// SendersOnly reports whether the mail of all other senders has no rule of this name.
	SendersOnly bool
}

// Fallback is the mail for which a route is the second way.
type Fallback string

// The kinds of fallback.
const (
	// NoFallback: the route is the only way.
	NoFallback Fallback = ""
	// FallbackUnbound is for mail that nothing binds to the domain's own hosts: no
	// enforced MTA-STS policy, and no TLSA records.
	FallbackUnbound Fallback = "unbound"
	// FallbackAll is for all mail: the next hop keeps to policies itself.
	FallbackAll Fallback = "all"
)

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

// PolicyDomain is the domain whose published policies apply to the route: the next hop
// itself (RFC 8461, 3.4); "" where that is an address.
func (r *Route) PolicyDomain() string {
	if _, err := netip.ParseAddr(r.Host); err == nil {
		return ""
	}
	return r.Host
}

// Everything is the name of the rule for all domains that have no rule of their own.
const Everything = "*"

// Rules are the operator's rules by name: "example.com" is the rule for that domain,
// ".example.com" for all domains below it, and Everything for all.
type Rules map[string]*Rule

// Add adds a rule. Where there are senders, domains or names as those of rules, it is for
// their mail only.
func (r Rules) Add(name string, senders []string, rule *Rule) {
	old := r[name]
	if len(senders) == 0 {
		if r[name] = rule; old != nil {
			rule.BySender = old.BySender
		}
		return
	}
	if old == nil {
		old = &Rule{SendersOnly: true}
		r[name] = old
	}
	if old.BySender == nil {
		old.BySender = make(Rules)
	}
	for _, s := range senders {
		old.BySender[s] = rule
	}
}

// Find finds the rule with the most specific name for mail from a sender's domain, ""
// where there is none. The rule is nil, and its name "", where none applies. bySender
// reports whether another sender's mail may have another rule. Domains are in lower case.
func (r Rules) Find(domain, sender string) (name string, rule *Rule, bySender bool) {
	for name := range namesOf(domain) {
		rule := r[name]
		if rule == nil {
			continue
		}
		if len(rule.BySender) > 0 {
			bySender = true
			for s := range namesOf(sender) {
				if own := rule.BySender[s]; own != nil && sender != "" {
					return name, own, true
				}
			}
		}
		if !rule.SendersOnly {
			return name, rule, bySender
		}
	}
	return "", nil, bySender
}

// namesOf yields the names that a rule for a domain may have, the most specific first.
func namesOf(domain string) iter.Seq[string] {
	return func(yield func(string) bool) {
		if !yield(domain) {
			return
		}
		for rest := domain; ; {
			_, after, ok := strings.Cut(rest, ".")
			if !ok {
				break
			}
			if !yield("." + after) {
				return
			}
			rest = after
		}
		yield(Everything)
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

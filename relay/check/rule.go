package check

import (
	"net"
	"net/netip"
	"strings"

	"github.com/stsrelay/stsrelay/relay/security"
)

// Rule is the operator's rule for a recipient domain.
type Rule struct {
	// Name is a domain, or with a leading dot all below it.
	Name string `json:"name"`
	// TLS is "verify", "dane", "encrypt", "opportunistic" or "".
	TLS string `json:"tls"`
	// Route is the next hop, "smtp.partner.example:587", or "".
	Route string `json:"route"`
	// Override lets the rule stand in place of what the domain publishes.
	Override bool `json:"override_policy"`
}

func (r Rule) level() security.Level {
	switch r.TLS {
	case "encrypt":
		return security.Encrypt
	case "verify":
		return security.Verify
	case "dane":
		return security.VerifyDANE
	}
	return security.NoLevel
}

// findRule returns the rule for a domain: that of its own name, else that of
// the longest name with a dot that it lies below.
func findRule(rules []Rule, domain string) (best Rule, ok bool) {
	for _, r := range rules {
		name := strings.ToLower(r.Name)
		if name == domain {
			return r, true
		}
		if strings.HasPrefix(name, ".") && strings.HasSuffix(domain, name) && len(name) > len(best.Name) {
			best, ok = r, true
		}
	}
	return best, ok
}

// route is the operator's next hop: a host and a port.
func (r Rule) route() (host, port string) {
	host, port, err := net.SplitHostPort(r.Route)
	if err != nil {
		host, port = r.Route, "25"
	}
	return strings.ToLower(strings.Trim(host, "[]")), port
}

// applyRule looks for a rule and says what is remarkable about it.
func (c *checker) applyRule() {
	rule, ok := findRule(c.Rules, c.domain)
	if !ok {
		return
	}
	c.rule = rule
	out := &OperatorRule{Rule: rule}
	if rule.Route != "" {
		c.next, _ = rule.route()
		if a, err := netip.ParseAddr(c.next); err == nil {
			c.next = "[" + a.String() + "]" // no policy applies to an address (RFC 8461, 3.4)
		}
		out.Problems = append(out.Problems, Problem{Note,
			"mail goes to the operator's next hop " + rule.Route + ", not to the domain's own MX hosts; the policy that counts is that of the next hop",
			"RFC 8461, 3.4", "nothing, if that is meant; else remove route from the [[domain]] table"})
	}
	if rule.Override {
		out.Problems = append(out.Problems, Problem{Warning,
			"override_policy is set: what the domain publishes is judged and counted, but does not hold mail",
			"domain.override_policy", "remove it as soon as the domain's policy can be met again"})
	}
	if rule.TLS == "opportunistic" && c.RefusePlaintext && !rule.Override {
		out.Problems = append(out.Problems, Problem{Note, `tls = "opportunistic" asks for less than delivery.plaintext = "refuse", which holds all the same`,
			"delivery.plaintext", "nothing; or set override_policy"})
	}
	if rule.TLS == "dane" && c.NoDANE {
		out.Problems = append(out.Problems, Problem{Fault, "the rule asks for DANE, and DANE is switched off",
			"dane.enabled", "switch it on, or ask for tls = \"verify\""})
	}
	c.report.Rule = out
}

func isLiteral(domain string) bool { return strings.HasPrefix(domain, "[") }

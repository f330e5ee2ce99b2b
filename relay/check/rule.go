package check

import (
	"net"
	"strconv"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/outbound"
	"github.com/stsrelay/stsrelay/relay/security"
)

// applyRule looks for the operator's rule and says what is remarkable about it.
func (c *checker) applyRule() {
	rule := c.to.Rule
	if rule == nil {
		return
	}
	out := &OperatorRule{Name: c.to.RuleName, TLS: levelName(&c.to), Override: rule.Override}
	note := func(severity Severity, text phrase.Phrase, rule string, remedy phrase.Phrase) {
		out.Problems = append(out.Problems, Problem{severity, text, rule, remedy})
	}
	if r := c.to.Route(); r != nil {
		out.Route, out.MX, out.User = net.JoinHostPort(r.Host, strconv.Itoa(int(r.Port))), r.MX, r.User
		note(Note, phrase.New("mail goes to the operator's next hop, not to the domain's own MX hosts; what the next hop publishes counts, not what the domain does"),
			"RFC 8461, 3.4", phrase.New("nothing, if that is meant; else remove route from the [[domain]] table"))
	}
	if second, ok := c.to.Fallback(); ok {
		r := second.Route()
		out.Route, out.Fallback, out.MX, out.User = net.JoinHostPort(r.Host, strconv.Itoa(int(r.Port))), string(rule.Fallback), r.MX, r.User
	}
	if c.to.BySender {
		text := phrase.New("some rules are for the mail of some senders only; this is the way of mail from %s", c.Sender)
		if c.Sender == "" {
			text = phrase.New("some rules are for the mail of some senders only; this is the way of mail without --from")
		}
		note(Note, text, "domain.senders", phrase.New("give --from DOMAIN to see that of another sender"))
	}
	if out.User != "" {
		note(Note, phrase.New("the relay logs in there; a check does not, and cannot tell whether the password is right"), "domain.user", phrase.New("nothing"))
	}
	if rule.Override {
		note(Warning, phrase.New("override_policy is set: what the domain publishes is judged and counted, but does not hold mail"),
			"domain.override_policy", phrase.New("remove it as soon as what the domain publishes can be met again"))
	}
	if rule.Opportunistic && c.RefusePlaintext {
		note(Note, phrase.New(`the rule lets mail go in clear, against delivery.plaintext = "refuse"`), "domain.tls", phrase.New("nothing, if that is meant"))
	}
	if rule.Level == security.Verify && (c.to.Route() == nil || c.to.Route().MX) {
		note(Note, phrase.New("the rule asks for a certificate for the MX host's name; whoever forges the MX records can name a host of their own, with a good certificate"),
			"domain.tls", phrase.New("tls = \"secure\" pins the names of the certificate; nothing is needed where the zone is signed or an enforced policy names the hosts"))
	}
	if rule.Level == security.VerifyDANE && c.NoDANE {
		note(Fault, phrase.New("the rule asks for DANE, and DANE is switched off: all mail of the domain waits"), "dane.enabled", phrase.New("switch it on, or ask for tls = \"verify\""))
	}
	c.report.Rule = out
}

// levelName is what the rule asks for on this way, as a value of tls.
func levelName(d *outbound.Destination) string {
	if d.Rule.Opportunistic {
		return "opportunistic"
	}
	return map[security.Level]string{security.Encrypt: "encrypt", security.Verify: "verify", security.Secure: "secure", security.VerifyDANE: "dane"}[d.Level()]
}

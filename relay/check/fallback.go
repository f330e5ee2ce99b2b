package check

import (
	"context"
	"net"
	"strconv"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/outbound"
	"github.com/stsrelay/stsrelay/sts"
)

// fallBack looks at the operator's fallback route where mail goes that way, as a delivery
// does, and makes the outcome that of both ways.
func (c *checker) fallBack(ctx context.Context) {
	second, ok := c.to.Fallback()
	out := &c.report.Outcome
	if !ok || out.Action != "wait" {
		return
	}
	if why := c.keepsFromFallback(); !why.IsZero() {
		out.Text = phrase.New("%s; the fallback route is not taken, since %s", out.Text, why)
		return
	}
	next := &checker{Options: c.Options, domain: c.domain, slots: c.slots, to: second, finder: c.finder, opener: c.opener}
	next.look(ctx)
	c.report.Fallback = next.report
	first, r := out.Text, second.Route()
	*out = next.report.Outcome
	out.Text = phrase.New("%s; by the fallback route %s, since of the domain's own hosts: %s", out.Text, net.JoinHostPort(r.Host, strconv.Itoa(int(r.Port))), first)
}

// keepsFromFallback says why mail does not go by the fallback route though no host of the
// domain takes it; no text where it goes.
func (c *checker) keepsFromFallback() phrase.Phrase {
	all := c.to.Rule.Fallback == outbound.FallbackAll
	unless := func(why phrase.Phrase) phrase.Phrase {
		if all {
			return phrase.Phrase{}
		}
		return phrase.New(`%s (fallback = "unbound")`, why)
	}
	switch {
	case c.policyErr != nil || c.policy.Unknown && !c.to.Overridden():
		return phrase.New("it is not known whether the domain has an MTA-STS policy")
	case c.mxErr != nil:
		return unless(phrase.New("where the mail goes, and under which policy, cannot be told"))
	case !c.down:
		return phrase.New("what is asked of the domain's own hosts is not met, which no other way mends, or some have not had their turn")
	case c.to.Overridden():
		return phrase.Phrase{}
	case c.policy.Policy != nil && c.policy.Policy.Mode == sts.ModeEnforce:
		return unless(phrase.New("the domain's MTA-STS policy is in mode enforce"))
	}
	for _, h := range c.hosts {
		if h.set != nil {
			return unless(phrase.New("%s has TLSA records", h.Name))
		}
	}
	return phrase.Phrase{}
}

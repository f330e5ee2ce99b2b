package check

import (
	"context"
	"errors"

	"github.com/stsrelay/stsrelay/internal/dnsclient"
)

// lookupFault is the problem of a name that cannot be looked up; owner is whose it
// is. Whether the zone, its servers or this side are at fault, the answer tells.
func (c *checker) lookupFault(ctx context.Context, what string, err error, rule, owner string) Problem {
	p := Problem{Severity: Fault, Text: what + err.Error(), Rule: rule}
	e, ok := errors.AsType[*dnsclient.Error](err)
	switch {
	case ok && c.Resolver.HeldBack(ctx, e):
		p.Text += "; the answer does not pass DNSSEC"
		p.Rule = "RFC 4035, 5.5; " + rule
		p.Remedy = owner + ": mend the zone's signatures, or its DS record in the parent zone (dnsviz.net shows what is wrong); until then mail waits, as the answer may be forged. " +
			"Where other signed domains fail too, look at the clock of this machine and at the resolver's trust anchor"
	case ok && e.Err != nil:
		p.Remedy = "look at [dns] and the resolver first: does it answer for other names; if so, " + owner + ": see that the name servers answer"
	default:
		p.Remedy = "look at [dns] and the resolver first; " + owner + ": check the name servers and the zone's signatures (dnsviz.net shows them)"
	}
	return p
}

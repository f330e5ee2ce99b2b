package check

import (
	"context"
	"errors"

	"github.com/stsrelay/stsrelay/internal/dnsclient"
	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/security"
)

// advice is a rule that something breaks, and the remedy.
type advice struct {
	rule   string
	remedy phrase.Phrase
}

// Advice on what no session shows. For what sessions lack, it is in security.CodeRow.
var (
	adviceTLSAInsecure = advice{"RFC 7672, 2.1", phrase.New("the host's owner: sign the zone with DNSSEC and put its DS record into the parent zone; until then nobody may use the records. " +
		"If the zone is signed, the resolver of this relay does not validate: see dns.trust_ad")}
	adviceAddressInsecure = advice{"RFC 7672, 2.2.2", phrase.New("the host's owner: sign the zone of the host's address records too")}
	adviceUnverified      = advice{"RFC 8461, 4.2", phrase.New("nothing for this relay; the certificate must be mended before the domain publishes MTA-STS in mode enforce")}
)

// The owners of names, for lookupFault.
var (
	ownerOfDomain = phrase.New("the domain's owner")
	ownerOfHost   = phrase.New("the host's owner")
)

// problemOf explains a shortfall.
func problemOf(s *security.Shortfall, severity Severity) Problem {
	return Problem{Severity: severity, Text: s.Text, Rule: s.Rule(), Remedy: s.Code.Row().Remedy}
}

// add appends a problem unless one with the same text is there already.
func add(list []Problem, p Problem) []Problem {
	for _, old := range list {
		if old.Text.String() == p.Text.String() {
			return list
		}
	}
	return append(list, p)
}

// lookupFault is the problem of a name that cannot be looked up, which what says. owner is who
// owns the name. The answer err tells whether the zone, its servers or this side are at fault.
func (c *checker) lookupFault(ctx context.Context, what phrase.Phrase, err error, rule string, owner phrase.Phrase) Problem {
	p := Problem{Severity: Fault, Text: what, Rule: rule}
	e, ok := errors.AsType[*dnsclient.Error](err)
	switch {
	case ok && c.Resolver.HeldBack(ctx, e):
		p.Text = phrase.New("%s; the answer does not pass DNSSEC", p.Text)
		p.Rule = "RFC 4035, 5.5; " + rule
		p.Remedy = phrase.New("%s: mend the zone's signatures, or its DS record in the parent zone (dnsviz.net shows what is wrong); until then mail waits, as the answer may be forged. "+
			"Where other signed domains fail too, look at the clock of this machine and at the resolver's trust anchor", owner)
	case ok && e.Err != nil:
		p.Remedy = phrase.New("look at [dns] and the resolver first: does it answer for other names; if so, %s: see that the name servers answer", owner)
	default:
		p.Remedy = phrase.New("look at [dns] and the resolver first; %s: check the name servers and the zone's signatures (dnsviz.net shows them)", owner)
	}
	return p
}

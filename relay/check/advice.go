package check

import (
	"github.com/stsrelay/stsrelay/relay/security"
)

// advice is a rule that something breaks, and what helps.
type advice struct{ rule, remedy string }

// What a session does not show. The advice on what it does is security.CodeRow.
var (
	adviceTLSAInsecure = advice{"RFC 7672, 2.1", "the host's owner: sign the zone with DNSSEC and put its DS record into the parent zone; until then nobody may use the records. " +
		"If the zone is signed, the resolver of this relay does not validate: see dns.trust_ad"}
	adviceAddressInsecure = advice{"RFC 7672, 2.2.2", "the host's owner: sign the zone of the host's address records too"}
	adviceUnverified      = advice{"RFC 8461, 4.2", "nothing for this relay; the certificate must be mended before the domain publishes MTA-STS in mode enforce"}
)

// problemOf explains a shortfall.
func problemOf(s *security.Shortfall, severity Severity) Problem {
	return Problem{Severity: severity, Text: s.Text, Rule: s.Rule(), Remedy: s.Code.Row().Remedy}
}

// add appends a problem unless one with the same text is there already.
func add(list []Problem, p Problem) []Problem {
	for _, old := range list {
		if old.Text == p.Text {
			return list
		}
	}
	return append(list, p)
}

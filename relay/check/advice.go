package check

import (
	"github.com/stsrelay/stsrelay/relay/security"
)

// advice is the rule that a shortfall breaks, and its mend, by the shortfall's
// code. who stands for the host's owner, who is rarely the reader.
type advice struct{ rule, mend string }

// The codes of security.Shortfall. A test holds this against every shortfall
// that there is.
var advices = map[string]advice{
	"not-offered":                   {"RFC 3207, 4", "the host's owner: switch STARTTLS on and give it a certificate; if the host does offer it, a firewall with \"SMTP inspection\" on the way takes it out"},
	"refused":                       {"RFC 3207, 4", "the host's owner: look for the reason in the host's log; often it cannot read its certificate or key"},
	"handshake-failed":              {"RFC 3207, 4", "the host's owner: offer TLS 1.2 or 1.3 with a certificate and common ciphers; if others can connect, look for what breaks TLS on the way"},
	"tls-version":                   {"RFC 8996, 4", "the host's owner: switch TLS 1.2 and 1.3 on; senders must not use TLS 1.0 and 1.1"},
	"weak-cipher":                   {"RFC 7465, 2", "the host's owner: switch RC4 off and common ciphers on"},
	"no-certificate":                {"RFC 8461, 4.2", "the host's owner: give the host a certificate of a public authority"},
	"expired":                       {"RFC 8461, 4.2", "the host's owner: renew the certificate, load it into the mail server, and see that the next renewal is loaded by itself"},
	"not-yet-valid":                 {"RFC 8461, 4.2", "the host's owner: use a certificate that is valid now; look at the clock of this machine too"},
	"self-signed":                   {"RFC 8461, 4.2", "the host's owner: get a certificate of a public authority (Let's Encrypt costs nothing), or publish TLSA records in a signed zone and have DANE vouch for this one"},
	"unknown-authority":             {"RFC 8461, 4.2", "the host's owner: let the mail server send the whole chain (fullchain.pem, not cert.pem), from an authority that is publicly trusted"},
	"invalid-chain":                 {"RFC 8461, 4.2", "the host's owner: get a certificate of a public authority and let the mail server send the whole chain"},
	"untrusted":                     {"RFC 8461, 4.2", "the host's owner: get a certificate of a public authority and let the mail server send the whole chain"},
	"name":                          {"RFC 8461, 4.2", "the host's owner: get a certificate with the name of the MX record among its DNS names, or name the host in the MX record as its certificate does"},
	"name-not-pinned":               {"RFC 9525, 6.3", "if the new name is the partner's: put it into match of the [[domain]] table; else somebody may be forging the MX records"},
	security.CodeMXMismatch:         {"RFC 8461, 4.1", "the domain's owner: add an mx line for the host to the policy text first, then change the id in the record; or take the host out of the MX records"},
	"tlsa-mismatch":                 {"RFC 7672, 3.1", "the host's owner: publish the TLSA record of the certificate in use beside the old one (3 1 1, made from its key); next time, before the certificate changes (RFC 7671, 8.1)"},
	"no-usable-tlsa":                {"RFC 7672, 3.1.3", "the host's owner: publish records that senders can use: 3 1 1, or 2 1 1 for the authority"},
	security.CodeMXNotAuthenticated: {"RFC 7672, 2.2.1", "the domain's owner: publish an MTA-STS policy in mode enforce, or sign the zone; the operator can pin the names of the certificate: tls = \"secure\" with match in the [[domain]] table"},
	security.CodeNoRequireTLS:       {"RFC 8689, 4.2.1", "the host's owner: offer REQUIRETLS; few hosts do"},
	"tlsa-lookup":                   {"RFC 7672, 2.1.2", "the host's owner: let the name servers answer for TLSA records, and check the zone's signatures (dnsviz.net shows them)"},
	"tlsa-insecure":                 {"RFC 7672, 2.1", "the host's owner: sign the zone with DNSSEC and put its DS record into the parent zone; until then nobody may use the records. If the zone is signed, the resolver of this relay does not validate: see dns.trust_ad"},
	"address-insecure":              {"RFC 7672, 2.2.2", "the host's owner: sign the zone of the host's address records too"},
	"certificate-not-by-anybody":    {"RFC 8461, 4.2", "nothing for this relay; the certificate must be mended before the domain publishes MTA-STS in mode enforce"},
}

// sourceRules name the rule where it hangs on who asks.
var sourceRules = map[security.Source]map[string]string{
	security.MTASTS:     {"not-offered": "RFC 8461, 4", "refused": "RFC 8461, 4", "handshake-failed": "RFC 8461, 4", "tls-version": "RFC 8461, 7.2"},
	security.RequireTLS: {security.CodeMXNotAuthenticated: "RFC 8689, 4.2.1"},
	security.DANE:       {"not-offered": "RFC 7672, 2.2", "refused": "RFC 7672, 2.2", "handshake-failed": "RFC 7672, 2.2"},
}

// problemOf explains a shortfall.
func problemOf(s *security.Shortfall, severity Severity) Problem {
	a := advices[s.Code]
	if rule, ok := sourceRules[s.Source][s.Code]; ok {
		a.rule = rule
	}
	switch s.Source {
	case security.Rule:
		a.rule = "the operator's configuration; " + a.rule
	case security.Plaintext:
		a.rule = "delivery.plaintext; " + a.rule
	}
	return Problem{Severity: severity, Text: s.Reason, Rule: a.rule, Mend: a.mend}
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

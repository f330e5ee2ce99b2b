package security

import (
	"cmp"
	"fmt"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/failure"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// Code names a shortfall: it is the failure-reason-code of TLS reports (RFC 8460, 4.4).
type Code string

// The codes.
const (
	CodeNotOffered         Code = "not-offered"
	CodeRefused            Code = "refused"
	CodeHandshake          Code = "handshake-failed"
	CodeTLSVersion         Code = "tls-version"
	CodeWeakCipher         Code = "weak-cipher"
	CodeNoCertificate      Code = "no-certificate"
	CodeExpired            Code = "expired"
	CodeNotYetValid        Code = "not-yet-valid"
	CodeSelfSigned         Code = "self-signed"
	CodeUnknownAuthority   Code = "unknown-authority"
	CodeInvalidChain       Code = "invalid-chain"
	CodeUntrusted          Code = "untrusted"
	CodeName               Code = "name"
	CodeNameNotPinned      Code = "name-not-pinned"
	CodeMXMismatch         Code = "mta-sts-mx-mismatch" // RFC 8460 has no type of its own for it
	CodeTLSAMismatch       Code = "tlsa-mismatch"
	CodeNoUsableTLSA       Code = "no-usable-tlsa"
	CodeTLSALookup         Code = "tlsa-lookup-failed"
	CodeMXNotAuthenticated Code = "mx-not-authenticated" // the MX record is not signed, and no enforced policy names the host
	CodeNoRequireTLS       Code = "requiretls-not-offered"
)

// CodeRow is all that is known of a code.
type CodeRow struct {
	// Reason is why mail waits where the domain asks for what is missing.
	Reason failure.Reason
	// Type is the result type in TLS reports; "" for that of Reason.
	Type tlsrpt.ResultType
	// Unencrypted reports whether there is no TLS that counts: a host that does no
	// wrong where only the operator asks for TLS.
	Unencrypted bool
	// Rule is where it is written that a session must have it.
	Rule string
	// Remedy is who can mend it, and how.
	Remedy phrase.Phrase
	// Report is what a TLS report says about it to the owner of the domain, in lines of
	// a mail; "" where the result type says enough.
	Report string
}

var codeTable = map[Code]CodeRow{
	CodeNotOffered: {Reason: failure.TLSNone, Unencrypted: true, Rule: "RFC 3207, 4",
		Remedy: phrase.New("the host's owner: switch STARTTLS on and give it a certificate; if the host does offer it, a firewall with \"SMTP inspection\" on the way takes it out")},
	CodeRefused: {Reason: failure.TLSNone, Unencrypted: true, Rule: "RFC 3207, 4",
		Remedy: phrase.New("the host's owner: look for the reason in the host's log; often it cannot read its certificate or key")},
	CodeHandshake: {Reason: failure.Handshake, Unencrypted: true, Rule: "RFC 3207, 4",
		Remedy: phrase.New("the host's owner: offer TLS 1.2 or 1.3 with a certificate and common ciphers; if others can connect, look for what breaks TLS on the way"),
		Report: "The host offered STARTTLS, and the handshake broke. Look into its log."},
	CodeTLSVersion: {Reason: failure.Handshake, Unencrypted: true, Rule: "RFC 8996, 4",
		Remedy: phrase.New("the host's owner: switch TLS 1.2 and 1.3 on; senders must not use TLS 1.0 and 1.1"),
		Report: "The host speaks only versions of TLS that are out of date. Let it\nspeak TLS 1.2 or later."},
	CodeWeakCipher: {Reason: failure.Handshake, Unencrypted: true, Rule: "RFC 7465, 2",
		Remedy: phrase.New("the host's owner: switch RC4 off and common ciphers on"),
		Report: "The host encrypts with RC4 alone, which is broken. Switch RC4 off\nthere, and common ciphers on."},
	CodeNoCertificate: {Reason: failure.TLSCert, Rule: "RFC 8461, 4.2",
		Remedy: phrase.New("the host's owner: give the host a certificate of a public authority")},
	CodeExpired: {Reason: failure.CertExpired, Rule: "RFC 8461, 4.2",
		Remedy: phrase.New("the host's owner: renew the certificate, load it into the mail server, and see that the next renewal is loaded by itself")},
	CodeNotYetValid: {Reason: failure.CertExpired, Rule: "RFC 8461, 4.2",
		Remedy: phrase.New("the host's owner: use a certificate that is valid now; look at the clock of this machine too")},
	CodeSelfSigned: {Reason: failure.TLSCert, Rule: "RFC 8461, 4.2",
		Remedy: phrase.New("the host's owner: get a certificate of a public authority (Let's Encrypt costs nothing), or publish TLSA records in a signed zone and have DANE vouch for this one")},
	CodeUnknownAuthority: {Reason: failure.TLSCert, Rule: "RFC 8461, 4.2",
		Remedy: phrase.New("the host's owner: let the mail server send the whole chain (fullchain.pem, not cert.pem), from an authority that is publicly trusted")},
	CodeInvalidChain: {Reason: failure.TLSCert, Rule: "RFC 8461, 4.2",
		Remedy: phrase.New("the host's owner: get a certificate of a public authority and let the mail server send the whole chain")},
	CodeUntrusted: {Reason: failure.TLSCert, Rule: "RFC 8461, 4.2",
		Remedy: phrase.New("the host's owner: get a certificate of a public authority and let the mail server send the whole chain")},
	CodeName: {Reason: failure.TLSName, Rule: "RFC 8461, 4.2",
		Remedy: phrase.New("the host's owner: get a certificate with the name of the MX record among its DNS names, or name the host in the MX record as its certificate does")},
	CodeNameNotPinned: {Reason: failure.TLSName, Rule: "RFC 9525, 6.3",
		Remedy: phrase.New("if the new name is the partner's: put it into match of the [[domain]] table; else somebody may be forging the MX records")},
	CodeMXMismatch: {Reason: failure.STSMX, Rule: "RFC 8461, 4.1",
		Remedy: phrase.New("the domain's owner: add an mx line for the host to the policy text first, then change the id in the record; or take the host out of the MX records"),
		Report: "Your MTA-STS policy does not name this host. Add a line \"mx:\" for it,\nand change the id of the record."},
	CodeTLSAMismatch: {Reason: failure.DANE, Rule: "RFC 7672, 3.1",
		Remedy: phrase.New("the host's owner: publish the TLSA record of the certificate in use beside the old one (3 1 1, made from its key); next time, before the certificate changes (RFC 7671, 8.1)"),
		Report: "The TLSA records do not fit the host's certificate. Publish the new\nrecord before the certificate changes."},
	CodeNoUsableTLSA: {Reason: failure.DANE, Type: tlsrpt.TLSAInvalid, Rule: "RFC 7672, 3.1.3",
		Remedy: phrase.New("the host's owner: publish records that senders can use: 3 1 1, or 2 1 1 for the authority")},
	CodeTLSALookup: {Reason: failure.DANE, Type: tlsrpt.DNSSECInvalid, Rule: "RFC 7672, 2.1.2",
		Remedy: phrase.New("the host's owner: let the name servers answer for TLSA records, and check the zone's signatures (dnsviz.net shows them)")},
	CodeMXNotAuthenticated: {Reason: failure.DANE, Rule: "RFC 7672, 2.2.1",
		Remedy: phrase.New("the domain's owner: publish an MTA-STS policy in mode enforce, or sign the zone; the operator can pin the names of the certificate: tls = \"secure\" with match in the [[domain]] table")},
	CodeNoRequireTLS: {Reason: failure.RequireTLS, Rule: "RFC 8689, 4.2.1",
		Remedy: phrase.New("the host's owner: offer REQUIRETLS; few hosts do")},
}

// Row returns what is known of a code; the zero value where that is nothing, as of a
// code that another version counted.
func (c Code) Row() CodeRow { return codeTable[c] }

// sourceRules are the rules that a source itself has for a code.
var sourceRules = map[Source]map[Code]string{
	MTASTS:     {CodeNotOffered: "RFC 8461, 4", CodeRefused: "RFC 8461, 4", CodeHandshake: "RFC 8461, 4", CodeTLSVersion: "RFC 8461, 7.2"},
	RequireTLS: {CodeMXNotAuthenticated: "RFC 8689, 4.2.1"},
	DANE:       {CodeNotOffered: "RFC 7672, 2.2", CodeRefused: "RFC 7672, 2.2", CodeHandshake: "RFC 7672, 2.2"},
}

// Shortfall is what a session lacks for one source.
type Shortfall struct {
	Source Source
	// Type is the result type that is reported (RFC 8460, 4.3). Code tells apart what
	// it lumps together.
	Type tlsrpt.ResultType
	Code Code
	// Detail is what is known beyond the code, for reports; "" for nothing.
	Detail string
	// Text is a sentence part for people: "its certificate expired on …".
	Text phrase.Phrase
}

func newShortfall(by Source, code Code, text phrase.Phrase) *Shortfall {
	row := code.Row()
	return &Shortfall{Source: by, Code: code, Type: cmp.Or(row.Type, row.Reason.Row().Result), Text: text}
}

// TLSALookupFailed returns what a host lacks of which nobody can tell whether it has
// TLSA records: it must not be used (RFC 7672, 2.1.2).
func TLSALookupFailed(err error) *Shortfall {
	return newShortfall(DANE, CodeTLSALookup, phrase.New("its TLSA records cannot be looked up (%v)", err))
}

// Error says who asked, and what is missing.
func (s *Shortfall) Error() string { return fmt.Sprintf("%s: %s (%s)", s.Source, s.Text, s.Type) }

// Reason returns why mail waits for want of it.
func (s *Shortfall) Reason() failure.Reason {
	row := s.Code.Row()
	switch {
	case s.Source == Plaintext, s.Source == Rule && (row.Unencrypted || row.Reason == failure.DANE):
		return failure.Rule
	case s.Source == RequireTLS && row.Reason == failure.DANE:
		return failure.RequireTLS
	}
	return row.Reason
}

// Rule returns where it is written that the session must have it.
func (s *Shortfall) Rule() string {
	rule := s.Code.Row().Rule
	if own, ok := sourceRules[s.Source][s.Code]; ok {
		rule = own
	}
	switch s.Source {
	case Rule:
		return "domain.tls; " + rule
	case Plaintext:
		return "delivery.plaintext; " + rule
	}
	return rule
}

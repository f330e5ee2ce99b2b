package received

import (
	"strings"

	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// codes has the code whose rule and remedy stand for a result type.
var codes = map[tlsrpt.ResultType]security.Code{
	tlsrpt.StartTLSNotSupported:    security.CodeNotOffered,
	tlsrpt.CertificateHostMismatch: security.CodeName,
	tlsrpt.CertificateNotTrusted:   security.CodeUnknownAuthority,
	tlsrpt.CertificateExpired:      security.CodeExpired,
	tlsrpt.TLSAInvalid:             security.CodeNoUsableTLSA,
	tlsrpt.DNSSECInvalid:           security.CodeTLSALookup,
	tlsrpt.ValidationFailure:       security.CodeHandshake,
}

// own are the result types that the owner of the domain can mend and that count against
// enforce. validation-failure is one where several senders see it.
var own = map[tlsrpt.ResultType]bool{
	tlsrpt.StartTLSNotSupported: true, tlsrpt.CertificateHostMismatch: true, tlsrpt.CertificateNotTrusted: true, tlsrpt.CertificateExpired: true,
	tlsrpt.STSPolicyFetchError: true, tlsrpt.STSPolicyInvalid: true, tlsrpt.STSWebPKIInvalid: true,
}

// explain fills in whose matter a failure of a domain is, and what to do about it.
func (f *Failure) explain(domain string) {
	kind := tlsrpt.ResultType(f.Type)
	f.Own = own[kind] || kind == tlsrpt.ValidationFailure && len(f.Senders) > 1
	code := codes[kind]
	word, _, _ := strings.Cut(f.Reason, ":")
	if said := security.Code(word); kind == tlsrpt.ValidationFailure && !said.Row().Remedy.IsZero() {
		code = said // senders of the same make say what it was
	}
	switch kind {
	case tlsrpt.STSPolicyFetchError:
		f.Rule, f.Remedy = "RFC 8461, 3.3", "serve the policy at exactly https://mta-sts."+domain+"/.well-known/mta-sts.txt with status 200, or take the _mta-sts record away; stsrelay check "+domain+" fetches it"
	case tlsrpt.STSPolicyInvalid:
		f.Rule, f.Remedy = "RFC 8461, 3.2", "mend the text of the policy; stsrelay check "+domain+" says which line is wrong"
	case tlsrpt.STSWebPKIInvalid:
		f.Rule, f.Remedy = "RFC 8461, 3.3", "give the web server a certificate for mta-sts."+domain+" from a public authority, and let it send the whole chain"
	case tlsrpt.DANERequired:
		f.Rule, f.Remedy = "RFC 7672, 2.2", "nothing, unless several senders say so: the sender asks for DANE, and the host has no TLSA records that can be used"
	default:
		row := code.Row()
		f.Rule, f.Remedy = row.Rule, row.Remedy.String()
		for _, owner := range []string{"the host's owner: ", "the domain's owner: "} { // that is who reads this
			f.Remedy = strings.TrimPrefix(f.Remedy, owner)
		}
	}
	if f.Remedy == "" {
		f.Rule, f.Remedy = "RFC 8460, 4.3", "ask the sender what the failure was: the report does not say; stsrelay check "+domain+" tries the hosts from here"
	}
	if kind == tlsrpt.ValidationFailure && word != string(code) {
		f.Remedy += ". Or the policy does not name the host: senders have no other result type for that. * stands for one label only (RFC 8461, 4.1)"
	}
}

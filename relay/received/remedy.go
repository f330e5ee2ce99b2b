package received

import (
	"strings"

	"github.com/stsrelay/stsrelay/internal/phrase"
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

// owners are who a remedy of package security speaks to first.
var owners = []phrase.Phrase{phrase.New("the host's owner"), phrase.New("the domain's owner")}

// toOwner returns a remedy without whom it speaks to: that is who reads it.
func toOwner(remedy phrase.Phrase) phrase.Phrase {
	return remedy.Filtered(func(text string) string {
		for _, owner := range owners {
			text = strings.TrimPrefix(text, owner.String()+": ")
			text = strings.TrimPrefix(text, owner.German()+": ")
		}
		return text
	})
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
		f.Rule, f.Remedy = "RFC 8461, 3.3", phrase.New("serve the policy at exactly https://mta-sts.%s/.well-known/mta-sts.txt with status 200, or take the _mta-sts record away; stsrelay check %s fetches it", domain, domain)
	case tlsrpt.STSPolicyInvalid:
		f.Rule, f.Remedy = "RFC 8461, 3.2", phrase.New("mend the text of the policy; stsrelay check %s says which line is wrong", domain)
	case tlsrpt.STSWebPKIInvalid:
		f.Rule, f.Remedy = "RFC 8461, 3.3", phrase.New("give the web server a certificate for mta-sts.%s from a public authority, and let it send the whole chain", domain)
	case tlsrpt.DANERequired:
		f.Rule, f.Remedy = "RFC 7672, 2.2", phrase.New("nothing, unless several senders say so: the sender asks for DANE, and the host has no TLSA records that can be used")
	default:
		f.Rule, f.Remedy = "RFC 8460, 4.3", phrase.New("ask the sender what the failure was: the report does not say; stsrelay check %s tries the hosts from here", domain)
		if row := code.Row(); !row.Remedy.IsZero() {
			f.Rule, f.Remedy = row.Rule, toOwner(row.Remedy)
		}
	}
	if kind == tlsrpt.ValidationFailure && word != string(code) {
		f.Remedy = phrase.New("%s. Or the policy does not name the host: senders have no other result type for that. * stands for one label only (RFC 8461, 4.1)", f.Remedy)
	}
}

// Package tlsrpt is SMTP TLS reporting (RFC 8460), the sending side: what is
// counted about TLS sessions to a domain, the daily report made of it, and its
// submission.
package tlsrpt

import "strings"

// ResultType is a failure type of RFC 8460, section 4.3.
type ResultType string

// Negotiation failures (RFC 8460, 4.3.1).
const (
	StartTLSNotSupported    ResultType = "starttls-not-supported"
	CertificateHostMismatch ResultType = "certificate-host-mismatch"
	CertificateNotTrusted   ResultType = "certificate-not-trusted"
	CertificateExpired      ResultType = "certificate-expired"
	ValidationFailure       ResultType = "validation-failure"
)

// Policy failures: DANE (RFC 8460, 4.3.2.1) and MTA-STS (4.3.2.2).
const (
	TLSAInvalid         ResultType = "tlsa-invalid"
	DNSSECInvalid       ResultType = "dnssec-invalid"
	DANERequired        ResultType = "dane-required"
	STSPolicyFetchError ResultType = "sts-policy-fetch-error"
	STSPolicyInvalid    ResultType = "sts-policy-invalid"
	STSWebPKIInvalid    ResultType = "sts-webpki-invalid"
)

// ReasonCode returns the failure-reason-code of a report (RFC 8460, 4.4): a word, and
// what is known beyond it, "" for nothing.
func ReasonCode(code, detail string) string {
	if detail == "" {
		return code
	}
	return code + codeSeparator + detail
}

// codeSeparator stands between the word of a failure-reason-code and the rest.
const codeSeparator = ": "

// codeWord returns the word of a failure-reason-code.
func codeWord(code string) string {
	word, _, _ := strings.Cut(code, codeSeparator)
	return word
}

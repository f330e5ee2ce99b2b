package security

import (
	"crypto/x509"
	"strings"
)

// MatchName reports whether a certificate is for a name that a pattern of the
// operator allows. A pattern is a host name; "*.example.com" for all names one
// label below example.com, as in certificates; or ".example.com" for all names
// below it. Patterns are in lower case, without a final dot. Only DNS names of the
// subject alternative names count, and IP addresses where the pattern is one; the
// Common Name never does (RFC 9525, 6.3).
func MatchName(pattern string, leaf *x509.Certificate) bool {
	below, deep := strings.CutPrefix(pattern, ".")
	parent, wild := strings.CutPrefix(pattern, "*.")
	if !deep && !wild {
		return leaf.VerifyHostname(pattern) == nil
	}
	for _, name := range leaf.DNSNames {
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		if deep && strings.HasSuffix(name, "."+below) {
			return true
		}
		if label, rest, ok := strings.Cut(name, "."); wild && ok && label != "" && rest == parent {
			return true
		}
	}
	return false
}

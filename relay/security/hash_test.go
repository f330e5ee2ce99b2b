package security

import (
	"crypto/sha256"
	"crypto/x509"
)

// spkiHash is the data of a TLSA record 3 1 1.
func spkiHash(c *x509.Certificate) []byte {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return sum[:]
}

package dane

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"strings"
)

// verifyName checks a reference identifier of usage 2. Unlike MTA-STS, DANE
// looks at the Common Name where a certificate has no DNS name at all (RFC
// 7672, 3.2.3).
func verifyName(cert *x509.Certificate, name string) error {
	err := cert.VerifyHostname(name)
	if err != nil && len(cert.DNSNames) == 0 && strings.EqualFold(cert.Subject.CommonName, name) {
		return nil
	}
	return err
}

func keyAlgorithm(key crypto.PublicKey) x509.PublicKeyAlgorithm {
	switch key.(type) {
	case *rsa.PublicKey:
		return x509.RSA
	case *ecdsa.PublicKey:
		return x509.ECDSA
	case ed25519.PublicKey:
		return x509.Ed25519
	}
	return x509.UnknownPublicKeyAlgorithm
}

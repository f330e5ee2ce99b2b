package history

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"strings"
	"testing"
)

// A host chooses how long its certificate is, and each delivery to it has the certificate.
func TestAnEndlessCertificateIsKeptInPart(t *testing.T) {
	leaf := func() *x509.Certificate {
		long := pkix.Name{CommonName: strings.Repeat("x", 100_000)}
		c := &x509.Certificate{Subject: long, Issuer: long, SerialNumber: new(big.Int).Lsh(big.NewInt(1), 800_000), DNSNames: []string{"mx.a.example"}}
		for i := range 10_000 {
			c.DNSNames = append(c.DNSNames, fmt.Sprintf("%d.a.example", i))
		}
		return c
	}
	var kept certificates
	c := kept.of(leaf(), "fingerprint")
	if n := len(c.encoded); n > 64<<10 || len(c.Names) < 100 || c.Names[0] != "mx.a.example" {
		t.Errorf("%d octets, %d names", n, len(c.Names))
	}
	if kept.of(leaf(), "fingerprint") != c {
		t.Error("the certificate of the next session is described anew")
	}
}

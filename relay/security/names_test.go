package security

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

func TestMatchName(t *testing.T) {
	for _, tt := range []struct {
		pattern string
		names   []string
		want    bool
	}{
		{"mx.partner.example", []string{"mx.partner.example"}, true},
		{"mx.partner.example", []string{"other.example", "MX.Partner.Example"}, true},
		{"mx.partner.example", []string{"*.partner.example"}, true},
		{"mx.partner.example", []string{"mx.partner.example.attacker.example"}, false},
		{"mx.partner.example", []string{"partner.example"}, false},
		{"partner.example", []string{"mx.partner.example"}, false},
		{"*.partner.example", []string{"mx.partner.example"}, true},
		{"*.partner.example", []string{"*.partner.example"}, true},
		{"*.partner.example", []string{"a.mx.partner.example"}, false},
		{"*.partner.example", []string{"partner.example"}, false},
		{"*.partner.example", []string{"mx.evilpartner.example"}, false},
		{"*.partner.example", []string{"*.mx.partner.example"}, false},
		{".partner.example", []string{"mx.partner.example"}, true},
		{".partner.example", []string{"a.mx.partner.example"}, true},
		{".partner.example", []string{"*.mx.partner.example"}, true},
		{".partner.example", []string{"partner.example"}, false},
		{".partner.example", []string{"evilpartner.example"}, false},
		{".partner.example", []string{"*.example"}, false},
		{".partner.example", []string{"mx.partner.example.attacker.example"}, false},
		{".partner.example", nil, false},
	} {
		if got := MatchName(tt.pattern, &x509.Certificate{DNSNames: tt.names}); got != tt.want {
			t.Errorf("%s, certificate for %v: %t", tt.pattern, tt.names, got)
		}
	}
}

// A certificate that an attacker has for their own name does not meet a pinned
// one, whatever host the MX records name.
func TestSecureLooksAtThePinnedNamesAlone(t *testing.T) {
	n, err := testnet.New(testnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for _, tt := range []struct {
		host string // of the MX record
		spec testnet.CertSpec
		want tlsrpt.ResultType
	}{
		{"mx1.partner.example", testnet.CertSpec{}, ""},
		{"mx1.partner.example", testnet.CertSpec{Names: []string{"partner.example"}}, ""},
		{"mx.attacker.example", testnet.CertSpec{}, tlsrpt.CertificateHostMismatch},
		{"mx.attacker.example", testnet.CertSpec{Names: []string{"partner.example.attacker.example"}}, tlsrpt.CertificateHostMismatch},
		{"mx1.partner.example", testnet.CertSpec{CNOnly: true}, tlsrpt.CertificateHostMismatch},
		{"mx1.partner.example", testnet.CertSpec{SelfSigned: true}, tlsrpt.CertificateNotTrusted},
		{"mx1.partner.example", testnet.CertSpec{Expired: true}, tlsrpt.CertificateExpired},
	} {
		cert, err := n.CA.Issue(tt.host, tt.spec)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(cert.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		e := Evidence{Host: tt.host}
		e.Observe(tls.ConnectionState{Version: tls.VersionTLS13, PeerCertificates: []*x509.Certificate{leaf}}, n.CA.Roots(), time.Now())
		r := Requirement{Domain: "partner.example", Host: tt.host, Level: Secure, Names: []string{"partner.example", ".partner.example"}}
		for what, err := range map[string]error{"mail": r.Satisfied(&e), "password": r.MaySendPassword(&e)} {
			got := tlsrpt.ResultType("")
			if s, ok := err.(*Shortfall); ok { //nolint:errorlint // never wrapped
				got = s.Type
			}
			if got != tt.want {
				t.Errorf("%s at %s, %+v: %v, want %q", what, tt.host, tt.spec, err, tt.want)
			}
		}
	}
}

package security

import (
	"crypto/tls"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
)

func TestEndsSoon(t *testing.T) {
	const day = 24 * time.Hour
	for _, tt := range []struct {
		life, age time.Duration
		want      bool
	}{
		{6 * day, 0, false}, {6 * day, 3*day + 23*time.Hour, false}, {6 * day, 4*day + time.Hour, true},
		{45 * day, 0, false}, {45 * day, 30*day + time.Hour, false}, {45 * day, 32 * day, true},
		{90 * day, 75 * day, false}, {90 * day, 77 * day, true},
		{398 * day, 383 * day, false}, {398 * day, 385 * day, true},
		{2 * day, 12 * time.Hour, false}, {2 * day, 25 * time.Hour, true},
		{90 * day, 91 * day, true},
	} {
		begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		if got := EndsSoon(begin, begin.Add(tt.life), begin.Add(tt.age)); got != tt.want {
			t.Errorf("life %s, age %s: %t", tt.life, tt.age, got)
		}
	}
}

func TestDescribeSaysHowASessionIsEncryptedAndWhyNot(t *testing.T) {
	for _, tt := range []struct {
		e    Evidence
		want string
		by   Protection
	}{
		{Evidence{StartTLS: NotOffered}, "none", Clear},
		{Evidence{StartTLS: Refused, Failure: phrase.Quote("454 4.7.0 no")}, "none: mx1.example.com refused STARTTLS: 454 4.7.0 no", Clear},
		{Evidence{StartTLS: Broken, Failure: phrase.Quote("the host closed the connection")}, "none: the TLS handshake with mx1.example.com failed: the host closed the connection", Clear},
		{Evidence{StartTLS: Established, Version: tls.VersionTLS13, Suite: tls.TLS_AES_128_GCM_SHA256, Group: tls.X25519MLKEM768, NameMatches: true}, "TLS 1.3, TLS_AES_128_GCM_SHA256, X25519MLKEM768, verified certificate", Verified},
		{Evidence{StartTLS: Established, Version: tls.VersionTLS12, Suite: tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, Group: tls.CurveP256, NameMatches: true}, "TLS 1.2, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, P-256, verified certificate", Verified},
		{Evidence{StartTLS: Established, Version: tls.VersionTLS12, Suite: tls.TLS_RSA_WITH_AES_128_GCM_SHA256, NameMatches: true}, "TLS 1.2, TLS_RSA_WITH_AES_128_GCM_SHA256, verified certificate", Verified},
	} {
		tt.e.Host = "mx1.example.com"
		r := Requirement{Domain: "example.com", Host: tt.e.Host}
		if got, by := r.Describe(&tt.e); got.String() != tt.want || by != tt.by {
			t.Errorf("%q, %s; want %q, %s", got, by, tt.want, tt.by)
		}
	}
}

// Only what may hold a message for want of TLS is binding.
func TestBinding(t *testing.T) {
	for _, tt := range []struct {
		name string
		r    Requirement
		want bool
	}{
		{"nothing is asked for", Requirement{}, false},
		{"plaintext is refused", Requirement{RefusePlaintext: true}, true},
		{"a rule", Requirement{Level: Encrypt}, true},
		{"REQUIRETLS", Requirement{RequireTLS: true}, true},
	} {
		if got := tt.r.Binding(); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}

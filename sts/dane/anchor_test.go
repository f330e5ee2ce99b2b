package dane

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

// bigKey is an RSA key of n octets that costs as much as such a key can, as in a zone file.
func bigKey(t *testing.T, n int) []byte {
	t.Helper()
	modulus := make([]byte, n)
	_, _ = rand.Read(modulus) // crypto/rand does not fail
	modulus[0] |= 0x80
	modulus[n-1] |= 1
	spki, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: 1<<31 - 1})
	if err != nil {
		t.Fatal(err)
	}
	return spki
}

// signedBy is a certificate with a signature of n octets that says it is RSA's.
func signedBy(t *testing.T, n int) *x509.Certificate {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: now.AddDate(1, 0, 0), DNSNames: []string{"mx.example.com"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		TBS, Algorithm asn1.RawValue
		Signature      asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &c); err != nil {
		t.Fatal(err)
	}
	signature := make([]byte, n)
	_, _ = rand.Read(signature[1:])
	c.Signature = asn1.BitString{Bytes: signature, BitLength: 8 * n}
	if der, err = asn1.Marshal(c); err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// Strangers choose the keys in records and the length of chains: no processor is busy with
// them for long. Without bounds these take ten seconds and more.
func TestCostlyRecordsCostLittle(t *testing.T) {
	for _, tt := range []struct {
		name                 string
		octets, keys, length int
	}{
		{"a key as large as a record can hold", 60_000, 1, 1},
		{"many keys, and a chain of many certificates", 1024, 60, 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var records []Record
			for range tt.keys {
				records = append(records, Record{UsageTA, SelectorSPKI, MatchFull, bigKey(t, tt.octets)})
			}
			set := NewRRset("mx.example.com", records)
			chain := slices.Repeat([]*x509.Certificate{signedBy(t, tt.octets)}, tt.length)
			begun := time.Now()
			_, err := set.Verify(chain, []string{"mx.example.com"}, now)
			if took := time.Since(begun); !errors.Is(err, ErrMismatch) || took > 5*time.Second {
				t.Errorf("%v, after %s", err, took)
			}
		})
	}
}

// One of several anchors is enough, and its record is the one that is told.
func TestTheRecordOfTheAnchorIsTold(t *testing.T) {
	ca, other := issue(t, nil, "ca", nil, now.AddDate(1, 0, 0)), issue(t, nil, "ca", nil, now.AddDate(1, 0, 0))
	leaf := issue(t, ca, "leaf", []string{"mx.example.com"}, now.AddDate(1, 0, 0))
	for _, want := range []Record{record(2, 0, 1, ca.Certificate), record(2, 0, 0, ca.Certificate), record(2, 1, 0, ca.Certificate), record(2, 1, 1, ca.Certificate)} {
		set := NewRRset("mx.example.com", []Record{record(2, 0, 0, other.Certificate), want})
		chain := []*x509.Certificate{leaf.Certificate, ca.Certificate, other.Certificate}
		if got, err := set.Verify(chain, []string{"mx.example.com"}, now); err != nil || got.String() != want.String() {
			t.Errorf("%.20s, %v, want %.20s", got, err, want)
		}
	}
}

// A certificate for none of the names is told by the name of the host, which comes first.
func TestACertificateForAnotherName(t *testing.T) {
	ca := issue(t, nil, "ca", nil, now.AddDate(1, 0, 0))
	leaf := issue(t, ca, "leaf", []string{"other.example"}, now.AddDate(1, 0, 0))
	set := NewRRset("mx.example.com", []Record{record(2, 1, 1, ca.Certificate)})
	_, err := set.Verify([]*x509.Certificate{leaf.Certificate, ca.Certificate}, []string{"mx.example.com", "example.com"}, now)
	if err == nil || !strings.HasSuffix(err.Error(), "other.example, not mx.example.com") {
		t.Error(err)
	}
}

// An attempt asks several times about one session: its chain is verified once. Another
// chain, name or date is verified anew.
func TestAChainIsVerifiedOnce(t *testing.T) {
	ca := issue(t, nil, "ca", nil, now.AddDate(1, 0, 0))
	names := []string{"mx.example.com"}
	leaf, ended := issue(t, ca, "leaf", names, now.AddDate(1, 0, 0)), issue(t, ca, "leaf", names, now.AddDate(0, 0, -1))
	chain := []*x509.Certificate{leaf.Certificate, ca.Certificate}
	for _, tt := range []struct {
		name  string
		set   *RRset
		works bool
	}{
		{"a record that fits", NewRRset("mx.example.com", []Record{record(2, 0, 1, ca.Certificate)}), true},
		{"a key that has signed nothing", NewRRset("mx.example.com", []Record{{UsageTA, SelectorSPKI, MatchFull, bigKey(t, 256)}}), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if n := testing.AllocsPerRun(10, func() {
				if _, err := tt.set.Verify(chain, names, now); (err == nil) != tt.works {
					t.Error(err)
				}
			}); n > 0 {
				t.Errorf("it was verified again, with %v allocations", n)
			}
			for what, verify := range map[string]func() (Record, error){
				"another chain": func() (Record, error) {
					return tt.set.Verify([]*x509.Certificate{ended.Certificate, ca.Certificate}, names, now)
				},
				"another name": func() (Record, error) { return tt.set.Verify(chain, []string{"mx.example.net"}, now) },
				"another date": func() (Record, error) { return tt.set.Verify(chain, names, now.AddDate(2, 0, 0)) },
			} {
				_, _ = tt.set.Verify(chain, names, now)
				if _, err := verify(); err == nil {
					t.Errorf("%s: what was found before is told", what)
				}
			}
		})
	}
}

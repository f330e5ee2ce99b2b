package dane

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

type certificate struct {
	*x509.Certificate
	key crypto.Signer
}

// issue makes a certificate; by nil: it signs itself.
func issue(t testing.TB, by *certificate, cn string, names []string, end time.Time) *certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: cn}, DNSNames: names,
		NotBefore: now.AddDate(-1, 0, 0), NotAfter: end, BasicConstraintsValid: true, IsCA: names == nil && by == nil || cn == "ca",
	}
	parent := &certificate{template, key}
	if by != nil {
		parent = by
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.Certificate, key.Public(), parent.key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &certificate{c, key}
}

// record makes a record of a certificate.
func record(usage, selector, matching uint8, c *x509.Certificate) Record {
	data := c.Raw
	if selector == SelectorSPKI {
		data = c.RawSubjectPublicKeyInfo
	}
	switch matching {
	case MatchSHA256:
		sum := sha256.Sum256(data)
		data = sum[:]
	case MatchSHA512:
		sum := sha512.Sum512(data)
		data = sum[:]
	}
	return Record{usage, selector, matching, data}
}

func TestVerify(t *testing.T) {
	future, past := now.AddDate(1, 0, 0), now.AddDate(0, 0, -1)
	ca := issue(t, nil, "ca", nil, future)
	leaf := issue(t, ca, "leaf", []string{"mx.example.com"}, future)
	byDomain := issue(t, ca, "leaf", []string{"example.com"}, future)
	otherName := issue(t, ca, "leaf", []string{"other.example"}, future)
	expired := issue(t, ca, "leaf", []string{"mx.example.com"}, past)
	cnOnly := issue(t, ca, "mx.example.com", nil, future)
	selfSigned := issue(t, nil, "leaf", []string{"other.example"}, past)
	otherCA := issue(t, nil, "ca", nil, future)
	chain := func(cs ...*certificate) (out []*x509.Certificate) {
		for _, c := range cs {
			out = append(out, c.Certificate)
		}
		return out
	}
	for _, tt := range []struct {
		name    string
		records []Record
		chain   []*x509.Certificate
		ok      bool
	}{
		{"3 1 1", []Record{record(3, 1, 1, leaf.Certificate)}, chain(leaf, ca), true},
		{"3 0 2", []Record{record(3, 0, 2, leaf.Certificate)}, chain(leaf, ca), true},
		{"3 1 0", []Record{record(3, 1, 0, leaf.Certificate)}, chain(leaf), true},
		{"3 0 0", []Record{record(3, 0, 0, leaf.Certificate)}, chain(leaf), true},
		{"3 1 1, expired, self-signed, of another name", []Record{record(3, 1, 1, selfSigned.Certificate)}, chain(selfSigned), true},
		{"3 1 1 of another key", []Record{record(3, 1, 1, ca.Certificate)}, chain(leaf, ca), false},
		{"old and new key", []Record{record(3, 1, 1, ca.Certificate), record(3, 1, 1, leaf.Certificate)}, chain(leaf, ca), true},
		{"only the weaker digest matches", []Record{record(3, 1, 1, leaf.Certificate), record(3, 1, 2, ca.Certificate)}, chain(leaf, ca), false},
		{"Full is not passed over for a digest", []Record{record(3, 1, 0, leaf.Certificate), record(3, 1, 2, ca.Certificate)}, chain(leaf, ca), true},
		{"2 0 1", []Record{record(2, 0, 1, ca.Certificate)}, chain(leaf, ca), true},
		{"2 1 1", []Record{record(2, 1, 1, ca.Certificate)}, chain(leaf, ca), true},
		{"2 0 1, name is the next-hop domain", []Record{record(2, 0, 1, ca.Certificate)}, chain(byDomain, ca), true},
		{"2 0 1, another name", []Record{record(2, 0, 1, ca.Certificate)}, chain(otherName, ca), false},
		{"2 0 1, expired leaf", []Record{record(2, 0, 1, ca.Certificate)}, chain(expired, ca), false},
		{"2 0 1, Common Name only", []Record{record(2, 0, 1, ca.Certificate)}, chain(cnOnly, ca), true},
		{"2 0 1, anchor not sent", []Record{record(2, 0, 1, ca.Certificate)}, chain(leaf), false},
		{"2 0 0, anchor not sent", []Record{record(2, 0, 0, ca.Certificate)}, chain(leaf), true},
		{"2 1 0, anchor not sent", []Record{record(2, 1, 0, ca.Certificate)}, chain(leaf), true},
		{"2 1 0 of another authority", []Record{record(2, 1, 0, otherCA.Certificate)}, chain(leaf), false},
		{"2 0 1, a chain that the anchor did not sign", []Record{record(2, 0, 1, otherCA.Certificate)}, chain(leaf, otherCA), false},
		{"no certificate", []Record{record(3, 1, 1, leaf.Certificate)}, nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set := NewRRset("mx.example.com", tt.records)
			r, err := set.Verify(tt.chain, []string{"mx.example.com", "example.com"}, now)
			if (err == nil) != tt.ok {
				t.Fatalf("matched %s, %v", r, err)
			}
			if tt.ok && !r.Usable() {
				t.Errorf("matched by %s, which is not usable", r)
			}
		})
	}
}

func TestUnusableRecords(t *testing.T) {
	leaf := issue(t, nil, "leaf", []string{"mx.example.com"}, now.AddDate(1, 0, 0)).Certificate
	good := record(3, 1, 1, leaf)
	for _, r := range []Record{
		{0, 1, 1, good.Data}, {1, 1, 1, good.Data}, {4, 1, 1, good.Data}, {255, 0, 0, good.Data},
		{3, 2, 1, good.Data}, {3, 9, 1, good.Data}, {3, 1, 3, good.Data}, {3, 1, 9, good.Data},
		{3, 1, 1, good.Data[:31]}, {3, 1, 2, good.Data}, {3, 1, 1, nil}, {3, 0, 0, []byte("no certificate")}, {3, 1, 0, []byte("no key")},
	} {
		if r.Usable() {
			t.Errorf("%s is usable", r)
		}
		set := NewRRset("mx.example.com", []Record{r})
		if _, err := set.Verify([]*x509.Certificate{leaf}, nil, now); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: %v", r, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	leaf := issue(f, nil, "leaf", []string{"mx.example.com"}, now.AddDate(1, 0, 0)).Certificate
	good := record(3, 1, 1, leaf)
	f.Add(uint8(3), uint8(1), uint8(1), good.Data)
	f.Add(uint8(2), uint8(1), uint8(0), leaf.RawSubjectPublicKeyInfo)
	f.Add(uint8(2), uint8(0), uint8(0), leaf.Raw)
	f.Fuzz(func(t *testing.T, usage, selector, matching uint8, data []byte) {
		set := NewRRset("mx.example.com", []Record{{usage, selector, matching, data}})
		r, err := set.Verify([]*x509.Certificate{leaf}, []string{"mx.example.com"}, now)
		if err == nil && !r.Usable() {
			t.Errorf("%s matched", r)
		}
	})
}

package security

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/sts"
	"github.com/stsrelay/stsrelay/sts/dane"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

const host = "mx1.example.com"

// session is a named evidence, with what it is worth told by hand.
type session struct {
	name      string
	evidence  Evidence
	encrypted bool              // TLS 1.2 or later
	pkix      bool              // and a trusted certificate for the host
	fails     tlsrpt.ResultType // first failure for a demand of verified TLS
}

// sessions are all kinds of evidence there are: how far STARTTLS came, the
// version, each verdict on the chain, the name.
func sessions(t *testing.T, chain []*x509.Certificate) (out []session) {
	t.Helper()
	add := func(name string, e Evidence, encrypted, pkix bool, fails tlsrpt.ResultType) {
		e.Host, e.At = host, time.Now()
		if e.Certificate != Trusted {
			e.CertificateCode, e.CertificateText = map[Certificate]Code{Untrusted: CodeUntrusted, Outdated: CodeExpired}[e.Certificate], phrase.Quote("is bad")
		}
		out = append(out, session{name, e, encrypted, pkix, fails})
	}
	add("no STARTTLS", Evidence{StartTLS: NotOffered}, false, false, tlsrpt.StartTLSNotSupported)
	add("STARTTLS refused", Evidence{StartTLS: Refused, Failure: phrase.Quote("454 no")}, false, false, tlsrpt.StartTLSNotSupported)
	add("handshake broken", Evidence{StartTLS: Broken, Failure: phrase.Quote("EOF")}, false, false, tlsrpt.ValidationFailure)
	add("TLS 1.1", Evidence{StartTLS: Established, Version: tls.VersionTLS11, Chain: chain, NameMatches: true}, false, false, tlsrpt.ValidationFailure)
	add("RC4", Evidence{StartTLS: Established, Version: tls.VersionTLS12, Suite: tls.TLS_ECDHE_RSA_WITH_RC4_128_SHA, Chain: chain, NameMatches: true}, false, false, tlsrpt.ValidationFailure)
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for verdict, fails := range map[Certificate]tlsrpt.ResultType{Trusted: "", Untrusted: tlsrpt.CertificateNotTrusted, Outdated: tlsrpt.CertificateExpired} {
			for _, name := range []bool{true, false} {
				f := fails
				if f == "" && !name {
					f = tlsrpt.CertificateHostMismatch
				}
				add(fmt.Sprintf("%s, chain %d, name %t", tls.VersionName(v), verdict, name),
					Evidence{StartTLS: Established, Version: v, Chain: chain, Certificate: verdict, NameMatches: name}, true, f == "", f)
			}
		}
	}
	for i := range out {
		with := out[i]
		with.name += ", REQUIRETLS offered"
		with.evidence.OffersRequireTLS = true
		out = append(out, with)
	}
	return out
}

// Every requirement meets every evidence; what is expected is worked out from
// the sentences of the RFCs, not by the code under test.
func TestEveryRequirementMeetsEveryEvidence(t *testing.T) {
	chain := testChain(t)
	good := dane.NewRRset(host, []dane.Record{{Usage: 3, Selector: 1, MatchingType: 1, Data: spkiHash(chain[0])}})
	bad := dane.NewRRset(host, []dane.Record{{Usage: 3, Selector: 1, MatchingType: 1, Data: make([]byte, 32)}})
	unusable := dane.NewRRset(host, []dane.Record{{Usage: 1, Selector: 1, MatchingType: 1, Data: make([]byte, 32)}})
	names := &sts.Policy{MX: []string{host}}
	others := &sts.Policy{MX: []string{"*.other.example"}}
	n := 0
	for policyName, p := range map[string]*sts.Policy{"none": nil, "names": names, "others": others} {
		for _, mode := range []sts.Mode{sts.ModeEnforce, sts.ModeTesting, sts.ModeNone} {
			for tlsaName, tlsa := range map[string]*dane.RRset{"none": nil, "good": good, "bad": bad, "unusable": unusable} {
				for _, level := range []Level{NoLevel, Encrypt, Verify, Secure, VerifyDANE} {
					for flags := range 32 {
						r := Requirement{Domain: "example.com", Host: host, TLSA: tlsa, Level: level, Names: []string{".other.example", host},
							Override: flags&1 != 0, RequireTLS: flags&2 != 0, TLSOptional: flags&4 != 0, MXSecure: flags&8 != 0, RefusePlaintext: flags&16 != 0}
						if p != nil {
							r.Policy = &sts.Policy{Mode: mode, MX: p.MX}
						}
						for _, s := range sessions(t, chain) {
							n++
							if want, err := expectedPassword(&r, tlsaName, policyName, &s), r.MaySendPassword(&s.evidence); (err == nil) != want {
								t.Fatalf("policy %s (%s), TLSA %s, level %d, flags %04b, %s: password: %v, want sent = %t", policyName, mode, tlsaName, level, flags, s.name, err, want)
							}
							want := expected(&r, tlsaName, policyName, &s)
							err := r.Satisfied(&s.evidence)
							if (err == nil) != want {
								t.Fatalf("policy %s (%s), TLSA %s, level %d, flags %04b, %s: %v, want satisfied = %t", policyName, mode, tlsaName, level, flags, s.name, err, want)
							}
							checkVerdicts(t, &r, &s, err)
						}
					}
				}
			}
		}
	}
	t.Logf("%d pairs", n)
}

// expected says whether mail may travel.
func expected(r *Requirement, tlsa, policy string, s *session) bool {
	published := !r.Override && (!r.TLSOptional || r.RequireTLS)
	daneHolds := tlsa == "good" && s.encrypted
	ok := true
	if tlsa != "none" && published {
		ok = ok && s.encrypted && tlsa != "bad"
	}
	if policy != "none" && r.Policy.Mode == sts.ModeEnforce && published {
		ok = ok && policy == "names" && (s.pkix || daneHolds)
	}
	if r.RefusePlaintext {
		ok = ok && s.encrypted
	}
	switch r.Level {
	case Encrypt:
		ok = ok && s.encrypted
	case Verify:
		ok = ok && s.pkix
	case Secure:
		ok = ok && s.pinned()
	case VerifyDANE:
		ok = ok && daneHolds && vouched(r, policy)
	}
	if r.RequireTLS {
		ok = ok && s.encrypted && vouched(r, policy) && (daneHolds || s.pkix) && s.evidence.OffersRequireTLS
	}
	return ok
}

// vouched reports whether somebody vouches for the host's name.
func vouched(r *Requirement, policy string) bool {
	return policy == "names" && r.Policy.Mode == sts.ModeEnforce || r.MXSecure
}

// pinned reports whether the certificate, which is always for the host, counts for
// the host's pinned name.
func (s *session) pinned() bool { return s.encrypted && s.evidence.Certificate == Trusted }

// expectedPassword reports whether the password may be sent.
func expectedPassword(r *Requirement, tlsa, policy string, s *session) bool {
	if r.Level == Secure {
		return s.pinned()
	}
	return s.encrypted && vouched(r, policy) && (tlsa == "good" || s.pkix)
}

// checkVerdicts holds the verdicts against the answer: the first binding one
// with a shortfall is the error, each published policy has exactly one, and
// what is reported is what the session lacked.
func checkVerdicts(t *testing.T, r *Requirement, s *session, err error) {
	t.Helper()
	var first *Shortfall
	seen := make(map[Source]int)
	for _, v := range r.Judge(&s.evidence, nil) {
		seen[v.Source]++
		if v.Shortfall == nil {
			continue
		}
		if v.Shortfall.Source != v.Source || v.Shortfall.Type == "" || v.Shortfall.Code == "" || v.Shortfall.Text.IsZero() {
			t.Fatalf("incomplete shortfall %+v of %s", v.Shortfall, v.Source)
		}
		if v.Source == MTASTS && v.Shortfall.Code != CodeMXMismatch && v.Shortfall.Type != s.fails {
			t.Fatalf("%s is reported as %s, want %s", s.name, v.Shortfall.Type, s.fails)
		}
		if v.Binding && first == nil {
			first = v.Shortfall
		}
	}
	got, _ := errors.AsType[*Shortfall](err)
	if first == nil != (got == nil) || first != nil && !reflect.DeepEqual(first, got) {
		t.Fatalf("Satisfied says %v, the verdicts %v", got, first)
	}
	hasPolicy := r.Policy != nil && r.Policy.Mode != sts.ModeNone
	if want := b2i(hasPolicy); seen[MTASTS] != want {
		t.Fatalf("%d verdicts of MTA-STS, want %d", seen[MTASTS], want)
	}
	if want := b2i(!hasPolicy && r.TLSA == nil); seen[Opportunistic] != want {
		t.Fatalf("%d verdicts for no policy, want %d", seen[Opportunistic], want)
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func testChain(t *testing.T) []*x509.Certificate {
	t.Helper()
	n, err := testnet.New(testnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	cert, err := n.CA.Issue(host, testnet.CertSpec{})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return []*x509.Certificate{leaf}
}

func TestAHostThatThePolicyDoesNotNameIsNotContacted(t *testing.T) {
	others := &sts.Policy{Mode: sts.ModeEnforce, MX: []string{"*.other.example"}}
	for _, tt := range []struct {
		name string
		r    Requirement
		want bool
	}{
		{"enforce", Requirement{Host: host, Policy: others}, false},
		{"testing", Requirement{Host: host, Policy: &sts.Policy{Mode: sts.ModeTesting, MX: others.MX}}, true},
		{"overridden", Requirement{Host: host, Policy: others, Override: true}, true},
		{"waived by the sender", Requirement{Host: host, Policy: others, TLSOptional: true}, true},
		{"waived, but REQUIRETLS", Requirement{Host: host, Policy: others, TLSOptional: true, RequireTLS: true}, false},
		{"named", Requirement{Host: "mx.other.example", Policy: others}, true},
		{"no policy", Requirement{Host: host}, true},
	} {
		if err := tt.r.Admits(); (err == nil) != tt.want {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// The verdicts on real certificates.
func TestObserve(t *testing.T) {
	n, err := testnet.New(testnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	for _, tt := range []struct {
		name    string
		spec    testnet.CertSpec
		verdict Certificate
		code    Code
		named   bool
	}{
		{"good", testnet.CertSpec{}, Trusted, "", true},
		{"wildcard", testnet.CertSpec{Names: []string{"*.example.com"}}, Trusted, "", true},
		{"wildcard of another level", testnet.CertSpec{Names: []string{"*.mx1.example.com"}}, Trusted, "", false},
		{"wildcard in a part of a label", testnet.CertSpec{Names: []string{"mx*.example.com"}}, Trusted, "", false},
		{"other name", testnet.CertSpec{Names: []string{"example.com"}}, Trusted, "", false},
		{"name in the Common Name only", testnet.CertSpec{CNOnly: true}, Trusted, "", false},
		{"expired", testnet.CertSpec{Expired: true}, Outdated, "expired", true},
		{"not yet valid", testnet.CertSpec{NotYetValid: true}, Outdated, "not-yet-valid", true},
		{"self-signed", testnet.CertSpec{SelfSigned: true}, Untrusted, "self-signed", true},
		{"unknown authority", testnet.CertSpec{UnknownCA: true}, Untrusted, "unknown-authority", true},
		{"intermediate withheld", testnet.CertSpec{NoChain: true}, Untrusted, "unknown-authority", true},
		{"intermediate sent", testnet.CertSpec{Intermediate: true}, Trusted, "", true},
	} {
		cert, err := n.CA.Issue(host, tt.spec)
		if err != nil {
			t.Fatal(err)
		}
		cs := tls.ConnectionState{Version: tls.VersionTLS13}
		for _, der := range cert.Certificate {
			c, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			cs.PeerCertificates = append(cs.PeerCertificates, c)
		}
		e := Evidence{Host: host}
		e.Observe(cs, n.CA.Roots(), time.Now())
		if e.StartTLS != Established || e.Certificate != tt.verdict || e.CertificateCode != tt.code || e.NameMatches != tt.named {
			t.Errorf("%s: verdict %d (%s), name %t; want %d (%s), %t", tt.name, e.Certificate, e.CertificateCode, e.NameMatches, tt.verdict, tt.code, tt.named)
		}
		if e.CertificateText.IsZero() != (tt.verdict == Trusted) {
			t.Errorf("%s: text is %q", tt.name, e.CertificateText)
		}
	}
}

func BenchmarkSatisfied(b *testing.B) {
	e := Evidence{Host: host, StartTLS: Established, Version: tls.VersionTLS13, NameMatches: true, At: time.Now()}
	r := Requirement{Domain: "example.com", Host: host, Policy: &sts.Policy{Mode: sts.ModeEnforce, MX: []string{"*.example.net", "*.example.com"}}}
	b.ReportAllocs()
	for b.Loop() {
		if err := r.Satisfied(&e); err != nil {
			b.Fatal(err)
		}
	}
}

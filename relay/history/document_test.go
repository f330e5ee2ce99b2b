package history

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func proved(id string, p Proof) Record {
	fetched := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	r := attempt(id, "anna@sender.example", "kurt@a.example", "delivered")
	r.Host, r.IP = "mx.a.example", "192.0.2.7"
	r.TLS = &TLS{Version: "TLS 1.3", Cipher: "TLS_AES_128_GCM_SHA256", Group: "X25519MLKEM768", Proof: p, PolicyID: "20261101", PolicyMode: "enforce", PolicyFetched: &fetched,
		TLSA: "3 1 1 abcd", Certificate: &Certificate{SHA256: "0aff", Subject: "CN=mx.a.example", Names: []string{"mx.a.example"}, Issuer: "CN=Test CA",
			NotBefore: fetched, NotAfter: fetched.AddDate(0, 3, 0)}}
	if p == ProofNone {
		r.TLS = &TLS{Proof: p}
	}
	return r
}

// Each proof has its own sentence in each language, and no placeholder is left in it.
func TestEvidenceSaysWhoVouched(t *testing.T) {
	c := newClock()
	l := open(t, t.TempDir(), c)
	l.Add(Record{Kind: Accepted, QueueID: "01DANE", MessageID: "<01DANE@sender.example>", From: "anna@sender.example", To: []string{"kurt@a.example"}, Size: 10240})
	proofs := map[string]Proof{"01DANE": ProofDANE, "01STS": ProofSTS, "01VER": ProofVerified, "01ENC": ProofEncrypted, "01CLEAR": ProofNone}
	for id, p := range proofs {
		l.Add(proved(id, p))
	}
	broken := proved("01BROKE", ProofNone)
	broken.TLS.OfferedAndBroke = true
	l.Add(broken)
	for _, row := range []struct{ id, language, has string }{
		{"01DANE", "en", "TLSA record that DNSSEC signs (3 1 1 abcd)"},
		{"01DANE", "de", "TLSA-Record veröffentlicht, den DNSSEC signiert (3 1 1 abcd)"},
		{"01STS", "en", "a.example publishes a policy (id 20261101, mode enforce, fetched 2026-11-20 08:00 UTC) that names mx.a.example."},
		{"01STS", "de", "a.example veröffentlicht eine Policy (id 20261101, Modus enforce, geholt 2026-11-20 08:00 UTC), die mx.a.example nennt."},
		{"01VER", "en", "issued by CN=Test CA. That mx.a.example takes the mail of a.example was said by DNS without a signature"},
		{"01VER", "de", "von CN=Test CA ausgestellt. Dass mx.a.example die Mail von a.example annimmt"},
		{"01ENC", "en", "nobody vouched for the host"},
		{"01ENC", "de", "niemand bürgt für den Host"},
		{"01CLEAR", "en", "No TLS. The message went in clear"},
		{"01CLEAR", "de", "Kein TLS. Die Nachricht ging im Klartext"},
		{"01BROKE", "en", "the handshake failed"},
		{"01BROKE", "de", "der Handshake schlug fehl"},
	} {
		for name, write := range map[string]func([]Evidence, string) ([]byte, error){"text": Text, "html": HTML} {
			all, err := l.Evidence(t.Context(), "<"+row.id+"@sender.example>", "relay.example", "1.0")
			if err != nil || len(all) != 1 {
				t.Fatal(row.id, all, err)
			}
			b, err := write(all, row.language)
			if err != nil {
				t.Fatal(row.id, err)
			}
			s := string(b)
			for _, want := range []string{row.has, "kurt@a.example", "mx.a.example", "250 2.0.0 kurt@a.example queued as 4Xk", all[0].Chains[0].Value, "relay.example"} {
				if !strings.Contains(s, want) {
					t.Errorf("%s %s %s: no %q in\n%s", row.id, row.language, name, want, s)
				}
			}
			for _, bad := range []string{"{D", "{H", "{T", "{P", "{I", "<no value>", "ZgotmplZ"} {
				if strings.Contains(s, bad) {
					t.Errorf("%s %s %s has %q:\n%s", row.id, row.language, name, bad, s)
				}
			}
		}
	}
	if _, err := l.Evidence(t.Context(), "01NONE", "relay.example", "1.0"); !errors.Is(err, ErrNothing) {
		t.Errorf("of no message: %v", err)
	}
	all, err := l.Evidence(t.Context(), "01DANE", "relay.example", "1.0")
	if err != nil || all[0].Size != 10240 || !all[0].Chains[0].Whole || all[0].Accepted.IsZero() {
		t.Errorf("%+v, %v", all, err)
	}
	if _, err := Text(all, "fr"); err == nil || !strings.Contains(err.Error(), "en, de") {
		t.Errorf("another language: %v", err)
	}
}

// All languages have the same phrases.
func TestLanguagesHaveTheSamePhrases(t *testing.T) {
	first, err := wordsOf(Languages[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range Languages[1:] {
		w, err := wordsOf(name)
		if err != nil {
			t.Fatal(err)
		}
		for key := range first {
			if w[key] == "" {
				t.Errorf("%s has no %q", name, key)
			}
		}
		if len(w) != len(first) {
			t.Errorf("%s has %d phrases, not %d", name, len(w), len(first))
		}
	}
}

func TestSummary(t *testing.T) {
	c := newClock()
	l := open(t, t.TempDir(), c)
	l.Add(proved("01A", ProofDANE))
	l.Add(proved("01B", ProofSTS))
	l.Add(proved("01C", ProofNone))
	l.Add(attempt("01D", "anna@sender.example", "kurt@b.example", "deferred"))
	s, err := l.Summary(t.Context(), c.Now().Add(-time.Hour), c.Now().Add(time.Hour))
	if err != nil || s.Deliveries != 3 || s.ByProof[ProofDANE] != 1 || s.ByProof[ProofNone] != 1 || s.InClear["a.example"] != 1 || len(s.InClear) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}

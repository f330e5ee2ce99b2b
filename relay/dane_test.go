package relay_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// secureHost signs the address of a host and publishes TLSA records for it.
func (w *world) secureHost(h *testnet.Host, tlsa ...string) {
	w.t.Helper()
	w.DNS.Secure(h.Name, true)
	w.DNS.Secure("_25._tcp."+h.Name, true)
	for _, r := range tlsa {
		if err := w.DNS.Add(fmt.Sprintf("_25._tcp.%s. 60 IN TLSA %s", h.Name, r)); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) tlsa(h *testnet.Host, usage, selector, matching uint8) string {
	w.t.Helper()
	r, err := h.TLSA(usage, selector, matching)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// DANE and MTA-STS meet, over real sockets.
func TestDANEMeetsMTASTS(t *testing.T) {
	const bad = "3 1 1 0000000000000000000000000000000000000000000000000000000000000000"
	selfSigned := testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}}
	for _, tt := range []struct {
		name   string
		faults testnet.Faults
		tlsa   func(w *world, h *testnet.Host)
		// without a policy, with a good enforced one, with an enforced one that
		// does not name the host
		without, enforced, other outcome
		why                      string // part of what the queue says where DANE holds the message or verifies it
	}{
		{"no records", testnet.Faults{}, func(w *world, h *testnet.Host) { w.secureHost(h) }, encrypted, verified, held, ""},
		{"3 1 1 fits", selfSigned, func(w *world, h *testnet.Host) { w.secureHost(h, w.tlsa(h, 3, 1, 1)) }, verified, verified, held, ""},
		{"3 0 2 fits", selfSigned, func(w *world, h *testnet.Host) { w.secureHost(h, w.tlsa(h, 3, 0, 2)) }, verified, verified, held, ""},
		{"3 1 0 fits", selfSigned, func(w *world, h *testnet.Host) { w.secureHost(h, w.tlsa(h, 3, 1, 0)) }, verified, verified, held, ""},
		{"2 0 1 fits", testnet.Faults{Cert: testnet.CertSpec{Intermediate: true}}, func(w *world, h *testnet.Host) { w.secureHost(h, w.tlsa(h, 2, 0, 1)) }, verified, verified, held, ""},
		{
			"2 0 1 fits, the name does not", testnet.Faults{Cert: testnet.CertSpec{Intermediate: true, Names: []string{"other.example"}}},
			func(w *world, h *testnet.Host) { w.secureHost(h, w.tlsa(h, 2, 0, 1)) }, held, held, held, "do not fit",
		},
		{"one of two fits", selfSigned, func(w *world, h *testnet.Host) { w.secureHost(h, bad, w.tlsa(h, 3, 1, 1)) }, verified, verified, held, ""},
		{"3 1 1 of another key", testnet.Faults{}, func(w *world, h *testnet.Host) { w.secureHost(h, bad) }, held, held, held, "do not fit"},
		{"3 1 1 and no STARTTLS", testnet.Faults{NoStartTLS: true}, func(w *world, h *testnet.Host) { w.secureHost(h, w.tlsa(h, 3, 1, 1)) }, held, held, held, "starttls-not-supported"},
		{"unusable records only", selfSigned, func(w *world, h *testnet.Host) { w.secureHost(h, w.tlsa(h, 1, 1, 1)) }, encrypted, held, held, ""},
		{"unusable records and no STARTTLS", testnet.Faults{NoStartTLS: true}, func(w *world, h *testnet.Host) { w.secureHost(h, w.tlsa(h, 1, 1, 1)) }, held, held, held, "starttls-not-supported"},
		{"lookup bogus", testnet.Faults{}, func(w *world, h *testnet.Host) {
			w.secureHost(h)
			w.DNS.Fail("_25._tcp."+h.Name, "TLSA", testnet.Bogus)
		}, held, held, held, "cannot be looked up"},
		{"records of an unsigned host", testnet.Faults{}, func(w *world, h *testnet.Host) {
			w.secureHost(h, bad)
			w.DNS.Secure(h.Name, false)
		}, encrypted, verified, held, ""},
		{"records that nobody has signed", testnet.Faults{}, func(w *world, h *testnet.Host) {
			w.secureHost(h, bad)
			w.DNS.Secure("_25._tcp."+h.Name, false)
		}, encrypted, verified, held, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, policy := range []struct {
				name string
				mx   string
				want outcome
			}{{"no policy", "", tt.without}, {"enforce", "mx1.dane.example", tt.enforced}, {"enforce, another host", "mx9.dane.example", tt.other}} {
				t.Run(policy.name, func(t *testing.T) {
					w := newWorld(t, "")
					h := w.host("mx1.dane.example")
					if err := h.Set(tt.faults); err != nil {
						t.Fatal(err)
					}
					tt.tlsa(w, h)
					d := testnet.Domain{MX: []string{h.Name}}
					if policy.mx != "" {
						d.Policy = policyFor("enforce", policy.mx)
					}
					w.domain("dane.example", d)
					why := tt.why
					if policy.mx == "mx9.dane.example" {
						why = "" // either may be told
					}
					w.expect(h, policy.want, why, "dane.example")
				})
			}
		})
	}
}

// expect sends a message to a domain of one host and checks what becomes of it.
func (w *world) expect(h *testnet.Host, want outcome, why, domain string) {
	w.t.Helper()
	before := h.Counts()
	m, gone := w.attempted(w.send("anna@sender.example", "kurt@"+domain))
	if want == held {
		if gone {
			w.t.Fatal("the message has left the queue")
		}
		if c := h.Counts(); c.Mails > before.Mails {
			w.t.Errorf("%d MAIL commands were sent", c.Mails-before.Mails)
		}
		if got := m.States[0].LastError; !strings.Contains(got, why) {
			w.t.Errorf("the reason is %q, want %q in it", got, why)
		}
		return
	}
	if !gone {
		w.t.Fatalf("not delivered: %q", m.States[0].LastError)
	}
	got := h.Messages()
	if int64(len(got)) != before.Messages+1 {
		w.t.Fatalf("%d messages came in", len(got))
	}
	if tls := got[len(got)-1].TLS; tls != (want != clear) {
		w.t.Errorf("TLS = %t, want %s", tls, want)
	}
}

// The name behind a secure alias is asked for TLSA records first, and is the
// SNI (RFC 7672, 2.2.2).
func TestTheTLSABaseDomainIsTheEndOfTheAlias(t *testing.T) {
	w := newWorld(t, "")
	h := w.host("real.alias.example")
	if err := h.Set(testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}}); err != nil {
		t.Fatal(err)
	}
	w.secureHost(h, w.tlsa(h, 3, 1, 1))
	w.DNS.Secure("mx.alias.example", true)
	if err := w.DNS.Add("mx.alias.example. 60 IN CNAME real.alias.example."); err != nil {
		t.Fatal(err)
	}
	w.domain("alias.example", testnet.Domain{MX: []string{"mx.alias.example"}})
	w.expect(h, verified, "", "alias.example")
	if got := h.Messages()[0].SNI; got != "real.alias.example" {
		t.Errorf("SNI %q", got)
	}
}

// A second host takes the mail where the records of the first cannot be had.
func TestAFailedTLSALookupLeadsToTheNextHost(t *testing.T) {
	w := newWorld(t, "")
	h1, h2 := w.host("mx1.next.example"), w.host("mx2.next.example")
	w.secureHost(h1)
	w.DNS.Fail("_25._tcp."+h1.Name, "TLSA", testnet.ServFail)
	w.domain("next.example", testnet.Domain{MX: []string{h1.Name, h2.Name}})
	w.expect(h2, encrypted, "", "next.example")
	if c := h1.Counts(); c.Connections != 0 {
		t.Errorf("%d connections to a host whose TLSA records are hidden", c.Connections)
	}
}

// One packet that is lost must not make a signed host look unsigned.
func TestALostAddressAnswerDoesNotSwitchDANEOff(t *testing.T) {
	w := newWorld(t, "")
	h := w.host("mx1.lost.example")
	w.secureHost(h, "3 1 1 0000000000000000000000000000000000000000000000000000000000000000")
	w.DNS.Fail(h.Name, "AAAA", testnet.ServFail)
	w.domain("lost.example", testnet.Domain{MX: []string{h.Name}})
	w.expect(h, held, "do not fit", "lost.example")
}

func TestDANECanBeSwitchedOff(t *testing.T) {
	for _, toml := range []string{"[dane]\nenabled = false\n", ""} {
		w := newWorld(t, toml)
		h := w.host("mx1.off.example")
		w.secureHost(h, "3 1 1 0000000000000000000000000000000000000000000000000000000000000000")
		w.domain("off.example", testnet.Domain{MX: []string{h.Name}})
		want := held
		if toml != "" {
			want = encrypted
		}
		w.expect(h, want, "", "off.example")
	}
}

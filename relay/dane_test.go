package relay_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
)

// DANE and MTA-STS meet, over real sockets.
func TestDANEMeetsMTASTS(t *testing.T) {
	all := e2e.New(t, "")
	const bad = "3 1 1 0000000000000000000000000000000000000000000000000000000000000000"
	selfSigned := testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}}
	for i, tt := range []struct {
		name   string
		faults testnet.Faults
		tlsa   func(w *e2e.World, h *testnet.Host)
		// without a policy, with a good enforced one, with an enforced one that
		// does not name the host
		without, enforced, other outcome
		why                      string // part of what the queue says where DANE holds the message or verifies it
	}{
		{"no records", testnet.Faults{}, func(w *e2e.World, h *testnet.Host) { w.SecureHost(h) }, encrypted, verified, held, ""},
		{"3 1 1 fits", selfSigned, func(w *e2e.World, h *testnet.Host) { w.SecureHost(h, w.TLSA(h, 3, 1, 1)) }, verified, verified, held, ""},
		{"3 0 2 fits", selfSigned, func(w *e2e.World, h *testnet.Host) { w.SecureHost(h, w.TLSA(h, 3, 0, 2)) }, verified, verified, held, ""},
		{"3 1 0 fits", selfSigned, func(w *e2e.World, h *testnet.Host) { w.SecureHost(h, w.TLSA(h, 3, 1, 0)) }, verified, verified, held, ""},
		{"2 0 1 fits", testnet.Faults{Cert: testnet.CertSpec{Intermediate: true}}, func(w *e2e.World, h *testnet.Host) { w.SecureHost(h, w.TLSA(h, 2, 0, 1)) }, verified, verified, held, ""},
		{
			"2 0 1 fits, the name does not", testnet.Faults{Cert: testnet.CertSpec{Intermediate: true, Names: []string{"other.example"}}},
			func(w *e2e.World, h *testnet.Host) { w.SecureHost(h, w.TLSA(h, 2, 0, 1)) }, held, held, held, "do not fit",
		},
		{"one of two fits", selfSigned, func(w *e2e.World, h *testnet.Host) { w.SecureHost(h, bad, w.TLSA(h, 3, 1, 1)) }, verified, verified, held, ""},
		{"3 1 1 of another key", testnet.Faults{}, func(w *e2e.World, h *testnet.Host) { w.SecureHost(h, bad) }, held, held, held, "do not fit"},
		{"3 1 1 and no STARTTLS", testnet.Faults{NoStartTLS: true}, func(w *e2e.World, h *testnet.Host) { w.SecureHost(h, w.TLSA(h, 3, 1, 1)) }, held, held, held, "starttls-not-supported"},
		{"unusable records only", selfSigned, func(w *e2e.World, h *testnet.Host) { w.SecureHost(h, w.TLSA(h, 1, 1, 1)) }, encrypted, held, held, ""},
		{"unusable records and no STARTTLS", testnet.Faults{NoStartTLS: true}, func(w *e2e.World, h *testnet.Host) { w.SecureHost(h, w.TLSA(h, 1, 1, 1)) }, held, held, held, "starttls-not-supported"},
		{"lookup bogus", testnet.Faults{}, func(w *e2e.World, h *testnet.Host) {
			w.SecureHost(h)
			w.DNS.Fail("_25._tcp."+h.Name, "TLSA", testnet.Bogus)
		}, held, held, held, "cannot be looked up"},
		{"records of an unsigned host", testnet.Faults{}, func(w *e2e.World, h *testnet.Host) {
			w.SecureHost(h, bad)
			w.DNS.Secure(h.Name, false)
		}, encrypted, verified, held, ""},
		{"records that nobody has signed", testnet.Faults{}, func(w *e2e.World, h *testnet.Host) {
			w.SecureHost(h, bad)
			w.DNS.Secure("_25._tcp."+h.Name, false)
		}, encrypted, verified, held, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for j, policy := range []struct {
				name string
				mx   string
				want outcome
			}{{"no policy", "", tt.without}, {"enforce", "mx1.", tt.enforced}, {"enforce, another host", "mx9.", tt.other}} {
				t.Run(policy.name, func(t *testing.T) {
					w := all.In(t)
					domain := fmt.Sprintf("dane-%d-%d.example", i, j)
					h := w.Host("mx1." + domain)
					w.SetFaults(h, tt.faults)
					tt.tlsa(w, h)
					d := testnet.Domain{MX: []string{h.Name}}
					if policy.mx != "" {
						d.Policy = e2e.PolicyFor("enforce", policy.mx+domain)
					}
					w.Domain(domain, d)
					why := tt.why
					if policy.mx == "mx9." {
						why = "" // either may be told
					}
					expect(w, h, policy.want, why, domain)
				})
			}
		})
	}
}

// expect sends a message to a domain of one host and checks what becomes of it.
func expect(w *e2e.World, h *testnet.Host, want outcome, why, domain string) {
	w.T.Helper()
	before := h.Counts()
	m, gone := w.Attempted(w.Send("anna@sender.example", "kurt@"+domain))
	if want == held {
		if gone {
			w.T.Fatal("the message has left the queue")
		}
		if c := h.Counts(); c.Mails > before.Mails {
			w.T.Errorf("%d MAIL commands were sent", c.Mails-before.Mails)
		}
		if got := m.States[0].LastError; !strings.Contains(got, why) {
			w.T.Errorf("the reason is %q, want %q in it", got, why)
		}
		return
	}
	if !gone {
		w.T.Fatalf("not delivered: %q", m.States[0].LastError)
	}
	got := h.Messages()
	if int64(len(got)) != before.Messages+1 {
		w.T.Fatalf("%d messages came in", len(got))
	}
	if tls := got[len(got)-1].TLS; tls != (want != clear) {
		w.T.Errorf("TLS = %t, want %s", tls, want)
	}
}

// The name behind a secure alias is asked for TLSA records first, and is the SNI where they
// can be used (RFC 7672, 2.2.2). Where they cannot, it is the name of the MX record (RFC
// 8461, 7.1).
func TestTheTLSABaseDomainIsTheEndOfTheAlias(t *testing.T) {
	for usage, sni := range map[uint8]string{3: "real.alias.example", 1: "mx.alias.example"} {
		w := e2e.New(t, "")
		h := w.Host("real.alias.example")
		w.SetFaults(h, testnet.Faults{Cert: testnet.CertSpec{Names: []string{"mx.alias.example"}}})
		w.SecureHost(h, w.TLSA(h, usage, 1, 1))
		w.DNS.Secure("mx.alias.example", true)
		w.AddRecords("mx.alias.example. 60 IN CNAME real.alias.example.")
		w.Domain("alias.example", testnet.Domain{MX: []string{"mx.alias.example"}, Policy: e2e.PolicyFor("enforce", "mx.alias.example")})
		expect(w, h, verified, "", "alias.example")
		if got := h.Messages()[0].SNI; got != sni {
			t.Errorf("usage %d: SNI %q", usage, got)
		}
	}
}

// A second host takes the mail where the records of the first cannot be had.
func TestAFailedTLSALookupLeadsToTheNextHost(t *testing.T) {
	w := e2e.New(t, "")
	h1, h2 := w.Host("mx1.next.example"), w.Host("mx2.next.example")
	w.SecureHost(h1)
	w.DNS.Fail("_25._tcp."+h1.Name, "TLSA", testnet.ServFail)
	w.Domain("next.example", testnet.Domain{MX: []string{h1.Name, h2.Name}})
	expect(w, h2, encrypted, "", "next.example")
	if c := h1.Counts(); c.Connections != 0 {
		t.Errorf("%d connections to a host whose TLSA records are hidden", c.Connections)
	}
}

// One packet that is lost must not make a signed host look unsigned.
func TestALostAddressAnswerDoesNotSwitchDANEOff(t *testing.T) {
	w := e2e.New(t, "")
	h := w.Host("mx1.lost.example")
	w.SecureHost(h, "3 1 1 0000000000000000000000000000000000000000000000000000000000000000")
	w.DNS.Fail(h.Name, "AAAA", testnet.ServFail)
	w.Domain("lost.example", testnet.Domain{MX: []string{h.Name}})
	expect(w, h, held, "do not fit", "lost.example")
}

func TestDANECanBeSwitchedOff(t *testing.T) {
	for _, toml := range []string{"[dane]\nenabled = false\n", ""} {
		w := e2e.New(t, toml)
		h := w.Host("mx1.off.example")
		w.SecureHost(h, "3 1 1 0000000000000000000000000000000000000000000000000000000000000000")
		w.Domain("off.example", testnet.Domain{MX: []string{h.Name}})
		want := held
		if toml != "" {
			want = encrypted
		}
		expect(w, h, want, "", "off.example")
	}
}

// Where the address of a host cannot be looked up, nobody knows whether DANE
// applies to it. A session that is open for mail which DANE does not hold is no
// way around that.
func TestAnOpenSessionIsNoWayAroundDANE(t *testing.T) {
	w := e2e.New(t, "retry = [\"1h\"]\n[[domain]]\nname = \"free.example\"\ntls = \"opportunistic\"\noverride_policy = true\n")
	h := w.Host("mx.signed.example")
	w.SetFaults(h, testnet.Faults{NoStartTLS: true})
	w.SecureHost(h, w.TLSA(h, 3, 1, 1))
	w.DNS.Remove(h.Name, "A")
	if err := w.DNS.Add(h.Name + ". 0 IN A " + h.IP); err != nil { // not to be kept
		t.Fatal(err)
	}
	for _, d := range []string{"free.example", "strict.example"} {
		w.Domain(d, testnet.Domain{MX: []string{h.Name}})
	}
	w.Send("anna@sender.example", "kurt@free.example")
	w.Received(h, 1)
	w.DNS.Fail(h.Name, "A", testnet.ServFail)
	m, gone := w.Attempted(w.Send("anna@sender.example", "kurt@strict.example"))
	if gone {
		t.Fatal("it was sent in clear to a host with TLSA records")
	}
	if why := m.States[0].ReasonCode; why != "dns" {
		t.Errorf("it waits for %q: %q", why, m.States[0].LastError)
	}
}

const wrongTLSA = "3 1 1 0000000000000000000000000000000000000000000000000000000000000000"

// Nothing of an answer that is a failure counts (RFC 7672, 2.1.1), whatever records
// and bits come with it: no mail goes to a host of a forged MX record, or past a
// TLSA record that does not pass.
func TestRecordsOfAFailureAreNotBelieved(t *testing.T) {
	for _, fault := range []testnet.Fault{testnet.Bogus, testnet.ServFail, testnet.Refused} {
		for _, rrtype := range []string{"MX", "A", "TLSA"} {
			t.Run(string(fault)+" for "+rrtype, func(t *testing.T) {
				w, _ := e2e.NewLoggedBehind(t, testnet.ResolverFaults{FailedRecords: true}, "")
				h := w.DANEHost("mx.d.example")
				w.DNS.Secure("d.example", true)
				w.Domain("d.example", testnet.Domain{MX: []string{h.Name}})
				w.DNS.Fail(map[string]string{"MX": "d.example", "A": h.Name, "TLSA": "_25._tcp." + h.Name}[rrtype], rrtype, fault)
				expect(w, h, held, "", "d.example")
				if n := h.Counts().Connections; n != 0 {
					t.Errorf("%d connections", n)
				}
			})
		}
	}
}

// What stands in the log of a session that the TLSA records of the host vouch for
// says whether somebody vouches for the host (RFC 7672, 2.2.1).
func TestDANEOfAnUnsignedMXIsNotToldAsVerified(t *testing.T) {
	for _, signed := range []bool{true, false} {
		w, log := e2e.NewLogged(t, "")
		h := w.DANEHost("mx.provider.example")
		w.DNS.Secure("d.example", signed)
		w.Domain("d.example", testnet.Domain{MX: []string{h.Name}})
		expect(w, h, verified, "", "d.example")
		if told := strings.Contains(log.String(), "verified by DANE"); told != signed {
			t.Errorf("MX signed %t: told as verified: %t\n%s", signed, told, log)
		}
	}
}

// With MX records that are not signed the host's name is the only one that its
// certificate may have (RFC 7672, 3.2.2); with signed ones the domain's will do,
// and that at the end of its aliases.
func TestReferenceIdentifiers(t *testing.T) {
	for _, tt := range []struct {
		certificate string
		signed      bool
		want        outcome
	}{
		{"mx.provider.example", true, verified}, {"mx.provider.example", false, verified},
		{"d.example", true, verified}, {"d.example", false, held},
		{"end.example", true, verified}, {"end.example", false, held},
		{"other.example", true, held},
	} {
		t.Run(fmt.Sprintf("%s, MX signed %t", tt.certificate, tt.signed), func(t *testing.T) {
			w := e2e.New(t, "")
			h := w.Host("mx.provider.example")
			w.SetFaults(h, testnet.Faults{Cert: testnet.CertSpec{Intermediate: true, Names: []string{tt.certificate}}})
			w.SecureHost(h, w.TLSA(h, 2, 0, 1))
			w.DNS.Secure("d.example", tt.signed)
			w.DNS.Secure("end.example", tt.signed)
			if err := w.DNS.Add("d.example. 60 IN CNAME end.example."); err != nil {
				t.Fatal(err)
			}
			w.Domain("end.example", testnet.Domain{MX: []string{h.Name}})
			expect(w, h, tt.want, "", "d.example")
		})
	}
}

// A signed alias of the host that leads into a zone that is not signed has its TLSA
// records at its own name (RFC 7672, 2.2.2).
func TestASignedAliasIntoAnUnsignedZone(t *testing.T) {
	for _, tt := range []struct {
		name   string
		signed bool
		fault  testnet.Fault
		wrong  bool
		want   outcome
	}{
		{"fits", true, "", false, verified},
		{"does not fit", true, "", true, held},
		{"alias not signed", false, "", true, encrypted},
		{"alias cannot be looked up", true, testnet.ServFail, false, held},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := e2e.New(t, "")
			h := w.Host("host.provider.example")
			w.SetFaults(h, testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}})
			tlsa := w.TLSA(h, 3, 1, 1)
			if tt.wrong {
				tlsa = wrongTLSA
			}
			w.DNS.Secure("mx.d.example", tt.signed)
			w.DNS.Secure("_25._tcp.mx.d.example", true)
			w.DNS.Fail("mx.d.example", "CNAME", tt.fault)
			if err := w.DNS.Add("mx.d.example. 60 IN CNAME host.provider.example.", "_25._tcp.mx.d.example. 60 IN TLSA "+tlsa); err != nil {
				t.Fatal(err)
			}
			w.Domain("d.example", testnet.Domain{MX: []string{"mx.d.example"}})
			expect(w, h, tt.want, "", "d.example")
		})
	}
}

// Mail flows behind a resolver of any kind; what it cannot do is told, and DANE is
// believed of one that validates only.
func TestResolversOfAllKinds(t *testing.T) {
	for _, tt := range []struct {
		name   string
		server testnet.ResolverFaults
		warns  string
	}{
		{"validates", testnet.ResolverFaults{}, ""},
		{"validates, beside one who forges", testnet.ResolverFaults{Forgeries: 3}, ""},
		{"validates, sends large answers", testnet.ResolverFaults{Oversize: true}, ""},
		{"validates nothing", testnet.ResolverFaults{NoValidation: true}, "does not validate DNSSEC"},
		{"FORMERR to EDNS", testnet.ResolverFaults{NoEDNS: dns.RcodeFormatError}, "EDNS"},
		{"NOTIMP to EDNS", testnet.ResolverFaults{NoEDNS: dns.RcodeNotImplemented}, "EDNS"},
		{"SERVFAIL to EDNS", testnet.ResolverFaults{NoEDNS: dns.RcodeServerFailure}, "EDNS"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, log := e2e.NewLoggedBehind(t, tt.server, "")
			for _, d := range []string{"a.example", "b.example"} {
				h := w.DANEHost("mx."+d, wrongTLSA)
				w.DNS.Secure(d, true)
				w.Domain(d, testnet.Domain{MX: append([]string{h.Name}, many(40, d)...)})
				if tt.warns == "" {
					expect(w, h, held, "do not fit", d)
				} else {
					expect(w, h, encrypted, "", d)
				}
			}
			warnings := strings.Count(log.String(), `"resolver":"`+w.DNS.Addr())
			off := strings.Contains(log.String(), "DANE is off")
			if tt.warns == "" && (warnings > 0 || off) || tt.warns != "" && (warnings != 1 || !off || !strings.Contains(log.String(), tt.warns)) {
				t.Errorf("%d warnings, DANE off %t: %s", warnings, off, log)
			}
		})
	}
}

// many are names of hosts that are not there.
func many(n int, domain string) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("a-rather-long-name-of-a-mail-host-%d.%s", i, domain))
	}
	return names
}

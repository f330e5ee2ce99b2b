package relay_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

const wrongTLSA = "3 1 1 0000000000000000000000000000000000000000000000000000000000000000"

// daneHost is a signed host with a self-signed certificate and its TLSA record.
func (w *world) daneHost(name string, tlsa ...string) *testnet.Host {
	w.t.Helper()
	h := w.host(name)
	w.set(h, testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}})
	if len(tlsa) == 0 {
		tlsa = []string{w.tlsa(h, 3, 1, 1)}
	}
	w.secureHost(h, tlsa...)
	return h
}

// Nothing of an answer that is a failure counts (RFC 7672, 2.1.1), whatever records
// and bits come with it: no mail goes to a host of a forged MX record, or past a
// TLSA record that does not pass.
func TestRecordsOfAFailureAreNotBelieved(t *testing.T) {
	for _, fault := range []testnet.Fault{testnet.Bogus, testnet.ServFail, testnet.Refused} {
		for _, rrtype := range []string{"MX", "A", "TLSA"} {
			t.Run(string(fault)+" for "+rrtype, func(t *testing.T) {
				w, _ := newLoggedWorldBehind(t, testnet.ResolverFaults{FailedRecords: true}, "")
				h := w.daneHost("mx.d.example")
				w.DNS.Secure("d.example", true)
				w.domain("d.example", testnet.Domain{MX: []string{h.Name}})
				w.DNS.Fail(map[string]string{"MX": "d.example", "A": h.Name, "TLSA": "_25._tcp." + h.Name}[rrtype], rrtype, fault)
				w.expect(h, held, "", "d.example")
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
		w, log := newLoggedWorld(t, "")
		h := w.daneHost("mx.provider.example")
		w.DNS.Secure("d.example", signed)
		w.domain("d.example", testnet.Domain{MX: []string{h.Name}})
		w.expect(h, verified, "", "d.example")
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
			w := newWorld(t, "")
			h := w.host("mx.provider.example")
			w.set(h, testnet.Faults{Cert: testnet.CertSpec{Intermediate: true, Names: []string{tt.certificate}}})
			w.secureHost(h, w.tlsa(h, 2, 0, 1))
			w.DNS.Secure("d.example", tt.signed)
			w.DNS.Secure("end.example", tt.signed)
			if err := w.DNS.Add("d.example. 60 IN CNAME end.example."); err != nil {
				t.Fatal(err)
			}
			w.domain("end.example", testnet.Domain{MX: []string{h.Name}})
			w.expect(h, tt.want, "", "d.example")
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
			w := newWorld(t, "")
			h := w.host("host.provider.example")
			w.set(h, testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}})
			tlsa := w.tlsa(h, 3, 1, 1)
			if tt.wrong {
				tlsa = wrongTLSA
			}
			w.DNS.Secure("mx.d.example", tt.signed)
			w.DNS.Secure("_25._tcp.mx.d.example", true)
			w.DNS.Fail("mx.d.example", "CNAME", tt.fault)
			if err := w.DNS.Add("mx.d.example. 60 IN CNAME host.provider.example.", "_25._tcp.mx.d.example. 60 IN TLSA "+tlsa); err != nil {
				t.Fatal(err)
			}
			w.domain("d.example", testnet.Domain{MX: []string{"mx.d.example"}})
			w.expect(h, tt.want, "", "d.example")
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
			w, log := newLoggedWorldBehind(t, tt.server, "")
			for _, d := range []string{"a.example", "b.example"} {
				h := w.daneHost("mx."+d, wrongTLSA)
				w.DNS.Secure(d, true)
				w.domain(d, testnet.Domain{MX: append([]string{h.Name}, many(40, d)...)})
				if tt.warns == "" {
					w.expect(h, held, "do not fit", d)
				} else {
					w.expect(h, encrypted, "", d)
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

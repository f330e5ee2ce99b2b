package check

import (
	"crypto/ed25519"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/stsrelay/stsrelay/internal/dkim"
	"github.com/stsrelay/stsrelay/internal/testnet"
)

// selfWorld is a relay of which all is in order, in a fake Internet.
func selfWorld(t *testing.T) (w *world, o SelfOptions, publish func(record string)) {
	w = newWorldAt(t, time.Now)
	w.host("mx1.a.example", testnet.Faults{})
	w.enforced("a.example", "mx1.a.example")
	publish = func(record string) {
		t.Helper()
		rr, err := dns.NewRR(record)
		w.ok(err)
		w.DNS.Remove(strings.TrimSuffix(rr.Header().Name, "."), dns.TypeToString[rr.Header().Rrtype])
		w.ok(w.DNS.Add(record))
	}
	publish("relay.test.example. 60 IN A 192.0.2.1")
	publish("1.2.0.192.in-addr.arpa. 60 IN PTR relay.test.example.")
	publish(`test.example. 60 IN TXT "v=spf1 a:relay.test.example -all"`)
	publish(`_dmarc.test.example. 60 IN TXT "v=DMARC1; p=reject"`)
	key := &dkim.Key{Domain: "test.example", Selector: "s", Signer: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))}
	record, err := key.Record("tlsrpt", "email")
	w.ok(err)
	publish(fmt.Sprintf("s._domainkey.test.example. 60 IN TXT %q", record))
	o = SelfOptions{Options: w.options, Domains: []string{"a.example"}, Senders: []string{"test.example"}, Keys: []SelfKey{{key, []string{"reports"}}}}
	return w, o, publish
}

func TestSelf(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(w *world, o *SelfOptions, publish func(string))
		want   string // part of the text; "" all is in order
		ready  bool
	}{
		{"all in order", func(*world, *SelfOptions, func(string)) {}, "", true},
		{"no address", func(w *world, _ *SelfOptions, _ func(string)) { w.DNS.Remove("relay.test.example", "A") }, "FAIL  the name relay.test.example, which the relay greets with, has no address", false},
		{"no way back", func(w *world, _ *SelfOptions, _ func(string)) { w.DNS.Remove("1.2.0.192.in-addr.arpa", "PTR") }, "FAIL  the address 192.0.2.1 of relay.test.example leads back to no name", false},
		{"another name back", func(_ *world, _ *SelfOptions, publish func(string)) {
			publish("1.2.0.192.in-addr.arpa. 60 IN PTR host-1.provider.example.")
		}, "warn  the address 192.0.2.1 of relay.test.example leads back to host-1.provider.example", true},
		{"port 25 blocked", func(w *world, _ *SelfOptions, _ func(string)) { w.ok(w.hosts[0].Set(testnet.Faults{Down: true})) },
			"FAIL  no host could be reached on port 25: mx1.a.example", false},
		{"nowhere to try", func(_ *world, o *SelfOptions, _ func(string)) { o.Domains = nil }, "note  whether port 25 is open to the outside was not tried", true},
		{"the clock", func(_ *world, o *SelfOptions, _ func(string)) {
			o.Now = func() time.Time { return time.Now().Add(-90 * time.Minute) }
		},
			"FAIL  the clock of this machine differs from that of mta-sts.a.example by 1h", false},
		{"SPF for another", func(_ *world, _ *SelfOptions, publish func(string)) {
			publish(`test.example. 60 IN TXT "v=spf1 ip4:198.51.100.7 -all"`)
		}, "FAIL  the SPF record of test.example does not allow 192.0.2.1 (fail)", false},
		{"SPF of where mail comes from", func(_ *world, o *SelfOptions, _ func(string)) {
			o.SourceIPs = append(o.SourceIPs, netip.MustParseAddr("198.51.100.7"))
		},
			"FAIL  the SPF record of test.example does not allow 198.51.100.7 (fail)", false},
		{"no SPF", func(w *world, _ *SelfOptions, _ func(string)) { w.DNS.Remove("test.example", "TXT") }, "warn  test.example has no SPF record", true},
		{"a broken SPF", func(_ *world, _ *SelfOptions, publish func(string)) {
			publish(`test.example. 60 IN TXT "v=spf1 nonsense"`)
		},
			"warn  the SPF record of test.example cannot be evaluated", true},
		{"no DKIM record", func(w *world, _ *SelfOptions, _ func(string)) { w.DNS.Remove("s._domainkey.test.example", "TXT") },
			"FAIL  the record of the DKIM key s._domainkey.test.example: it is not published yet", false},
		{"no resolver answers", func(w *world, _ *SelfOptions, _ func(string)) {
			w.DNS.SetResolver(testnet.ResolverFaults{Down: testnet.ServFail})
		}, "FAIL  no resolver answers: ", false},
		{"a resolver that does not validate", func(w *world, _ *SelfOptions, _ func(string)) {
			w.DNS.SetResolver(testnet.ResolverFaults{NoValidation: true})
		}, "warn  DANE is off: no resolver is believed to validate DNSSEC: ", true},
		{"a resolver that does not validate, and DANE is not wanted", func(w *world, o *SelfOptions, _ func(string)) {
			w.DNS.SetResolver(testnet.ResolverFaults{NoValidation: true})
			o.NoDANE = true
		}, "", true},
		{"a resolver without EDNS", func(w *world, _ *SelfOptions, _ func(string)) {
			w.DNS.SetResolver(testnet.ResolverFaults{NoEDNS: dns.RcodeFormatError})
		}, "warn  DANE is off: no resolver is believed to validate DNSSEC: ", true},
		{"a resolver that has no answer for the root zone", func(w *world, _ *SelfOptions, _ func(string)) {
			w.DNS.Fail(".", "NS", testnet.ServFail)
		}, "has no answer for the root zone", true},
		{"no DMARC", func(w *world, _ *SelfOptions, _ func(string)) { w.DNS.Remove("_dmarc.test.example", "TXT") }, "warn  test.example has no DMARC record", true},
		{"a broken DMARC record", func(_ *world, _ *SelfOptions, publish func(string)) {
			publish(`_dmarc.test.example. 60 IN TXT "v=DMARC1; rua=mailto:a@test.example"`)
		},
			"warn  the DMARC record at _dmarc.test.example cannot be used", true},
		{"two DMARC records", func(w *world, _ *SelfOptions, _ func(string)) {
			w.ok(w.DNS.Add(`_dmarc.test.example. 60 IN TXT "v=DMARC1; p=none"`))
		}, "there are 2 records that begin with v=DMARC1", true},
		{"DMARC of the organization", func(w *world, o *SelfOptions, publish func(string)) {
			o.Senders = []string{"sub.test.example"}
			publish(`sub.test.example. 60 IN TXT "v=spf1 a:relay.test.example -all"`)
		}, "", true},
		{"DMARC that wants the very domain to sign", func(w *world, o *SelfOptions, publish func(string)) {
			o.Senders = []string{"sub.test.example"}
			publish(`sub.test.example. 60 IN TXT "v=spf1 a:relay.test.example -all"`)
			publish(`_dmarc.test.example. 60 IN TXT "v=DMARC1; p=none; sp=quarantine; adkim=s"`)
		}, "note  this relay has no DKIM key that is aligned with sub.test.example", true},
		{"a DKIM record for reports alone", func(w *world, o *SelfOptions, publish func(string)) {
			record, err := o.Keys[0].Record("tlsrpt")
			w.ok(err)
			publish(fmt.Sprintf("s._domainkey.test.example. 60 IN TXT %q", record))
		}, "warn  the record of the DKIM key s._domainkey.test.example: it says s=tlsrpt alone", true},
		{"a certificate of its own", func(_ *world, o *SelfOptions, _ func(string)) { o.NoCertificate = true }, "note  the relay's own certificate is self-made", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, o, publish := selfWorld(t)
			tt.change(w, &o, publish)
			r := Self(t.Context(), o)
			var b strings.Builder
			w.ok(r.Text(&b, false))
			text := strings.Join(strings.Fields(b.String()), " ")
			if r.Ready() != tt.ready || !strings.Contains(text, strings.Join(strings.Fields(tt.want), " ")) || tt.want == "" && len(r.Problems) > 0 {
				t.Errorf("ready %t\n%s", r.Ready(), b.String())
			}
		})
	}
}

func TestSelfSaysWhatIsInOrder(t *testing.T) {
	_, o, _ := selfWorld(t)
	r := Self(t.Context(), o)
	if want := "[relay.test.example has the address 192.0.2.1, which leads back to it"; !strings.HasPrefix(fmt.Sprint(r.Good), want) || len(r.Good) != 7 {
		t.Errorf("%q", r.Good)
	}
}

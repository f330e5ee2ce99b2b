package check

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/relay/outbound"
	"github.com/stsrelay/stsrelay/relay/security"
)

var update = flag.Bool("update", false, "write the golden files anew")

// scenarios are states of a domain and what becomes of its mail. Each is a file
// under testdata.
var scenarios = []struct {
	name        string
	deliverable bool
	setup       func(w *world, domain string)
}{
	{name: "good-sts", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.host("mx2."+d, testnet.Faults{Cert: testnet.CertSpec{Intermediate: true}})
		w.enforced(d, "mx1."+d, "mx2."+d)
	}},
	{name: "good-hosted", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.enforced(d, "mx1."+d)
		w.DNS.Remove("_mta-sts."+d, "TXT")
		w.ok(w.DNS.Add("_mta-sts."+d+". 60 IN CNAME _mta-sts."+d+".provider.example.", "_mta-sts."+d+".provider.example. 60 IN TXT \"v=STSv1; id=7;\""))
	}},
	{name: "good-dane", deliverable: true, setup: func(w *world, d string) {
		h := w.host("mx1."+d, testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}})
		w.ok(w.AddDomain(d, testnet.Domain{MX: []string{h.Name}}))
		w.sign(d)
		w.tlsa(h, false)
	}},
	{name: "nothing-published", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{Cert: testnet.CertSpec{Names: []string{"other." + d}}})
		w.ok(w.AddDomain(d, testnet.Domain{MX: []string{"mx1." + d}}))
	}},
	{name: "in-clear", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{NoStartTLS: true})
		w.ok(w.AddDomain(d, testnet.Domain{MX: []string{"mx1." + d}}))
	}},
	{name: "ehlo-refused-within-tls", setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{Replies: map[string]string{"ehlo-tls": "554 5.7.1 your address is blocked", "helo": "554 5.7.1 your address is blocked"}})
		w.ok(w.AddDomain(d, testnet.Domain{MX: []string{"mx1." + d}}))
	}},
	{name: "handshake-broken", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{InjectAfter220: true})
		w.ok(w.AddDomain(d, testnet.Domain{MX: []string{"mx1." + d}}))
	}},
	{name: "record-malformed", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.enforced(d, "mx1."+d)
		w.DNS.Remove("_mta-sts."+d, "TXT")
		w.ok(w.DNS.Add(fmt.Sprintf("_mta-sts.%s. 60 IN TXT %q", d, "v=STSv1; id=2026-06-01")))
	}},
	{name: "record-two", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.domain(d, "enforce", []string{"mx1." + d}, []string{"*.mx." + d})
		w.ok(w.DNS.Add(fmt.Sprintf("_mta-sts.%s. 60 IN TXT %q", d, "v=STSv1; id=20250101;")))
	}},
	{name: "record-missing", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.enforced(d, "mx1."+d)
		w.DNS.Remove("_mta-sts."+d, "TXT")
		w.ok(w.DNS.Add(fmt.Sprintf("_mta-sts.%s. 60 IN TXT %q", d, "V=STSv1; id=20250101;")))
	}},
	{name: "record-servfail", setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.enforced(d, "mx1."+d)
		w.DNS.Fail("_mta-sts."+d, "TXT", testnet.ServFail)
		w.site(d, testnet.PolicyFaults{Down: true})
	}},
	{name: "policy-host-missing", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.ok(w.AddDomain(d, testnet.Domain{MX: []string{"mx1." + d}}))
		w.ok(w.DNS.Add(fmt.Sprintf("_mta-sts.%s. 60 IN TXT %q", d, "v=STSv1; id=1")))
	}},
	{name: "policy-host-name", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.enforced(d, "mx1."+d)
		w.site(d, testnet.PolicyFaults{Cert: testnet.CertSpec{Names: []string{"www." + d, d}}})
	}},
	{name: "policy-host-expired", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.enforced(d, "mx1."+d)
		w.site(d, testnet.PolicyFaults{Cert: testnet.CertSpec{Expired: true}})
	}},
	{name: "policy-404", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.enforced(d, "mx1."+d)
		w.site(d, testnet.PolicyFaults{Status: 404})
	}},
	{name: "policy-redirect", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.enforced(d, "mx1."+d)
		w.site(d, testnet.PolicyFaults{Status: 301, Location: "https://www." + d + "/mta-sts.txt"})
	}},
	{name: "policy-html", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.enforced(d, "mx1."+d)
		w.site(d, testnet.PolicyFaults{ContentType: "text/html"})
	}},
	{name: "policy-invalid", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.enforced(d, "mx1."+d)
		w.site(d, testnet.PolicyFaults{Body: "version: STSv1\nmode: enforced\nmx: mx1." + d + "\nmax_age: 86400\n"})
	}},
	{name: "policy-bare-cr", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.enforced(d, "mx1."+d)
		w.site(d, testnet.PolicyFaults{Body: "version: STSv1\rmode: enforce\rmx: mx1." + d + "\rmax_age: 86400\r"})
	}},
	{name: "policy-empty", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.enforced(d, "mx1."+d)
		w.site(d, testnet.PolicyFaults{EmptyBody: true})
	}},
	{name: "policy-utf-16", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.enforced(d, "mx1."+d)
		w.site(d, testnet.PolicyFaults{Body: "\xff\xfev\x00e\x00r\x00s\x00i\x00o\x00n\x00\r\x00\n\x00"})
	}},
	{name: "policy-gzip", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.enforced(d, "mx1."+d)
		w.site(d, testnet.PolicyFaults{Coding: "gzip"})
	}},
	{name: "policy-gzip-as-text", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.enforced(d, "mx1."+d)
		w.site(d, testnet.PolicyFaults{Body: "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03abc"})
	}},
	{name: "policy-brotli", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.enforced(d, "mx1."+d)
		w.site(d, testnet.PolicyFaults{Coding: "br", Body: "\x8b\x02\x80abc\x03"})
	}},
	{name: "policy-web-page", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.enforced(d, "mx1."+d)
		w.site(d, testnet.PolicyFaults{Body: "<!DOCTYPE html>\n<html><body>Welcome</body></html>\n"})
	}},
	{name: "policy-many-remarks", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.enforced(d, "mx1."+d)
		var odd strings.Builder
		for i := range 130 {
			fmt.Fprintf(&odd, "x-%d: y\n", i)
		}
		for i := range 7 {
			fmt.Fprintf(&odd, "mx: *.*.%d.example\n", i)
		}
		w.site(d, testnet.PolicyFaults{Body: "version: STSv1\nmode: enforce\n  mx: mx1." + d + "\nMX: mx2." + d + "\n" + odd.String() + "max_age: 9999999999\n"})
	}},
	{name: "policy-host-unknown-name", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.enforced(d, "mx1."+d)
		w.site(d, testnet.PolicyFaults{UnknownName: true})
	}},
	{name: "nothing-can-be-looked-up", setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.enforced(d, "mx1."+d)
		w.DNS.Fail("_mta-sts."+d, "TXT", testnet.ServFail)
		w.DNS.Fail(d, "MX", testnet.ServFail)
		w.site(d, testnet.PolicyFaults{Down: true})
	}},
	{name: "policy-endless", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.enforced(d, "mx1."+d)
		w.site(d, testnet.PolicyFaults{Endless: true})
	}},
	{name: "policy-host-down", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.enforced(d, "mx1."+d)
		w.site(d, testnet.PolicyFaults{Down: true})
	}},
	{name: "policy-host-tls11", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.enforced(d, "mx1."+d)
		w.site(d, testnet.PolicyFaults{TLS11: true})
	}},
	{name: "policy-host-self-signed", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.enforced(d, "mx1."+d)
		w.site(d, testnet.PolicyFaults{Cert: testnet.CertSpec{SelfSigned: true}})
	}},
	{name: "policy-remarks", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.host("mx2."+d, testnet.Faults{})
		w.domain(d, "testing", []string{"mx1." + d, "mx2." + d}, []string{"mx1." + d})
		w.site(d, testnet.PolicyFaults{ContentType: "-", Body: "version: STSv1\r\nmode: testing\nmode: enforce\nmx: mx1." + d + "\nmx: *.old." + d + "\nmx: mail\u00e9." + d + "\nmax_age: 3600\ncontact: hostmaster\n"})
	}},
	{name: "policy-none", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.domain(d, "none", []string{"mx1." + d}, nil)
	}},
	{name: "mx-not-in-policy", setup: func(w *world, d string) {
		w.host("mx1.moved."+d, testnet.Faults{})
		w.domain(d, "enforce", []string{"mx1.moved." + d}, []string{"mx1." + d, "*.backup." + d})
	}},
	{name: "starttls-missing", setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{NoStartTLS: true})
		w.enforced(d, "mx1."+d)
	}},
	{name: "starttls-refused-second-good", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{StartTLSReply: "454 4.7.0 TLS not available"})
		w.host("mx2."+d, testnet.Faults{With: []string{"REQUIRETLS"}})
		w.enforced(d, "mx1."+d, "mx2."+d)
	}},
	{name: "mx-expired", setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{Cert: testnet.CertSpec{Expired: true}})
		w.enforced(d, "mx1."+d)
	}},
	{name: "mx-wrong-name", setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{Cert: testnet.CertSpec{Names: []string{"mail." + d, "www." + d, d, "a." + d, "b." + d}}})
		w.enforced(d, "mx1."+d)
	}},
	{name: "mx-self-signed", setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}})
		w.enforced(d, "mx1."+d)
	}},
	{name: "mx-no-intermediate", setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{Cert: testnet.CertSpec{NoChain: true}})
		w.enforced(d, "mx1."+d)
	}},
	{name: "small-client-hello", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{Hello: testnet.HelloDrop})
		w.enforced(d, "mx1."+d)
		w.site(d, testnet.PolicyFaults{Hello: testnet.HelloSegment})
	}},
	{name: "rsa-key-exchange", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{Cert: testnet.CertSpec{RSA: true}, Suites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}})
		w.enforced(d, "mx1."+d)
	}},
	{name: "rc4", setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{Cert: testnet.CertSpec{RSA: true}, Suites: []uint16{tls.TLS_RSA_WITH_RC4_128_SHA}})
		w.enforced(d, "mx1."+d)
	}},
	{name: "starttls-refused", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{StartTLSReply: "454 4.7.0 the key cannot be read"})
		w.ok(w.AddDomain(d, testnet.Domain{MX: []string{"mx1." + d}}))
	}},
	{name: "mx-tls11", setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{TLS11: true})
		w.enforced(d, "mx1."+d)
	}},
	{name: "mx-down", setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{Down: true})
		w.host("mx2."+d, testnet.Faults{Replies: map[string]string{"greeting": "554 5.7.1 your address is listed"}})
		w.enforced(d, "mx1."+d, "mx2."+d, "mx3."+d)
	}},
	{name: "dane-mismatch", setup: func(w *world, d string) {
		h := w.host("mx1."+d, testnet.Faults{})
		w.enforced(d, h.Name)
		w.sign(d)
		w.tlsa(h, true)
	}},
	{name: "dane-over-sts", deliverable: true, setup: func(w *world, d string) {
		h := w.host("mx1."+d, testnet.Faults{Cert: testnet.CertSpec{Expired: true}})
		w.enforced(d, h.Name)
		w.tlsa(h, false)
	}},
	{name: "dane-unusable", deliverable: true, setup: func(w *world, d string) {
		h := w.host("mx1."+d, testnet.Faults{})
		w.ok(w.AddDomain(d, testnet.Domain{MX: []string{h.Name}}))
		w.ok(w.DNS.Add("_25._tcp." + h.Name + ". 60 IN TLSA 1 1 1 " + strings.Repeat("ab", 32)))
		w.sign(d, h.Name, "_25._tcp."+h.Name)
	}},
	{name: "dane-unusable-no-tls", setup: func(w *world, d string) {
		h := w.host("mx1."+d, testnet.Faults{NoStartTLS: true})
		w.ok(w.AddDomain(d, testnet.Domain{MX: []string{h.Name}}))
		w.ok(w.DNS.Add("_25._tcp." + h.Name + ". 60 IN TLSA 1 1 1 " + strings.Repeat("ab", 32)))
		w.sign(d, h.Name, "_25._tcp."+h.Name)
	}},
	{name: "dane-unsigned", deliverable: true, setup: func(w *world, d string) {
		h := w.host("mx1."+d, testnet.Faults{})
		w.ok(w.AddDomain(d, testnet.Domain{MX: []string{h.Name}}))
		w.tlsa(h, true)
		w.DNS.Secure("_25._tcp."+h.Name, false)
	}},
	{name: "dane-bogus", setup: func(w *world, d string) {
		h := w.host("mx1."+d, testnet.Faults{})
		w.ok(w.AddDomain(d, testnet.Domain{MX: []string{h.Name}}))
		w.sign(d, h.Name)
		w.DNS.Fail("_25._tcp."+h.Name, "TLSA", testnet.Bogus)
	}},
	{name: "no-mx", deliverable: true, setup: func(w *world, d string) {
		w.host(d, testnet.Faults{})
	}},
	{name: "null-mx", setup: func(w *world, d string) {
		w.ok(w.DNS.Add(d + ". 60 IN MX 0 ."))
	}},
	{name: "nxdomain", setup: func(*world, string) {}},
	{name: "mx-servfail", setup: func(w *world, d string) {
		w.DNS.Fail(d, "MX", testnet.Bogus)
	}},
	{name: "mx-alias-and-address", deliverable: true, setup: func(w *world, d string) {
		w.host("real."+d, testnet.Faults{Cert: testnet.CertSpec{Names: []string{"alias." + d}}})
		w.ok(w.DNS.Add("alias."+d+". 60 IN CNAME real."+d+".", d+". 60 IN MX 10 alias."+d+".", d+". 60 IN MX 20 192.0.2.1."))
	}},
	{name: "rule-verify", setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{Cert: testnet.CertSpec{UnknownCA: true}})
		w.ok(w.AddDomain(d, testnet.Domain{MX: []string{"mx1." + d}}))
		w.options.Rules = outbound.Rules{parent(d): {Level: security.Encrypt}, d: {Level: security.Verify}}
	}},
	{name: "rule-dane", setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.enforced(d, "mx1."+d)
		w.options.Rules = outbound.Rules{parent(d): {Level: security.VerifyDANE}}
	}},
	{name: "rule-override", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{Cert: testnet.CertSpec{Expired: true}})
		w.enforced(d, "mx1."+d)
		w.options.Rules = outbound.Rules{d: {Level: security.Encrypt, Override: true}}
	}},
	{name: "rule-route", deliverable: true, setup: func(w *world, d string) {
		w.host("smtp."+d, testnet.Faults{})
		w.ok(w.AddDomain(d, testnet.Domain{MX: []string{"gone." + d}}))
		w.options.AllowPrivate = false // the operator's own hosts may be anywhere
		w.options.Rules = outbound.Rules{d: {Level: security.Verify, Route: &outbound.Route{Host: "smtp." + d, Port: 25, User: "us", Password: "hunter2"}}}
	}},
	{name: "rule-secure", setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{Cert: testnet.CertSpec{Names: []string{"mx.attacker.example"}}})
		w.ok(w.AddDomain(d, testnet.Domain{MX: []string{"mx1." + d}}))
		w.options.Rules = outbound.Rules{d: {Level: security.Secure}}
	}},
	{name: "rule-route-mx-login", setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.ok(w.AddDomain(d, testnet.Domain{MX: []string{"mx1." + d}}))
		w.options.Rules = outbound.Rules{d: {Level: security.Verify, Route: &outbound.Route{Host: d, Port: 25, MX: true, User: "us", Password: "hunter2"}}}
	}},
	{name: "rule-route-nowhere", setup: func(w *world, d string) {
		w.options.Rules = outbound.Rules{d: {Route: &outbound.Route{Host: "partner.example", Port: 25, MX: true}}}
	}},
	{name: "rule-route-login-in-clear", setup: func(w *world, d string) {
		h := w.host("smtp."+d, testnet.Faults{NoStartTLS: true})
		w.options.Rules = outbound.Rules{d: {Opportunistic: true, Route: &outbound.Route{Host: h.IP, Port: 25, User: "us", Password: "hunter2"}}}
	}},
	{name: "rule-opportunistic", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{NoStartTLS: true})
		w.ok(w.AddDomain(d, testnet.Domain{MX: []string{"mx1." + d}}))
		w.options.RefusePlaintext = true
		w.options.Rules = outbound.Rules{d: {Opportunistic: true}}
	}},
	{name: "plaintext-refused", setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{NoStartTLS: true})
		w.ok(w.AddDomain(d, testnet.Domain{MX: []string{"mx1." + d}}))
		w.options.RefusePlaintext = true
	}},
	{name: "this-relay-is-second", setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{Down: true})
		w.host("mx3."+d, testnet.Faults{})
		w.ok(w.AddDomain(d, testnet.Domain{MX: []string{"mx1." + d, w.options.Hostname, "mx3." + d}}))
	}},
	{name: "this-relay-is-best", setup: func(w *world, d string) {
		w.host("mx2."+d, testnet.Faults{})
		w.ok(w.AddDomain(d, testnet.Domain{MX: []string{w.options.Hostname, "mx2." + d}}))
	}},
	{name: "ip-family", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.ok(w.AddDomain(d, testnet.Domain{MX: []string{"mx1." + d}}))
		w.ok(w.DNS.Add("mx1." + d + ". 60 IN AAAA 2001:db8::1"))
		w.options.Family = outbound.IPv4Only
	}},
	{name: "no-host", setup: func(w *world, d string) {
		w.ok(w.DNS.Add(fmt.Sprintf("%s. 60 IN TXT %q", d, "v=spf1 -all")))
	}},
	{name: "mx-nowhere", setup: func(w *world, d string) {
		w.enforced(d, "mx1."+d, "192.0.2.1")
	}},
	{name: "private-address", setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.enforced(d, "mx1."+d)
		w.options.AllowPrivate = false
	}},
	{name: "tls-rpt-faults", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.ok(w.AddDomain(d, testnet.Domain{MX: []string{"mx1." + d}, TLSRPT: "mailto:tls@" + d + ",http://reports." + d + "/v1"}))
	}},
	{name: "records-many", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.ok(w.AddDomain(d, testnet.Domain{MX: []string{"mx1." + d}}))
		for i := range 8 {
			w.ok(w.DNS.Add(fmt.Sprintf("_mta-sts.%s. 60 IN TXT %q", d, fmt.Sprintf("V=STSv1; id=%d", i)), fmt.Sprintf("_smtp._tls.%s. 60 IN TXT %q", d, fmt.Sprintf("v=TLSRPT1; rua=mailto:a%d@%s", i, d))))
		}
	}},
	{name: "tls-rpt-misspelt", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.ok(w.AddDomain(d, testnet.Domain{MX: []string{"mx1." + d}}))
		w.ok(w.DNS.Add(fmt.Sprintf("_smtp._tls.%s. 60 IN TXT %q", d, "v=TLSRPT1; rua=mailto:tls@"+d)))
	}},
	{name: "control-characters", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{Replies: map[string]string{"greeting": "220 mx1 \x1b]0;owned\x07 \u202eEVIL"}})
		w.enforced(d, "mx1."+d)
		w.ok(w.DNS.Add("_mta-sts." + d + `. 60 IN TXT "x\027[31mred\007"`))
		w.site(d, testnet.PolicyFaults{Body: "version: STSv1\nmode: testing\nmx: mx1." + d + "\nmax_age: 1209600\n\x1b[2Jfoo: \x1b[31m\u009b31m\n"})
	}},
}

// parent is the name of a rule for all that lies beside a domain.
func parent(domain string) string { return domain[strings.IndexByte(domain, '.'):] }

func TestReports(t *testing.T) {
	for _, tt := range scenarios {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			domain := "example.org"
			tt.setup(w, domain)
			r := Run(t.Context(), domain, w.options)
			if r.Outcome.Deliverable != tt.deliverable {
				t.Errorf("deliverable: %t, want %t", r.Outcome.Deliverable, tt.deliverable)
			}
			everyProblemIsComplete(t, r)
			var page bytes.Buffer
			w.ok(normal(t, r).Text(&page, false))
			golden(t, tt.name, page.String())
		})
	}
}

// golden compares a text with its file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test ./relay/check -update writes it anew):\n%s", file, got)
	}
}

var (
	loopback = regexp.MustCompile(`127\.\d+\.\d+\.\d+(:\d+)?`)
	digest   = regexp.MustCompile(`\b[0-9a-f]{40,}\b|\b[0-9a-f]{8}…`)
)

// normal is a report in which addresses, ports and digests look the same in
// every run, before lines are broken by their length.
func normal(t *testing.T, r *Report) *Report {
	t.Helper()
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]string)
	text := loopback.ReplaceAllStringFunc(string(data), func(a string) string {
		if host, port, ok := strings.Cut(a, ":"); ok && host == "127.0.0.1" && port != "25" {
			return "127.0.0.1:53"
		} else if ok {
			return seen[host] + ":" + port
		}
		if seen[a] == "" {
			seen[a] = fmt.Sprintf("192.0.2.%d", len(seen)+1)
		}
		return seen[a]
	})
	out := &Report{}
	if err := json.Unmarshal([]byte(digest.ReplaceAllString(text, "[sha256]")), out); err != nil {
		t.Fatal(err)
	}
	return out
}

// everyProblemIsComplete holds that a problem names its rule and its remedy.
func everyProblemIsComplete(t *testing.T, r *Report) {
	t.Helper()
	lists := [][]Problem{r.MX.Problems}
	if r.Record != nil {
		lists = append(lists, r.Record.Problems)
	}
	if r.PolicyHost != nil {
		lists = append(lists, r.PolicyHost.Problems)
	}
	if r.Policy != nil {
		lists = append(lists, r.Policy.Problems)
	}
	if r.Rule != nil {
		lists = append(lists, r.Rule.Problems)
	}
	if r.TLSRPT != nil {
		lists = append(lists, r.TLSRPT.Problems)
	}
	for _, h := range r.Hosts {
		lists = append(lists, h.Problems)
		for _, s := range h.Sessions {
			lists = append(lists, s.Problems)
		}
	}
	faults := 0
	for _, list := range lists {
		for _, p := range list {
			if p.Text == "" || p.Rule == "" || p.Remedy == "" {
				t.Errorf("incomplete: %+v", p)
			}
			if p.Severity == Fault {
				faults++
			}
		}
	}
	if !r.Outcome.Deliverable && faults == 0 {
		t.Error("mail does not go, and nothing is said to be at fault")
	}
}

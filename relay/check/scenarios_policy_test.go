package check

import (
	"fmt"
	"strings"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// policyScenarios are states of the MTA-STS record, the policy host and the policy.
var policyScenarios = []scenario{
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
	{name: "mx-below-the-wildcard", setup: func(w *world, d string) {
		w.host("a.mx."+d, testnet.Faults{Cert: testnet.CertSpec{Names: []string{"*." + d}}})
		w.domain(d, "enforce", []string{"a.mx." + d}, []string{"*." + d})
	}},
	{name: "mx-not-in-policy", setup: func(w *world, d string) {
		w.host("mx1.moved."+d, testnet.Faults{})
		w.domain(d, "enforce", []string{"mx1.moved." + d}, []string{"mx1." + d, "*.backup." + d})
	}},
}

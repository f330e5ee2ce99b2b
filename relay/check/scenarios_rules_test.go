package check

import (
	"strings"

	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/relay/outbound"
	"github.com/stsrelay/stsrelay/relay/security"
)

// ruleScenarios are the operator's rules and settings.
var ruleScenarios = []scenario{
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
	{name: "fallback-hosts-down", deliverable: true, setup: func(w *world, d string) {
		fallback(w, d, outbound.FallbackUnbound, testnet.Faults{})
		w.ok(w.AddDomain(d, testnet.Domain{MX: []string{"mx1." + d}}))
	}},
	{name: "fallback-policy-binds", setup: func(w *world, d string) {
		fallback(w, d, outbound.FallbackUnbound, testnet.Faults{})
		w.enforced(d, "mx1."+d)
	}},
	{name: "fallback-dane-binds", setup: func(w *world, d string) {
		mx := fallback(w, d, outbound.FallbackUnbound, testnet.Faults{})
		w.ok(w.AddDomain(d, testnet.Domain{MX: []string{mx.Name}}))
		w.ok(mx.Set(testnet.Faults{}))
		w.tlsa(mx, false)
		w.ok(mx.Set(testnet.Faults{Down: true}))
		w.sign(d)
	}},
	{name: "fallback-all", deliverable: true, setup: func(w *world, d string) {
		fallback(w, d, outbound.FallbackAll, testnet.Faults{})
		w.enforced(d, "mx1."+d)
	}},
	{name: "fallback-not-verified", setup: func(w *world, d string) {
		fallback(w, d, outbound.FallbackUnbound, testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}})
		w.ok(w.AddDomain(d, testnet.Domain{MX: []string{"mx1." + d}}))
	}},
	{name: "fallback-not-for-a-policy-that-is-not-met", setup: func(w *world, d string) {
		mx := fallback(w, d, outbound.FallbackAll, testnet.Faults{})
		w.ok(mx.Set(testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}}))
		w.enforced(d, "mx1."+d)
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
	{name: "ip-family", deliverable: true, setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.ok(w.AddDomain(d, testnet.Domain{MX: []string{"mx1." + d}}))
		w.ok(w.DNS.Add("mx1." + d + ". 60 IN AAAA 2001:db8::1"))
		w.options.Family = outbound.IPv4Only
	}},
	{name: "private-address", setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{})
		w.enforced(d, "mx1."+d)
		w.options.AllowPrivate = false
	}},
}

// parent is the name of a rule for all that lies beside a domain.
func parent(domain string) string { return domain[strings.IndexByte(domain, '.'):] }

// fallback adds the MX host of a domain, which cannot be reached, and a rule with a
// fallback route, whose host has faults.
func fallback(w *world, d string, kind outbound.Fallback, f testnet.Faults) *testnet.Host {
	w.host("smtp."+d, f)
	w.options.Rules = outbound.Rules{d: {Fallback: kind, Route: &outbound.Route{Host: "smtp." + d, Port: 25}}}
	return w.host("mx1."+d, testnet.Faults{Down: true})
}

package check

import (
	"crypto/tls"
	"fmt"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// hostScenarios are states of MX records and hosts.
var hostScenarios = []scenario{
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
	{name: "this-relay-is-second", setup: func(w *world, d string) {
		w.host("mx1."+d, testnet.Faults{Down: true})
		w.host("mx3."+d, testnet.Faults{})
		w.ok(w.AddDomain(d, testnet.Domain{MX: []string{"mx1." + d, w.options.Hostname, "mx3." + d}}))
	}},
	{name: "this-relay-is-best", setup: func(w *world, d string) {
		w.host("mx2."+d, testnet.Faults{})
		w.ok(w.AddDomain(d, testnet.Domain{MX: []string{w.options.Hostname, "mx2." + d}}))
	}},
	{name: "no-host", setup: func(w *world, d string) {
		w.ok(w.DNS.Add(fmt.Sprintf("%s. 60 IN TXT %q", d, "v=spf1 -all")))
	}},
	{name: "mx-nowhere", setup: func(w *world, d string) {
		w.enforced(d, "mx1."+d, "192.0.2.1")
	}},
}

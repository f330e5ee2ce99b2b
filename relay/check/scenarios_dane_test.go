package check

import (
	"strings"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// daneScenarios are states of TLSA records.
var daneScenarios = []scenario{
	{name: "dane-none-in-a-signed-zone", deliverable: true, setup: func(w *world, d string) {
		h := w.host("mx1."+d, testnet.Faults{})
		w.ok(w.AddDomain(d, testnet.Domain{MX: []string{h.Name}}))
		w.sign(d, h.Name, "_25._tcp."+h.Name)
	}},
	{name: "good-dane", deliverable: true, setup: func(w *world, d string) {
		h := w.host("mx1."+d, testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}})
		w.ok(w.AddDomain(d, testnet.Domain{MX: []string{h.Name}}))
		w.sign(d)
		w.tlsa(h, false)
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
}

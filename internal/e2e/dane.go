package e2e

import (
	"fmt"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// SecureHost signs the address of a host and publishes TLSA records for it.
func (w *World) SecureHost(h *testnet.Host, tlsa ...string) {
	w.T.Helper()
	w.DNS.Secure(h.Name, true)
	w.DNS.Secure("_25._tcp."+h.Name, true)
	for _, r := range tlsa {
		if err := w.DNS.Add(fmt.Sprintf("_25._tcp.%s. 60 IN TLSA %s", h.Name, r)); err != nil {
			w.T.Fatal(err)
		}
	}
}

// DANEHost adds a signed host with a self-signed certificate and its TLSA record.
func (w *World) DANEHost(name string, tlsa ...string) *testnet.Host {
	w.T.Helper()
	h := w.Host(name)
	w.SetFaults(h, testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}})
	if len(tlsa) == 0 {
		tlsa = []string{w.TLSA(h, 3, 1, 1)}
	}
	w.SecureHost(h, tlsa...)
	return h
}

// TLSA is a record that fits the certificate of a host (RFC 6698, 2.1).
func (w *World) TLSA(h *testnet.Host, usage, selector, matching uint8) string {
	w.T.Helper()
	r, err := h.TLSA(usage, selector, matching)
	if err != nil {
		w.T.Fatal(err)
	}
	return r
}

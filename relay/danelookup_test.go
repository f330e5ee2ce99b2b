package relay_test

import (
	"testing"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// Where the address of a host cannot be looked up, nobody knows whether DANE
// applies to it. A session that is open for mail which DANE does not hold is no
// way around that.
func TestAnOpenSessionIsNoWayAroundDANE(t *testing.T) {
	w := newWorld(t, "retry = [\"1h\"]\n[[domain]]\nname = \"free.example\"\ntls = \"opportunistic\"\noverride_policy = true\n")
	h := w.host("mx.signed.example")
	w.set(h, testnet.Faults{NoStartTLS: true})
	w.secureHost(h, w.tlsa(h, 3, 1, 1))
	w.DNS.Remove(h.Name, "A")
	if err := w.DNS.Add(h.Name + ". 0 IN A " + h.IP); err != nil { // not to be kept
		t.Fatal(err)
	}
	for _, d := range []string{"free.example", "strict.example"} {
		w.domain(d, testnet.Domain{MX: []string{h.Name}})
	}
	w.send("anna@sender.example", "kurt@free.example")
	w.wait(h, 1)
	w.DNS.Fail(h.Name, "A", testnet.ServFail)
	m, gone := w.attempted(w.send("anna@sender.example", "kurt@strict.example"))
	if gone {
		t.Fatal("it was sent in clear to a host with TLSA records")
	}
	if why := m.States[0].ReasonCode; why != "dns" {
		t.Errorf("it waits for %q: %q", why, m.States[0].LastError)
	}
}

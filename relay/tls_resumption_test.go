package relay_test

import (
	"fmt"
	"testing"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
)

// A resumed session shows the certificate of the first handshake. What the host
// has mended since is seen all the same.
func TestAMendedCertificateIsSeenInSpiteOfSessionTickets(t *testing.T) {
	for _, mode := range []string{"enforce", "testing"} {
		t.Run(mode, func(t *testing.T) {
			w := e2e.New(t, "retry = [\"1h\"]\n")
			h := w.Host("mx.a.example")
			w.SetFaults(h, testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}})
			w.Domain("a.example", testnet.Domain{MX: []string{h.Name}, Policy: e2e.PolicyFor(mode, h.Name)})
			w.Domain("plain.example", testnet.Domain{MX: []string{h.Name}})
			w.Deliver("x@plain.example") // asks for nothing, and brings a ticket
			h.Cut()
			w.SetFaults(h, testnet.Faults{KeepTickets: true})
			w.Deliver("x@a.example")
			if good, failed := w.Sessions("a.example"); good != 1 || failed != 0 {
				t.Errorf("%d sessions good, %d failed", good, failed)
			}
			if c := h.Counts(); c.Resumed != 1 || c.Handshakes != 3 {
				t.Errorf("%+v: the ticket was not tried, or the second look was none", c)
			}
		})
	}
}

// A certificate that was rolled over as RFC 7671, 8.1 says holds no mail.
func TestARollOverHoldsNoMail(t *testing.T) {
	w := e2e.New(t, "retry = [\"1h\"]\n")
	h := w.Host("mx.a.example")
	w.Domain("a.example", testnet.Domain{MX: []string{h.Name}})
	old := w.TLSA(h, 3, 0, 1)
	w.SecureHost(h)
	name := "_25._tcp." + h.Name
	publish := func(records ...string) {
		t.Helper()
		w.DNS.Remove(name, "TLSA")
		for _, r := range records {
			if err := w.DNS.Add(fmt.Sprintf("%s. 0 IN TLSA %s", name, r)); err != nil {
				t.Fatal(err)
			}
		}
	}
	publish(old)
	w.Deliver("x@a.example")
	h.Cut()
	w.SetFaults(h, testnet.Faults{KeepTickets: true, Cert: testnet.CertSpec{Names: []string{h.Name}}}) // another certificate
	publish(w.TLSA(h, 3, 0, 1))
	w.Deliver("y@a.example")
	if good, failed := w.Sessions("a.example"); good != 2 || failed != 0 {
		t.Errorf("%d sessions good, %d failed", good, failed)
	}
}

// Where there is nothing to be desired, sessions are resumed.
func TestSessionsAreResumed(t *testing.T) {
	w := e2e.New(t, "")
	h := w.Host("mx.a.example")
	w.Domain("a.example", testnet.Domain{MX: []string{h.Name}, Policy: e2e.PolicyFor("enforce", h.Name)})
	for range 3 {
		w.Deliver("x@a.example")
		h.Cut()
	}
	if c := h.Counts(); c.Handshakes != 3 || c.Resumed != 2 {
		t.Errorf("%+v", c)
	}
}

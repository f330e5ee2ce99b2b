package relay_test

import (
	"fmt"
	"testing"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// sessions are how many the report of a domain counts, good and failed.
func (w *world) sessions(domain string) (good, failed int64) {
	w.t.Helper()
	for _, p := range w.report(domain).Policies {
		good, failed = good+p.Summary.Successful, failed+p.Summary.Failed
	}
	return good, failed
}

// A resumed session shows the certificate of the first handshake. What the host
// has mended since is seen all the same.
func TestAMendedCertificateIsSeenInSpiteOfSessionTickets(t *testing.T) {
	for _, mode := range []string{"enforce", "testing"} {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t, "retry = [\"1h\"]\n")
			h := w.host("mx.a.example")
			w.set(h, testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}})
			w.domain("a.example", testnet.Domain{MX: []string{h.Name}, Policy: policyFor(mode, h.Name)})
			w.domain("plain.example", testnet.Domain{MX: []string{h.Name}})
			w.deliver("x@plain.example") // asks for nothing, and brings a ticket
			h.Cut()
			w.set(h, testnet.Faults{KeepTickets: true})
			w.deliver("x@a.example")
			if good, failed := w.sessions("a.example"); good != 1 || failed != 0 {
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
	w := newWorld(t, "retry = [\"1h\"]\n")
	h := w.host("mx.a.example")
	w.domain("a.example", testnet.Domain{MX: []string{h.Name}})
	old := w.tlsa(h, 3, 0, 1)
	w.secureHost(h)
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
	w.deliver("x@a.example")
	h.Cut()
	w.set(h, testnet.Faults{KeepTickets: true, Cert: testnet.CertSpec{Names: []string{h.Name}}}) // another certificate
	publish(w.tlsa(h, 3, 0, 1))
	w.deliver("y@a.example")
	if good, failed := w.sessions("a.example"); good != 2 || failed != 0 {
		t.Errorf("%d sessions good, %d failed", good, failed)
	}
}

// Where there is nothing to be desired, sessions are resumed.
func TestSessionsAreResumed(t *testing.T) {
	w := newWorld(t, "")
	h := w.host("mx.a.example")
	w.domain("a.example", testnet.Domain{MX: []string{h.Name}, Policy: policyFor("enforce", h.Name)})
	for range 3 {
		w.deliver("x@a.example")
		h.Cut()
	}
	if c := h.Counts(); c.Handshakes != 3 || c.Resumed != 2 {
		t.Errorf("%+v", c)
	}
}

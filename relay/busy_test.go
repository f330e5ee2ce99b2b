package relay_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// One host of the domains has a bad certificate, the other one is good and slow:
// what does not find a place there soon tries again before long, and every
// session to the first one is counted.
func TestMailWaitsForABusyHostAndItsSessionsAreCounted(t *testing.T) {
	w := newWorld(t, "concurrency_per_host = 1\n")
	bad, good := w.host("mx1.busy.example"), w.host("mx2.busy.example")
	w.set(bad, testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}})
	w.set(good, testnet.Faults{Delay: 20 * time.Millisecond})
	const n = 12
	domain := func(i int) string { return fmt.Sprintf("d%d.example", i) }
	for i := range n {
		w.domain(domain(i), testnet.Domain{MX: []string{bad.Name, good.Name}, Policy: policyFor("enforce", "*.busy.example")})
	}
	for i := range n {
		w.send("anna@sender.example", "kurt@"+domain(i))
	}
	w.wait(good, n) // the first retry would be after a minute
	w.empty()
	var failed int64
	for i := range n {
		for _, p := range w.report(domain(i)).Policies {
			failed += p.Summary.Failed
		}
	}
	if sessions := bad.Counts().Handshakes; failed != sessions || sessions < n {
		t.Errorf("%d sessions to the bad host, %d counted", sessions, failed)
	}
}

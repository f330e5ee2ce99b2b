package relay_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// A host that the policy does not name is counted once for each attempt: a claim
// that is given back, because another host is busy, is none.
func TestAHostThatIsPassedOverIsCountedOnceAnAttempt(t *testing.T) {
	w := newWorld(t, "concurrency_per_host = 1\n")
	other, good := w.host("mx1.other.example"), w.host("mx2.busy.example")
	w.set(good, testnet.Faults{Delay: 20 * time.Millisecond})
	const n = 12
	domain := func(i int) string { return fmt.Sprintf("d%d.example", i) }
	for i := range n {
		w.domain(domain(i), testnet.Domain{MX: []string{other.Name, good.Name}, Policy: policyFor("enforce", "*.busy.example")})
	}
	for i := range n {
		w.send("anna@sender.example", "kurt@"+domain(i))
	}
	w.wait(good, n)
	w.empty()
	var failed int64
	for i := range n {
		for _, p := range w.report(domain(i)).Policies {
			failed += p.Summary.Failed
		}
	}
	if failed != n {
		t.Errorf("%d attempts passed the host over, %d are counted", n, failed)
	}
}

package relay_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// The owner of a domain decides how many hosts it has. An attempt does not try
// them all, and what it counts of them can always be written with its result. An
// answer of thousands is not read at all.
func TestADomainOfVeryManyHosts(t *testing.T) {
	for _, tt := range []struct {
		hosts int
		why   string
	}{{250, "sts-mx"}, {2000, "dns"}} {
		w := newWorld(t, "retry = [\"1h\"]\n")
		domain := strings.Repeat("abcdefghi.", 23) + "example"
		var mx []string
		for i := range tt.hosts {
			mx = append(mx, fmt.Sprintf("m%d.x", i))
		}
		w.domain(domain, testnet.Domain{MX: mx, Policy: policyFor("enforce", "mx.elsewhere.example")})
		w.DNS.Fail(domain, "MX", testnet.Truncate) // so that it is asked over TCP
		m, gone := w.attempted(w.send("anna@sender.example", "kurt@"+domain))
		if gone || m.States[0].ReasonCode != tt.why {
			t.Errorf("%d hosts: gone: %t, it waits for %q: %q", tt.hosts, gone, m.States[0].ReasonCode, m.States[0].LastError)
		}
		asked := 0
		for _, h := range mx {
			asked += w.DNS.Asked(h, "A")
		}
		if asked > 50 {
			t.Errorf("the addresses of %d hosts were asked for", asked)
		}
	}
}

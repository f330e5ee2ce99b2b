package delivery

import (
	"fmt"
	"testing"
)

func TestADomainOfUnknownPolicyWaitsForTwoAttempts(t *testing.T) {
	var u unknownPolicies
	for i, tt := range []struct {
		step int
		wait bool
	}{
		{0, true}, {0, true}, {0, true}, // at the same time
		{1, true},
		{2, false}, {0, false}, {0, false}, {1, false}, // until it is known
	} {
		if got := u.wait("a.example", tt.step); got != tt.wait {
			t.Errorf("%d: %v", i, got)
		}
	}
	if !u.wait("b.example", 2) {
		t.Error("another domain does not wait")
	}
	u.known("a.example")
	if !u.wait("a.example", 0) {
		t.Error("the next time it does not wait")
	}
	for i := range 3 * maxUnknown {
		u.wait(fmt.Sprint(i), 0)
	}
	if len(u.domains) > maxUnknown {
		t.Errorf("%d domains are remembered", len(u.domains))
	}
}

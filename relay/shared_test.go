package relay

import (
	"testing"

	"github.com/stsrelay/stsrelay/relay/delivery"
	"github.com/stsrelay/stsrelay/relay/outbound"
)

func TestTheLimitsOfHostsAreDividedAmongTheSpacesOfAFleet(t *testing.T) {
	for _, row := range []struct{ spaces, perHost, ofRule, wantHost, wantRule int }{
		{0, 10, 4, 10, 4},
		{1, 10, 4, 10, 4},
		{3, 10, 4, 3, 1},
		{8, 10, 4, 1, 1},
		{3, 0, 0, 0, 0}, // the defaults
	} {
		rule := &outbound.Rule{PerHost: row.ofRule}
		s := delivery.Settings{PerHost: row.perHost, Rules: outbound.Rules{"a.example": rule}}
		divide(&s, row.spaces)
		if s.PerHost != row.wantHost || rule.PerHost != row.wantRule {
			t.Errorf("%d spaces: %d and %d, want %d and %d", row.spaces, s.PerHost, rule.PerHost, row.wantHost, row.wantRule)
		}
	}
}

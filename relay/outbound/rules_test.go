package outbound

import (
	"net/netip"
	"testing"

	"github.com/stsrelay/stsrelay/relay/security"
)

func TestTheMostSpecificRuleCounts(t *testing.T) {
	rules := make(Rules)
	named := make(map[*Rule]string)
	add := func(what, name string, senders ...string) {
		r := new(Rule)
		named[r] = what
		rules.Add(name, senders, r)
	}
	add("all from b", Everything, "b.example")
	add("all", Everything)
	add("below", ".d.example")
	add("below from b", ".d.example", "b.example", ".c.example")
	add("one from b", "one.example", "b.example")
	add("two", "two.example")
	for _, tt := range []struct {
		domain, sender, want string
		bySender             bool
	}{
		{"x.example", "", "all", true},
		{"x.example", "a.example", "all", true},
		{"x.example", "b.example", "all from b", true},
		{"x.example", "sub.b.example", "all", true},
		{"d.example", "b.example", "all from b", true},
		{"x.d.example", "a.example", "below", true},
		{"x.y.d.example", "b.example", "below from b", true},
		{"x.d.example", "x.c.example", "below from b", true},
		{"one.example", "b.example", "one from b", true},
		{"one.example", "a.example", "all", true},
		{"two.example", "b.example", "two", false},
		{"[192.0.2.1]", "a.example", "all", true},
	} {
		d := rules.Destination(tt.domain, tt.sender)
		if named[d.Rule] != tt.want || d.BySender != tt.bySender {
			t.Errorf("%s from %q: %q, by sender %t; want %q", tt.domain, tt.sender, named[d.Rule], d.BySender, tt.want)
		}
	}
	if d := (Rules{}).Destination("x.example", "b.example"); d.Rule != nil || d.RuleName != "" {
		t.Errorf("%+v", d)
	}
}

func TestAFallbackRouteIsASecondWay(t *testing.T) {
	rules := Rules{
		"a.example": {Fallback: FallbackUnbound, Route: &Route{Host: "smtp.provider.example", Port: 587, User: "us"}},
		"b.example": {Route: &Route{Host: "smtp.provider.example", Port: 587}},
		"c.example": {Fallback: FallbackAll, Opportunistic: true, Route: &Route{Host: "192.0.2.1", Port: 25}},
	}
	first := rules.Destination("a.example", "")
	second, ok := first.Fallback()
	if first.Route() != nil || first.User() != "" || first.PolicyDomain != "a.example" || first.Level() != security.NoLevel {
		t.Errorf("the first way: %+v", first)
	}
	if !ok || second.Route() == nil || second.User() != "us" || second.PolicyDomain != "smtp.provider.example" || second.Level() != security.Verify {
		t.Errorf("the second way: %+v", second)
	}
	if _, ok := second.Fallback(); ok || first.Key() == second.Key() {
		t.Error("the second way has a second one, or the name of the first")
	}
	plain := rules.Destination("b.example", "")
	if _, ok := plain.Fallback(); ok || plain.Route() == nil || plain.Level() != security.NoLevel {
		t.Errorf("a route: %+v", plain)
	}
	address := rules.Destination("c.example", "")
	if second, ok := address.Fallback(); !ok || second.PolicyDomain != "" || second.Level() != security.NoLevel || !second.Reach(AnyFamily, false).Admits(netip.MustParseAddr("10.0.0.1")) {
		t.Errorf("to an address: %+v", second)
	}
}

package clientnet

import (
	"net/netip"
	"testing"
)

func TestOf(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.7":          "192.0.2.7",
		"2001:db8:1:2:3::9":  "2001:db8:1:2::",
		"2001:db8:1:2:ff::1": "2001:db8:1:2::",
		"2001:db8:1:3::1":    "2001:db8:1:3::",
		"::1":                "::1",
	} {
		if got := Of(netip.MustParseAddr(address)).String(); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}

package relay_test

import (
	"testing"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// An MX that is this relay, by name: only hosts that are preferred to it count
// (RFC 5321, 5.1).
func TestThisRelayAsAnMXHost(t *testing.T) {
	const us = "relay.test.example"
	for _, tt := range []struct {
		name    string
		mx      []string
		down    bool
		arrives int64
		gone    bool
	}{
		{"alone", []string{us}, false, 0, true},
		{"best", []string{us, "mx.loop.example"}, false, 0, true},
		{"backup", []string{"mx.loop.example", us}, false, 1, true},
		{"backup of a host that is down", []string{"mx.loop.example", us}, true, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "")
			h := w.host("mx.loop.example")
			if err := h.Set(testnet.Faults{Down: tt.down}); err != nil {
				t.Fatal(err)
			}
			if err := w.DNS.Add(us + ". 60 IN A 127.0.0.1"); err != nil {
				t.Fatal(err)
			}
			w.domain("loop.example", testnet.Domain{MX: tt.mx})
			_, gone := w.attempted(w.send("", "kurt@loop.example"))
			if gone != tt.gone || h.Counts().Messages != tt.arrives {
				t.Errorf("gone %t, %d arrived", gone, h.Counts().Messages)
			}
		})
	}
}

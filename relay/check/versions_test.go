package check

import (
	"slices"
	"testing"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// Each version of TLS is tried at the host that mail goes to, also where the handshake of a
// delivery breaks, and at no other host.
func TestTheVersionsOfTLSThatAHostTakes(t *testing.T) {
	for _, tt := range []struct {
		name           string
		faults         testnet.Faults
		takes, refuses []string
	}{
		{"modern", testnet.Faults{}, []string{"TLS 1.3", "TLS 1.2"}, []string{"TLS 1.1", "TLS 1.0"}},
		{"no 1.3", testnet.Faults{TLS12: true}, []string{"TLS 1.2"}, []string{"TLS 1.3", "TLS 1.1", "TLS 1.0"}},
		{"old", testnet.Faults{TLS11: true}, []string{"TLS 1.1", "TLS 1.0"}, []string{"TLS 1.3", "TLS 1.2"}},
		{"clear", testnet.Faults{NoStartTLS: true}, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.host("mx1.example.org", tt.faults)
			second := w.host("mx2.example.org", testnet.Faults{})
			w.ok(w.AddDomain("example.org", testnet.Domain{MX: []string{"mx1.example.org", second.Name}}))
			w.options.Versions = true
			r := Run(t.Context(), "example.org", w.options)
			s := r.Hosts[0].Sessions[0]
			if !slices.Equal(s.Offers, tt.takes) || !slices.Equal(s.Refuses, tt.refuses) {
				t.Errorf("takes %q, refuses %q", s.Offers, s.Refuses)
			}
			if n := second.Counts().Connections; n != 1 {
				t.Errorf("%d sessions with the second host", n)
			}
		})
	}
}

//go:build unix

package relay_test

import (
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// Notices that a relay holds back for a digest are sent by another one if it goes, also if
// nothing else is left in its space.
func TestADigestThatWaitsIsTakenOver(t *testing.T) {
	ws := startFleet(t, "a", "b")
	a, b := ws[0], ws[1]
	for name, faults := range map[string]testnet.Faults{"sender.example": {}, "dead.example": {Replies: map[string]string{"rcpt": "550 5.1.1 no"}}} {
		h := b.Host("mx." + name)
		b.Domain(name, testnet.Domain{MX: []string{h.Name}})
		b.SetFaults(h, faults)
	}
	for range 22 {
		b.Send("anna@sender.example", "kurt@dead.example")
	}
	b.WaitUntilEmpty()
	b.Stop()
	for ctx := a.Context(); ; {
		f, err := a.Relay.Operator().FleetStatus(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range f.Relays {
			if r.Name == "b" && r.Holder == "a" {
				return
			}
		}
		if ctx.Err() != nil {
			t.Fatalf("nobody takes over what b has left: %+v", f.Relays)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

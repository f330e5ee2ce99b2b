package relay_test

import (
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// A message that is being delivered says what it waits for, since when, and how many
// sessions the host has.
func TestAnActiveMessageSaysWhatItWaitsFor(t *testing.T) {
	for step, want := range map[string]string{
		"greeting":  "the greeting of mx.slow.example",
		"handshake": "the TLS handshake with mx.slow.example",
		"mail":      "the reply to MAIL from mx.slow.example",
		"dot":       "the reply to the content from mx.slow.example",
	} {
		t.Run(step, func(t *testing.T) {
			w := e2e.New(t, "concurrency_per_host = 1\n")
			h := w.Host("mx.slow.example")
			w.SetFaults(h, testnet.Faults{Hang: step})
			w.Domain("slow.example", testnet.Domain{MX: []string{h.Name}})
			began := time.Now()
			first := w.Send("a@example.com", "b@slow.example")
			awaited := func(id, what string) (found operator.Awaited) {
				t.Helper()
				w.WaitFor(what, func(*queue.Queue) bool {
					m, err := w.Relay.Operator().Message(id)
					if err != nil || m.State != "active" || len(m.WaitsFor) != 1 {
						return false
					}
					found = m.WaitsFor[0]
					return found.For == what
				})
				return found
			}
			got := awaited(first, want)
			if got.Domain != "slow.example" || got.Since.Before(began.Add(-time.Second)) || got.Since.After(time.Now()) || got.Sessions != 1 || got.Limit != 1 {
				t.Errorf("%+v", got)
			}
			second := w.Send("a@example.com", "c@slow.example")
			if got := awaited(second, "a free session with mx.slow.example"); got.Sessions != 1 || got.Limit != 1 {
				t.Errorf("the second message: %+v", got)
			}
			w.SetFaults(h, testnet.Faults{})
		})
	}
}

package relay_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/check"
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
					return found.For.String() == what
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

// The summary, the check and the page of a domain say since when it fails, which is another
// thing than the age of its mail.
func TestItIsSaidSinceWhenADomainFails(t *testing.T) {
	w := e2e.New(t, "[admin]\nhttp = \"127.0.0.1:0\"\n")
	down, slow := w.Host("mx.down.example"), w.Host("mx.slow.example")
	w.Domain("down.example", testnet.Domain{MX: []string{down.Name}})
	w.Domain("slow.example", testnet.Domain{MX: []string{slow.Name}})
	w.SetFaults(down, testnet.Faults{Down: true})
	w.SetFaults(slow, testnet.Faults{Replies: map[string]string{"rcpt": "450 4.2.0 greylisted"}})
	began := time.Now().Add(-time.Second)
	w.Attempted(w.Send("anna@sender.example", "kurt@down.example"))
	w.Attempted(w.Send("anna@sender.example", "kurt@slow.example"))
	since := make(map[string]*time.Time)
	for _, d := range w.Relay.Operator().Summary() {
		since[d.Domain] = d.FailingSince
	}
	if since["slow.example"] != nil || since["down.example"] == nil || since["down.example"].Before(began) {
		t.Fatalf("since %v; the first attempt was after %s", since, began)
	}
	r, err := w.Relay.Operator().Check(t.Context(), operator.Actor{Via: "test"}, "down.example", "")
	if err != nil || r.Waiting == nil || r.Waiting.FailingSince == nil || r.Waiting.FailingSince.Sub(*since["down.example"]).Abs() > time.Second {
		t.Fatalf("%+v, %v", r, err)
	}
	var text bytes.Buffer
	if err := r.Text(&text, check.Style{}); err != nil || !strings.Contains(text.String(), "every attempt has failed since "+r.Waiting.FailingSince.Format(time.DateTime)+" UTC") {
		t.Errorf("%v\n%s", err, text.String())
	}
	if body := page(w, "/queue?domain=down.example"); !strings.Contains(body, "<dt>Fails since</dt>") || !strings.Contains(body, "<dt>Oldest</dt><dd>in the queue for ") {
		t.Error(body)
	}
	if body := page(w, "/queue?domain=slow.example"); strings.Contains(body, "Fails since") {
		t.Error(body)
	}
}

package relay_test

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/failure"
)

func TestStopUnderLoadLosesNothingAndSendsNothingTwice(t *testing.T) {
	w := e2e.New(t, e2e.RetrySoon)
	h := w.Host("mx.a.example")
	w.Domain("a.example", testnet.Domain{MX: []string{h.Name}, Policy: e2e.PolicyFor("enforce", h.Name)})
	var mu sync.Mutex
	accepted := make(map[string]bool)
	var senders sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for range 8 {
		senders.Go(func() {
			for ctx.Err() == nil {
				id, err := e2e.SendMail(w.Addr, "anna@sender.example", "Subject: x\r\n\r\nhello\r\n", "kurt@a.example")
				if err != nil {
					return // it is stopping
				}
				mu.Lock()
				accepted[id] = true
				mu.Unlock()
			}
		})
	}
	w.Received(h, 200)
	w.Stop()
	cancel()
	senders.Wait()
	w.Start(e2e.RetrySoon)
	w.Received(h, len(accepted))
	w.WaitUntilEmpty()
	seen := make(map[string]int)
	for _, m := range h.Messages() {
		_, rest, _ := bytes.Cut(m.Data, []byte(" id "))
		seen[string(rest[:26])]++
	}
	for id := range accepted {
		if seen[id] != 1 {
			t.Errorf("%s arrived %d times", id, seen[id])
		}
	}
	t.Logf("%d messages", len(accepted))
}

// stopBound is how long a stop may take that waits for no content, on a slow machine:
// less than the 8 s for which it waits for content.
const stopBound = 6 * time.Second

// stopAt lets the relay stop while a host hangs at a step, starts it again with the
// host mended, and returns how long the stop took and what was logged.
func stopAt(t *testing.T, faults testnet.Faults, body string) (took time.Duration, host *testnet.Host, w *e2e.World, log *e2e.LogBuffer) {
	t.Helper()
	w, log = e2e.NewLogged(t, "")
	host = w.Host("mx1.silent.example")
	w.SetFaults(host, faults)
	w.Domain("silent.example", testnet.Domain{MX: []string{host.Name}})
	if _, err := e2e.SendMail(w.Addr, "", body, "kurt@silent.example"); err != nil {
		t.Fatal(err)
	}
	w.WaitFor("the silence", func(*queue.Queue) bool { return host.Counts().Hung > 0 })
	start := time.Now()
	w.Stop()
	took = time.Since(start)
	w.SetFaults(host, testnet.Faults{})
	w.Start("")
	return took, host, w, log
}

// A stop does not wait for hosts that were sent no content, and their mail is as if
// it had not been tried: no attempt, no reason, and no word that it may have been
// delivered.
func TestAStopCutsWhatHasSentNothing(t *testing.T) {
	for _, step := range []string{"greeting", "ehlo", "starttls", "handshake", "mail", "rcpt", "data"} {
		for _, without := range []string{"", "PIPELINING", "CHUNKING"} {
			t.Run(step+" without "+without, func(t *testing.T) {
				t.Parallel()
				took, host, w, log := stopAt(t, testnet.Faults{Hang: step, Without: []string{without}}, "Subject: x\r\n\r\nHello\r\n")
				if took > stopBound {
					t.Errorf("the stop took %s", took)
				}
				w.Received(host, 1)
				w.WaitUntilEmpty()
				said := log.String()
				for _, wrong := range []string{"may have been delivered", "deferred", `"attempt":2`} {
					if strings.Contains(said, wrong) {
						t.Errorf("the log has %q:\n%s", wrong, said)
					}
				}
			})
		}
	}
}

// A lookup that is not answered does not hold a stop up either.
func TestAStopCutsLookups(t *testing.T) {
	for _, tt := range []struct{ name, record string }{{"mx", "MX"}, {"host", "A"}, {"policy", "TXT"}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, log := e2e.NewLogged(t, "")
			h := w.Host("mx1.silent.example")
			w.Domain("silent.example", testnet.Domain{MX: []string{h.Name}})
			name := map[string]string{"MX": "silent.example", "A": h.Name, "TXT": "_mta-sts.silent.example"}[tt.record]
			w.DNS.Fail(name, tt.record, testnet.Silence)
			w.Send("", "kurt@silent.example")
			w.WaitFor("the question", func(*queue.Queue) bool { return w.DNS.Asked(name, tt.record) > 0 })
			start := time.Now()
			w.Stop()
			if took := time.Since(start); took > stopBound {
				t.Errorf("the stop took %s", took)
			}
			if said := log.String(); strings.Contains(said, "deferred") {
				t.Errorf("it counts as an attempt:\n%s", said)
			}
		})
	}
}

// Neither does a policy host that is silent.
func TestAStopCutsPolicyFetches(t *testing.T) {
	w, log := e2e.NewLogged(t, "")
	h := w.Host("mx1.silent.example")
	w.Domain("silent.example", testnet.Domain{MX: []string{h.Name}, Policy: e2e.PolicyFor("enforce", h.Name)})
	w.SetPolicyFaults("silent.example", testnet.PolicyFaults{Stall: true})
	w.Send("", "kurt@silent.example")
	w.WaitFor("the fetch", func(*queue.Queue) bool { return w.DNS.Asked("mta-sts.silent.example", "A") > 0 })
	start := time.Now()
	w.Stop()
	if took := time.Since(start); took > stopBound {
		t.Errorf("the stop took %s", took)
	}
	if said := log.String(); strings.Contains(said, "deferred") {
		t.Errorf("it counts as an attempt:\n%s", said)
	}
}

// Content that is on its way has some time to be answered. Where the whole of it
// went out and no answer came, it may have been delivered, and only there.
func TestAStopWaitsForContent(t *testing.T) {
	large := "Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 76)+"\r\n", 200_000)
	for _, tt := range []struct {
		name, step, body string
		unknown          bool
	}{
		{"never answered", "dot", "Subject: x\r\n\r\nHello\r\n", true},
		{"never read", "body", large, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			took, host, w, log := stopAt(t, testnet.Faults{Hang: tt.step}, tt.body)
			if took < stopBound || took > 30*time.Second {
				t.Errorf("the stop took %s", took)
			}
			if said := strings.Contains(log.String(), "may have been delivered"); said != tt.unknown {
				t.Errorf("said that it may have been delivered: %t\n%s", said, log)
			}
			if !tt.unknown {
				w.Received(host, 1)
				return
			}
			var list []queue.Message
			_ = w.Relay.Queue().List(t.Context(), queue.Filter{}, func(m queue.Message) bool {
				list = append(list, m)
				return true
			})
			if len(list) != 1 || list[0].Attempts != 1 || list[0].States[0].ReasonCode != failure.Unknown.Code() {
				t.Errorf("%+v", list)
			}
		})
	}
	t.Run("answered late", func(t *testing.T) {
		t.Parallel()
		w, log := e2e.NewLogged(t, "")
		h := w.Host("mx1.slow.example")
		w.SetFaults(h, testnet.Faults{Delay: 300 * time.Millisecond})
		w.Domain("slow.example", testnet.Domain{MX: []string{h.Name}})
		w.Send("", "kurt@slow.example")
		w.Received(h, 1) // it is taken, and not answered yet
		w.Stop()
		if !strings.Contains(log.String(), `"verdict":"delivered"`) {
			t.Errorf("not waited for:\n%s", log)
		}
	})
}

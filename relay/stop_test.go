package relay_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/failure"
)

// stopBound is how long a stop may take that waits for no content.
const stopBound = 2 * time.Second

// stopAt lets the relay stop while a host hangs at a step, starts it again with the
// host mended, and returns how long the stop took and what was logged.
func stopAt(t *testing.T, faults testnet.Faults, body string) (took time.Duration, host *testnet.Host, w *world, log *logged) {
	t.Helper()
	w, log = newLoggedWorld(t, "")
	host = w.host("mx1.silent.example")
	w.set(host, faults)
	w.domain("silent.example", testnet.Domain{MX: []string{host.Name}})
	if _, err := sendMail(w.addr, "", body, "kurt@silent.example"); err != nil {
		t.Fatal(err)
	}
	w.waitFor("the silence", func(*queue.Queue) bool { return host.Counts().Hung > 0 })
	start := time.Now()
	w.stop()
	took = time.Since(start)
	w.set(host, testnet.Faults{})
	w.start("")
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
				w.wait(host, 1)
				w.empty()
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
			w, log := newLoggedWorld(t, "")
			h := w.host("mx1.silent.example")
			w.domain("silent.example", testnet.Domain{MX: []string{h.Name}})
			name := map[string]string{"MX": "silent.example", "A": h.Name, "TXT": "_mta-sts.silent.example"}[tt.record]
			w.DNS.Fail(name, tt.record, testnet.Silence)
			w.send("", "kurt@silent.example")
			w.waitFor("the question", func(*queue.Queue) bool { return w.DNS.Asked(name, tt.record) > 0 })
			start := time.Now()
			w.stop()
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
	w, log := newLoggedWorld(t, "")
	h := w.host("mx1.silent.example")
	w.domain("silent.example", testnet.Domain{MX: []string{h.Name}, Policy: policyFor("enforce", h.Name)})
	w.policyFaults("silent.example", testnet.PolicyFaults{Stall: true})
	w.send("", "kurt@silent.example")
	w.waitFor("the fetch", func(*queue.Queue) bool { return w.DNS.Asked("mta-sts.silent.example", "A") > 0 })
	start := time.Now()
	w.stop()
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
			if took < stopBound || took > 10*time.Second {
				t.Errorf("the stop took %s", took)
			}
			if said := strings.Contains(log.String(), "may have been delivered"); said != tt.unknown {
				t.Errorf("said that it may have been delivered: %t\n%s", said, log)
			}
			if !tt.unknown {
				w.wait(host, 1)
				return
			}
			var list []queue.Message
			_ = w.relay.Queue().List(t.Context(), queue.Filter{}, func(m queue.Message) bool {
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
		w, log := newLoggedWorld(t, "")
		h := w.host("mx1.slow.example")
		w.set(h, testnet.Faults{Delay: 300 * time.Millisecond})
		w.domain("slow.example", testnet.Domain{MX: []string{h.Name}})
		w.send("", "kurt@slow.example")
		w.wait(h, 1) // it is taken, and not answered yet
		w.stop()
		if !strings.Contains(log.String(), `"verdict":"delivered"`) {
			t.Errorf("not waited for:\n%s", log)
		}
	})
}

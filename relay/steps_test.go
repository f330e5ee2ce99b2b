package relay_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/smtpclient"
)

// stepFault is a host with a fault at a step, and a message for it.
type stepFault struct {
	step, name string
	faults     testnet.Faults
	host       *testnet.Host
	id         string
}

// stepFaults are all faults at all steps.
func stepFaults() (all []*stepFault) {
	replies := map[string]string{
		"421": "421 4.3.2 going down", "451": "451 4.3.0 not now", "554": "554 5.0.0 no",
		"endless": strings.Repeat("250-x\n", 100_000) + "250 x", "long": "250 " + strings.Repeat("x", 1<<20), "binary": "\x00\xff\x80 what",
	}
	for _, step := range []string{"greeting", "ehlo", "starttls", "handshake", "mail", "rcpt", "data", "body", "dot"} {
		faults := map[string]testnet.Faults{"hang": {Hang: step}, "drop": {Drop: step}}
		if step != "handshake" && step != "body" {
			for name, r := range replies {
				faults[name] = testnet.Faults{Replies: map[string]string{step: r}}
			}
		}
		for name, f := range faults {
			stepwise := f
			stepwise.Without = []string{"PIPELINING"}
			all = append(all, &stepFault{step: step, name: name + " without PIPELINING", faults: stepwise})
			all = append(all, &stepFault{step: step, name: name, faults: f})
		}
	}
	return all
}

// Whatever a host does at whatever step: the message is not lost, it comes back
// only where the host refuses it for good, and it is sent twice only where the
// host was silent after all of it.
func TestEveryFaultAtEveryStep(t *testing.T) {
	n, err := testnet.New(testnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	w := &world{Net: n, t: t, dir: t.TempDir()}
	short := time.Second
	w.timeouts = smtpclient.Timeouts{Greeting: short, Hello: short, StartTLS: short, Mail: short, Rcpt: short, Data: short, Block: short, Final: short, Quit: short}
	w.start("retry = [\"1h\"]\n")
	all := stepFaults()
	for i, c := range all {
		domain := fmt.Sprintf("s%d.example", i)
		c.host = w.host("mx1." + domain)
		w.domain(domain, testnet.Domain{MX: []string{c.host.Name}})
		if err := c.host.Set(c.faults); err != nil {
			t.Fatal(err)
		}
		c.id = w.send("", "kurt@"+domain)
	}
	var waiting []*stepFault
	for _, c := range all {
		t.Run(c.step+"/"+c.name, func(t *testing.T) {
			if c.attempted(t, w) {
				waiting = append(waiting, c)
			}
		})
	}
	if _, err := w.relay.Queue().Retry(t.Context(), queue.Filter{}); err != nil {
		t.Fatal(err)
	}
	for _, c := range waiting {
		t.Run(c.step+"/"+c.name+"/mended", func(t *testing.T) { c.arrives(t, w) })
	}
}

// attempted checks what became of the first attempt, and mends the host where
// the message waits.
func (c *stepFault) attempted(t *testing.T, w *world) (waits bool) {
	m, gone := w.attempted(c.id)
	// Replies to these steps are about the message. Others are about the host:
	// another one may do better.
	aboutMessage := c.step == "mail" || c.step == "rcpt" || c.step == "data" || c.step == "dot"
	bounced := strings.HasPrefix(c.name, "554") && aboutMessage
	// HELO follows a refused EHLO, and offers no TLS.
	inClear := c.step == "starttls" || c.step == "handshake" || c.step == "ehlo" && strings.HasPrefix(c.name, "554")
	switch {
	case gone && !bounced && !inClear:
		t.Fatal("the message has left the queue")
	case gone:
		return false
	case bounced:
		t.Fatalf("still in the queue: %s", m.States[0].LastError)
	case m.States[0].LastError == "":
		t.Error("no reason is told")
	}
	if err := c.host.Set(testnet.Faults{}); err != nil {
		t.Fatal(err)
	}
	c.host.Cut() // what sessions are open still have the fault
	return true
}

// arrives checks that the message arrives at the host once it is mended.
func (c *stepFault) arrives(t *testing.T, w *world) {
	w.waitFor("the message to leave the queue", func(q *queue.Queue) bool {
		_, err := q.Show(ulid.MustParse(c.id))
		return err != nil
	})
	want := int64(1)
	switch fault, _, _ := strings.Cut(c.name, " "); {
	case c.step == "dot" && (fault == "hang" || fault == "drop" || fault == "endless" || fault == "long"):
		want = 2 // the host had it, and did not say so
	}
	if got := c.host.Counts().Messages; got != want {
		t.Errorf("%d messages came in, want %d", got, want)
	}
}

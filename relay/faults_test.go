package relay_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/smtpclient"
)

// outcome is what becomes of one message.
type outcome string

const (
	verified  outcome = "delivered over TLS that is verified"
	encrypted outcome = "delivered over TLS that is not verified"
	clear     outcome = "delivered in clear"
	held      outcome = "held back, nothing sent"
)

// Every fault of an MX host meets every kind of policy, over real sockets.
func TestEveryFaultMeetsEveryPolicy(t *testing.T) {
	all := e2e.New(t, "")
	good := testnet.CertSpec{}
	const recipientDomain = "that of the row"
	for i, tt := range []struct {
		name    string
		faults  testnet.Faults
		enforce outcome // what an enforced policy makes of it
		without outcome // what no policy, none and testing make of it
		why     string  // part of the reason under enforce
	}{
		{"good host", testnet.Faults{Cert: good}, verified, verified, ""},
		{"good host with an intermediate", testnet.Faults{Cert: testnet.CertSpec{Intermediate: true}}, verified, verified, ""},
		{"keywords in lower case", testnet.Faults{LowerCase: true}, verified, verified, ""},
		{"wrong name", testnet.Faults{Cert: testnet.CertSpec{Names: []string{"other.example"}}}, held, encrypted, "certificate-host-mismatch"},
		{"recipient domain instead of the host's name", testnet.Faults{Cert: testnet.CertSpec{Names: []string{recipientDomain}}}, held, encrypted, "certificate-host-mismatch"},
		{"expired", testnet.Faults{Cert: testnet.CertSpec{Expired: true}}, held, encrypted, "certificate-expired"},
		{"not yet valid", testnet.Faults{Cert: testnet.CertSpec{NotYetValid: true}}, held, encrypted, "certificate-expired"},
		{"self-signed", testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}}, held, encrypted, "certificate-not-trusted"},
		{"unknown authority", testnet.Faults{Cert: testnet.CertSpec{UnknownCA: true}}, held, encrypted, "certificate-not-trusted"},
		{"name in the Common Name only", testnet.Faults{Cert: testnet.CertSpec{CNOnly: true}}, held, encrypted, "certificate-host-mismatch"},
		{"chain without intermediate", testnet.Faults{Cert: testnet.CertSpec{NoChain: true}}, held, encrypted, "certificate-not-trusted"},
		{"no STARTTLS", testnet.Faults{NoStartTLS: true}, held, clear, "starttls-not-supported"},
		{"EHLO refused", testnet.Faults{Replies: map[string]string{"ehlo": "502 5.5.1 what?"}}, held, clear, "starttls-not-supported"},
		{"STARTTLS 454", testnet.Faults{StartTLSReply: "454 4.7.0 not now"}, held, clear, "starttls-not-supported"},
		{"STARTTLS 501", testnet.Faults{StartTLSReply: "501 5.5.4 no"}, held, clear, "starttls-not-supported"},
		{"STARTTLS 502", testnet.Faults{StartTLSReply: "502 5.5.1 no"}, held, clear, "starttls-not-supported"},
		{"garbage after 220", testnet.Faults{GarbageAfter220: true}, held, clear, "validation-failure"},
		{"clear text injected behind the 220", testnet.Faults{InjectAfter220: true}, held, clear, "validation-failure"},
		{"TLS 1.1 only", testnet.Faults{TLS11: true}, held, clear, "validation-failure"},
		{"dropped in the handshake", testnet.Faults{Drop: "handshake"}, held, clear, "validation-failure"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, mode := range []string{"enforce", "testing", "none", "no policy"} {
				t.Run(mode, func(t *testing.T) {
					w := all.In(t)
					domain := fmt.Sprintf("%s-%d.example", strings.ReplaceAll(mode, " ", "-"), i)
					h := w.Host("mx1." + domain)
					faults := tt.faults
					if slices.Equal(faults.Cert.Names, []string{recipientDomain}) {
						faults.Cert.Names = []string{domain}
					}
					w.SetFaults(h, faults)
					d := testnet.Domain{MX: []string{h.Name}}
					want := tt.without
					if mode != "no policy" {
						d.Policy = e2e.PolicyFor(mode, h.Name)
					}
					if mode == "enforce" {
						want = tt.enforce
					}
					w.Domain(domain, d)
					id := w.Send("anna@sender.example", "kurt@"+domain)
					m, gone := w.Attempted(id)
					if want == held {
						if gone {
							t.Fatal("the message has left the queue")
						}
						if c := h.Counts(); c.Mails > 0 {
							t.Errorf("%d MAIL commands were sent", c.Mails)
						}
						if got := m.States[0].LastError; !strings.Contains(got, tt.why) || !strings.HasPrefix(got, "4.7.5 ") {
							t.Errorf("the reason is %q, want %s", got, tt.why)
						}
						return
					}
					if !gone {
						t.Fatalf("not delivered: %q", m.States[0].LastError)
					}
					got := h.Messages()
					if len(got) != 1 {
						t.Fatalf("%d messages came in", len(got))
					}
					if tls := want != clear; got[0].TLS != tls {
						t.Errorf("TLS = %t, want %t", got[0].TLS, tls)
					}
					if want != clear && got[0].SNI != h.Name {
						t.Errorf("SNI = %q", got[0].SNI)
					}
				})
			}
		})
	}
}

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
	w := e2e.NewStopped(t)
	short := time.Second
	w.Timeouts = smtpclient.Timeouts{Greeting: short, Hello: short, StartTLS: short, Mail: short, Rcpt: short, Data: short, Block: short, Final: short, Quit: short}
	w.Start("retry = [\"1h\"]\n")
	all := stepFaults()
	for i, c := range all {
		domain := fmt.Sprintf("s%d.example", i)
		c.host = w.Host("mx1." + domain)
		w.Domain(domain, testnet.Domain{MX: []string{c.host.Name}})
		if err := c.host.Set(c.faults); err != nil {
			t.Fatal(err)
		}
		c.id = w.Send("", "kurt@"+domain)
	}
	var waiting []*stepFault
	for _, c := range all {
		t.Run(c.step+"/"+c.name, func(t *testing.T) {
			if c.attempted(t, w.In(t)) {
				waiting = append(waiting, c)
			}
		})
	}
	w.Stop()
	w.Timeouts = smtpclient.Timeouts{} // a slow machine is no fault
	w.Start("retry = [\"1h\"]\n")
	if _, err := w.Relay.Queue().Retry(t.Context(), queue.Filter{}); err != nil {
		t.Fatal(err)
	}
	for _, c := range waiting {
		t.Run(c.step+"/"+c.name+"/mended", func(t *testing.T) { c.arrives(t, w.In(t)) })
	}
}

// attempted checks what became of the first attempt, and mends the host where
// the message waits.
func (c *stepFault) attempted(t *testing.T, w *e2e.World) (waits bool) {
	m, gone := w.Attempted(c.id)
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
func (c *stepFault) arrives(t *testing.T, w *e2e.World) {
	w.WaitFor("the message to leave the queue", func(q *queue.Queue) bool {
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

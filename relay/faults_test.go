package relay_test

import (
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/testnet"
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
	good := testnet.CertSpec{}
	for _, tt := range []struct {
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
		{"recipient domain instead of the host's name", testnet.Faults{Cert: testnet.CertSpec{Names: []string{"fault.example"}}}, held, encrypted, "certificate-host-mismatch"},
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
					w := newWorld(t, "")
					h := w.host("mx1.fault.example")
					if err := h.Set(tt.faults); err != nil {
						t.Fatal(err)
					}
					d := testnet.Domain{MX: []string{h.Name}}
					want := tt.without
					if mode != "no policy" {
						d.Policy = policyFor(mode, h.Name)
					}
					if mode == "enforce" {
						want = tt.enforce
					}
					w.domain("fault.example", d)
					id := w.send("anna@sender.example", "kurt@fault.example")
					m, gone := w.attempted(id)
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

package relay_test

import (
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
)

// The report that tells of a policy which holds mail does not wait behind that
// mail, and neither does a message whose sender does without (RFC 8689, 3).
func TestWhatAPolicyDoesNotBindPassesWhatItHolds(t *testing.T) {
	w := newReportWorld(t, "ed25519")
	mx := w.host("mx.a.example")
	w.set(mx, testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}})
	w.domain("a.example", testnet.Domain{MX: []string{mx.Name}, TLSRPT: "mailto:tls@a.example", Policy: policyFor("enforce", mx.Name)})
	m, gone := w.attempted(w.send("anna@sender.example", "kurt@a.example"))
	if gone || m.States[0].ReasonCode != "tls-cert" {
		t.Fatalf("gone %t, %+v", gone, m.States)
	}
	for range 5 {
		w.send("anna@sender.example", "kurt@a.example") // they wait with it
	}
	if _, err := sendMail(w.addr, "anna@sender.example", "TLS-Required: No\r\nSubject: x\r\n\r\nx\r\n", "kurt@a.example"); err != nil {
		t.Fatal(err)
	}
	if got := w.wait(mx, 1)[0]; !strings.Contains(string(got.Data), "TLS-Required: No") {
		t.Errorf("%s", got.Data)
	}
	w.clock.tomorrow()
	if got := w.wait(mx, 2)[1]; got.Recipients[0] != "tls@a.example" {
		t.Errorf("%v", got.Recipients)
	}
	w.waitFor("the report to be sent", func(q *queue.Queue) bool { return q.Counts().Messages == 6 })
	if n := mx.Counts().Messages; n != 2 {
		t.Errorf("%d messages", n)
	}
}

// A message that is given up leaves the reason for which its domain rests as it was:
// others wait for that, not for its age.
func TestADomainDoesNotRestForTheAgeOfAMessage(t *testing.T) {
	w := newWorld(t, "retry = [\"1s\"]\nexpire = \"1s\"\n")
	mx, back := w.host("mx.a.example"), w.host("mx.sender.example")
	w.set(mx, testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}})
	w.domain("a.example", testnet.Domain{MX: []string{mx.Name}, Policy: policyFor("enforce", mx.Name)})
	w.domain("sender.example", testnet.Domain{MX: []string{back.Name}})
	w.attempted(w.send("anna@sender.example", "kurt@a.example"))
	w.send("anna@sender.example", "held@a.example")
	if n, err := w.relay.Queue().Hold(t.Context(), queue.Filter{To: "held@a.example"}, "so that the domain is not forgotten"); n != 1 || err != nil {
		t.Fatalf("%d are held, %v", n, err)
	}
	w.wait(back, 1) // the first one was given up
	w.send("anna@sender.example", "kurt@a.example")
	if why := w.waiting()[1].Backoffs[0].Code; why != "tls-cert" {
		t.Errorf("it waits for %q", why)
	}
	if _, err := sendMail(w.addr, "anna@sender.example", "TLS-Required: No\r\nSubject: x\r\n\r\nx\r\n", "kurt@a.example"); err != nil {
		t.Fatal(err)
	}
	w.wait(mx, 1)
}

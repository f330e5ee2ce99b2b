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
	if gone || m.States[0].Why != "tls-cert" {
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

package relay_test

import (
	"bytes"
	"io"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/adminapi"
)

// What needs a person is mailed to one: mail that waits for the other side's
// mistake, with what helps, and a DKIM key whose record is gone.
func TestTheOperatorIsToldOfTrouble(t *testing.T) {
	w := newClockWorld(t)
	bad, back := w.host("mx1.bad.example"), w.host("mx1.operator.example")
	w.set(bad, testnet.Faults{NoStartTLS: true})
	w.domain("bad.example", testnet.Domain{MX: []string{bad.Name}, Policy: testnet.Policy{ID: "1", Mode: "enforce", MX: []string{bad.Name}, MaxAge: 86400}})
	w.domain("operator.example", testnet.Domain{MX: []string{back.Name}})
	w.start("[notices]\noperator = \"root@operator.example\"\n" + w.keys("ed25519"))
	w.send("anna@operator.example", "kurt@bad.example")
	w.waitFor("the message to be put off", func(q *queue.Queue) bool {
		s := q.Summary()
		return len(s) == 1 && s[0].Last.Code == "tls-none"
	})
	w.DNS.Remove("s0._domainkey.test.example", "TXT")
	w.clock.set(time.Now().Add(5 * time.Hour)) // the queue's own clock is the real one
	got, err := back.Wait(w.context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	var status adminapi.Status
	if err := w.admin().Get(t.Context(), "/v1/status", nil, &status); err != nil || len(status.Troubles) != 2 || !strings.Contains(status.Troubles[1].What, "bad.example") {
		t.Errorf("%v, %+v", err, status.Troubles)
	}
	m, err := mail.ReadMessage(bytes.NewReader(got[0].Data))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	if err != nil || got[0].From != "" {
		t.Errorf("from %q, %v", got[0].From, err)
	}
	text := m.Header.Get("Subject") + "\n" + string(body)
	for _, want := range []string{
		"relay.test.example: 2 new troubles", "mail for bad.example waits, 1 messages, the oldest since ", "(tls-none: 4.7.5 bad.example asks for verified TLS",
		"What helps: Tell the domain's postmaster; stsrelay check bad.example", "the DKIM key s0._domainkey.test.example is not believed: it is not published yet",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

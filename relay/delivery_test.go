package relay_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
)

func TestTheMessageArrivesAsItWasSentBelowOneReceivedLine(t *testing.T) {
	w := e2e.New(t, "")
	h := w.Host("mx.a.example")
	w.Domain("a.example", testnet.Domain{MX: []string{h.Name}, Policy: e2e.PolicyFor("enforce", h.Name)})
	var body strings.Builder
	body.WriteString("From: anna@sender.example\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@sender.example>\r\n\r\n")
	for i := range 20_000 { // several chunks of the store
		fmt.Fprintf(&body, ".line %d\r\n..\r\n", i)
	}
	id, err := e2e.SendMail(w.Addr, "anna@sender.example", body.String(), "kurt@a.example", `"odd name"@a.example`)
	if err != nil {
		t.Fatal(err)
	}
	m := w.Received(h, 1)[0]
	head, rest, _ := bytes.Cut(m.Data, []byte("From: "))
	if string(rest) != strings.TrimPrefix(body.String(), "From: ") {
		t.Errorf("the content has changed: %d octets instead of %d", len(rest), body.Len()-6)
	}
	if got := string(head); strings.Count(got, "Received: ") != 1 || !strings.Contains(got, "by relay.test.example with ESMTP id "+id) || strings.Contains(got, "for <") {
		t.Errorf("trace: %q", got)
	}
	if got := strings.Join(m.Recipients, " "); got != `kurt@a.example "odd name"@a.example` {
		t.Errorf("recipients: %s", got)
	}
	if m.Hello != "relay.test.example" || !m.TLS {
		t.Errorf("EHLO %q, TLS %t", m.Hello, m.TLS)
	}
}

func TestEveryRecipientHasItsOwnResult(t *testing.T) {
	w := e2e.New(t, e2e.RetrySoon)
	h, back := w.Host("mx.a.example"), w.Host("mx.sender.example")
	w.Domain("sender.example", testnet.Domain{MX: []string{back.Name}})
	w.SetFaults(h, testnet.Faults{Recipients: map[string]string{"gone@a.example": "550 5.1.1 no such user", "later@a.example": "450 4.2.1 greylisted"}})
	w.Domain("a.example", testnet.Domain{MX: []string{h.Name}})
	id := w.Send("anna@sender.example", "kurt@a.example", "gone@a.example", "later@a.example")
	w.Received(h, 1)
	m, gone := w.Attempted(id)
	if gone {
		t.Fatal("the message has left the queue")
	}
	for i, want := range []queue.State{queue.Delivered, queue.Bounced, queue.Queued} {
		if s := m.States[i]; s.State != want || s.Attempts < 1 {
			t.Errorf("%s: %+v", m.Recipients[i].Address, s)
		}
	}
	notice := string(w.Received(back, 1)[0].Data)
	for _, want := range []string{"report-type=delivery-status", "Final-Recipient: rfc822; gone@a.example", "Action: failed", "Status: 5.1.1", "Diagnostic-Code: smtp; 550 5.1.1 no such user", "Remote-MTA: dns; mx.a.example", "Auto-Submitted: auto-replied", "Subject: test"} {
		if !strings.Contains(notice, want) {
			t.Errorf("the notice lacks %q:\n%s", want, notice)
		}
	}
	for _, not := range []string{"kurt@a.example", "later@a.example", "Hello"} {
		if strings.Contains(notice, not) {
			t.Errorf("the notice speaks of %q", not)
		}
	}
	w.SetFaults(h, testnet.Faults{})
	h.Cut()
	if got := w.Received(h, 2)[1]; strings.Join(got.Recipients, ",") != "later@a.example" {
		t.Errorf("second attempt: %v", got.Recipients)
	}
	w.WaitUntilEmpty()
}

// An attacker who shuts a host must not make mail bounce: what is said before
// MAIL is about the host, and is temporary.
func TestRefusalsBeforeMailAreTemporaryAndTheNextHostIsTried(t *testing.T) {
	for name, f := range map[string]testnet.Faults{
		"down": {Down: true}, "554 greeting": {Replies: map[string]string{"greeting": "554 no mail here"}},
		"421 greeting": {Replies: map[string]string{"greeting": "421 busy"}}, "drop at the greeting": {Drop: "greeting"},
		"EHLO and HELO 550": {Replies: map[string]string{"ehlo": "550 go away", "helo": "550 go away"}}, "421 at MAIL": {Replies: map[string]string{"mail": "421 4.3.2 later"}},
		"drop at MAIL": {Drop: "mail"}, "421 at DATA": {Replies: map[string]string{"data": "421 4.3.2 later"}},
		"garbage for a greeting": {Replies: map[string]string{"greeting": "hello"}}, "endless greeting": {Replies: map[string]string{"greeting": "220 " + strings.Repeat("x", 100_000)}},
		"10,000 lines": {Replies: map[string]string{"greeting": strings.Repeat("220-x\n", 10_000) + "220 x"}}, "NULs": {Replies: map[string]string{"ehlo": "\x00\x00"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := e2e.New(t, "")
			first, second := w.Host("mx1.a.example"), w.Host("mx2.a.example")
			w.SetFaults(first, f)
			w.Domain("a.example", testnet.Domain{MX: []string{first.Name}})
			m, gone := w.Attempted(w.Send("anna@sender.example", "kurt@a.example"))
			if gone || !strings.HasPrefix(m.States[0].LastError, "4.") {
				t.Fatalf("alone: gone %t, %+v", gone, m.States)
			}
			w.Domain("b.example", testnet.Domain{MX: []string{first.Name, second.Name}})
			w.Send("anna@sender.example", "kurt@b.example")
			w.Received(second, 1)
		})
	}
}

func TestAnAnswerThatNeverComesIsADuplicateRatherThanALoss(t *testing.T) {
	w := e2e.New(t, e2e.RetrySoon)
	h := w.Host("mx.a.example")
	w.SetFaults(h, testnet.Faults{Drop: "dot"})
	w.Domain("a.example", testnet.Domain{MX: []string{h.Name}})
	m, gone := w.Attempted(w.Send("anna@sender.example", "kurt@a.example"))
	if gone || m.States[0].ReasonCode != "unknown-result" {
		t.Fatalf("gone %t, %+v", gone, m.States)
	}
	w.SetFaults(h, testnet.Faults{})
	if n := len(w.Received(h, 2)); n != 2 {
		t.Errorf("%d messages", n)
	}
}

// From a message in the log one finds its notice, and where both went.
func TestTheLogLeadsFromAMessageToItsNotice(t *testing.T) {
	w, log := e2e.NewLogged(t, "")
	h, back := w.Host("mx1.refuses.example"), w.Host("mx1.sender.example")
	w.SetFaults(h, testnet.Faults{Replies: map[string]string{"rcpt": "550 5.1.1 nobody"}})
	w.Domain("refuses.example", testnet.Domain{MX: []string{h.Name}})
	w.Domain("sender.example", testnet.Domain{MX: []string{back.Name}})
	id := w.Send("anna@sender.example", "kurt@refuses.example")
	if _, err := back.Wait(w.Context(), 1); err != nil {
		t.Fatal(err)
	}
	w.WaitFor("the end of the notice", func(q *queue.Queue) bool {
		return q.Counts().Messages == 0 && strings.Contains(log.String(), "notice queued")
	})
	type line struct {
		Msg, IP, Host string
		ID            string `json:"queue_id"`
		Original      string `json:"original_queue_id"`
	}
	lines := make(map[string]line) // by message, and what was said
	for text := range strings.Lines(log.String()) {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatal(err)
		}
		lines[l.ID+" "+l.Msg] = l
		if l.Msg == "notice queued" {
			lines["notice"] = l
		}
	}
	notice := lines["notice"]
	if notice.Original != id || notice.ID == "" || notice.ID == id {
		t.Fatalf("%+v\n%s", notice, log)
	}
	for id, host := range map[string]*testnet.Host{id: h, notice.ID: back} {
		if l := lines[id+" attempt"]; l.Host != host.Name || l.IP != host.IP {
			t.Errorf("%+v, want %s at %s", l, host.Name, host.IP)
		}
	}
}

package relay_test

import (
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/operator"
)

func TestAPermanentFailureOfANullSenderIsOnlyLogged(t *testing.T) {
	w := e2e.New(t, "")
	w.Send("", "kurt@nowhere.example")
	w.WaitUntilEmpty()
}

func TestMailThatExpiresIsGivenUpWithItsReason(t *testing.T) {
	w := e2e.New(t, "retry = [\"1s\"]\nexpire = \"2s\"\n")
	h, back := w.Host("mx.a.example"), w.Host("mx.sender.example")
	w.Domain("sender.example", testnet.Domain{MX: []string{back.Name}})
	w.SetFaults(h, testnet.Faults{NoStartTLS: true})
	w.Domain("a.example", testnet.Domain{MX: []string{h.Name}, Policy: e2e.PolicyFor("enforce", h.Name)})
	asked := w.DNS.Asked("_mta-sts.a.example", "TXT")
	w.Send("anna@sender.example", "kurt@a.example")
	notice := string(w.Received(back, 1)[0].Data)
	if !strings.Contains(notice, "Status: 5.4.7") || !strings.Contains(notice, "starttls-not-supported") {
		t.Errorf("notice:\n%s", notice)
	}
	if h.Counts().Mails > 0 {
		t.Error("mail was sent")
	}
	if n := w.DNS.Asked("_mta-sts.a.example", "TXT") - asked; n < 2 {
		t.Errorf("the record was looked up %d times: not afresh before the message was given up", n)
	}
	w.WaitUntilEmpty()
}

// A sender who asks for a notice of success (RFC 3461) gets one from this relay
// where the host does not know DSN; else the host has been told to send it.
func TestNoticesOfSuccess(t *testing.T) {
	for _, knows := range []bool{true, false} {
		w := e2e.New(t, "")
		h, back := w.Host("mx1.success.example"), w.Host("mx1.sender.example")
		f := testnet.Faults{}
		if !knows {
			f.Without = []string{"DSN"}
		}
		if err := h.Set(f); err != nil {
			t.Fatal(err)
		}
		w.Domain("success.example", testnet.Domain{MX: []string{h.Name}})
		w.Domain("sender.example", testnet.Domain{MX: []string{back.Name}})
		if err := w.Dialogue(
			"250 EHLO client.example", "250 MAIL FROM:<anna@sender.example> RET=HDRS ENVID=order+2B1",
			"250 RCPT TO:<kurt@success.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;kurt+2Bx@success.example", "250 RCPT TO:<other@success.example> NOTIFY=FAILURE", "354 DATA", "250 Subject: order\r\n\r\nHello\r\n."); err != nil {
			t.Fatal(err)
		}
		got, err := h.Wait(w.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		if has := strings.Contains(got[0].Params, "ENVID=order+2B1"); has != knows {
			t.Errorf("the host knows DSN: %t; MAIL had %q", knows, got[0].Params)
		}
		if knows {
			if n := back.Counts().Messages; n != 0 {
				t.Errorf("%d notices, and the host sends one", n)
			}
			continue
		}
		notices, err := back.Wait(w.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		text := string(notices[0].Data)
		for _, want := range []string{"Action: relayed", "Final-Recipient: rfc822; kurt@success.example", "Original-Recipient: rfc822; kurt+x@success.example", "Original-Envelope-Id: order+1"} {
			if !strings.Contains(strings.ReplaceAll(text, ";k", "; k"), want) {
				t.Errorf("no %q in the notice:\n%s", want, text)
			}
		}
		if strings.Contains(text, "other@success.example") {
			t.Error("the notice speaks of a recipient for whom none was asked")
		}
	}
}

func TestTheNoticeOfABouncedDomainNamesNobodyElse(t *testing.T) {
	w := e2e.New(t, "paused = true\n")
	h, back := w.Host("mx.b.example"), w.Host("mx.sender.example")
	w.Domain("b.example", testnet.Domain{MX: []string{h.Name}})
	w.Domain("sender.example", testnet.Domain{MX: []string{back.Name}})
	w.Send("anna@sender.example", "one@a.example", "two@b.example", "three@a.example")
	if n := w.Bounce(operator.Selection{Domain: "A.example", Reason: "no such company"}); n != 1 {
		t.Errorf("%d touched", n)
	}
	w.Relay.Queue().SetPaused(false)
	notice := string(w.Received(back, 1)[0].Data)
	for _, want := range []string{"one@a.example", "three@a.example", "no such company"} {
		if !strings.Contains(notice, want) {
			t.Errorf("%s is not in the notice", want)
		}
	}
	if strings.Contains(notice, "two@b.example") {
		t.Errorf("the notice names a recipient whose mail goes on:\n%s", notice)
	}
	if got := w.Received(h, 1)[0].To; got != "two@b.example" {
		t.Errorf("delivered to %v", got)
	}
	w.WaitUntilEmpty()
}

func TestWhatWaitsForAHostThatHangsIsBouncedWhenItsAttemptEnds(t *testing.T) {
	w := e2e.New(t, "concurrency_per_host = 1\n")
	h, back := w.Host("mx.a.example"), w.Host("mx.sender.example")
	w.SetFaults(h, testnet.Faults{Hang: "mail"})
	w.Domain("a.example", testnet.Domain{MX: []string{h.Name}})
	w.Domain("sender.example", testnet.Domain{MX: []string{back.Name}})
	const messages = 3 // one in a session, and some that wait for it
	for range messages {
		w.Send("anna@sender.example", "kurt@a.example")
	}
	w.WaitFor("all of them to be tried", func(q *queue.Queue) bool {
		n := 0
		err := q.List(t.Context(), queue.Filter{State: queue.Active}, func(queue.Message) bool { n++; return true })
		return err == nil && n == messages
	})
	if n := w.Bounce(operator.Selection{All: true}); n != messages {
		t.Errorf("%d touched", n)
	}
	w.SetFaults(h, testnet.Faults{Down: true})
	h.Cut()
	w.Received(back, messages)
	w.WaitUntilEmpty()
}

// A notice puts no reply into the mouth of a host that did not say it.
func TestANoticeTellsOfTheLastAttempt(t *testing.T) {
	w := e2e.New(t, "retry = [\"2s\"]\nexpire = \"2s\"\n")
	first, second, back := w.Host("mx1.a.example"), w.Host("mx2.a.example"), w.Host("mx.sender.example")
	w.SetFaults(first, testnet.Faults{Replies: map[string]string{"rcpt": "450 4.2.0 greylisted"}})
	w.SetFaults(second, testnet.Faults{Down: true})
	w.Domain("sender.example", testnet.Domain{MX: []string{back.Name}})
	publish := func(host string) {
		t.Helper()
		w.DNS.Remove("a.example", "MX")
		if err := w.DNS.Add("a.example. 0 IN MX 10 " + host + "."); err != nil {
			t.Fatal(err)
		}
	}
	publish(first.Name)
	w.Attempted(w.Send("anna@sender.example", "b@a.example"))
	publish(second.Name) // and the message expires
	text := string(w.Received(back, 1)[0].Data)
	if strings.Contains(text, "greylisted") || strings.Contains(text, "Remote-MTA") || !strings.Contains(text, "Diagnostic-Code: x-stsrelay; 5.4.7") {
		t.Error(text)
	}
}

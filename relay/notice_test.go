package relay_test

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/adminapi"
)

// A sender who asks for a notice of success (RFC 3461) gets one from this relay
// where the host does not know DSN; else the host has been told to send it.
func TestNoticesOfSuccess(t *testing.T) {
	for _, knows := range []bool{true, false} {
		w := newWorld(t, "")
		h, back := w.host("mx1.success.example"), w.host("mx1.sender.example")
		f := testnet.Faults{}
		if !knows {
			f.Without = []string{"DSN"}
		}
		if err := h.Set(f); err != nil {
			t.Fatal(err)
		}
		w.domain("success.example", testnet.Domain{MX: []string{h.Name}})
		w.domain("sender.example", testnet.Domain{MX: []string{back.Name}})
		if err := w.dialogue([]step{
			{"EHLO client.example", 250}, {"MAIL FROM:<anna@sender.example> RET=HDRS ENVID=order+2B1", 250},
			{"RCPT TO:<kurt@success.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;kurt+2Bx@success.example", 250},
			{"RCPT TO:<other@success.example> NOTIFY=FAILURE", 250}, {"DATA", 354}, {"Subject: order\r\n\r\nHello\r\n.", 250},
		}); err != nil {
			t.Fatal(err)
		}
		got, err := h.Wait(w.context(), 1)
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
		notices, err := back.Wait(w.context(), 1)
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

// bounce is what the operator does; it returns how many messages were touched.
func (w *world) bounce(sel adminapi.Selection) int {
	w.t.Helper()
	var done adminapi.Touched
	client := adminapi.NewClient(filepath.Join(w.dir, "stsrelay.sock"))
	if err := client.Do(w.t.Context(), http.MethodPost, "/v1/queue/bounce", sel, &done); err != nil {
		w.t.Fatal(err)
	}
	return done.Touched
}

func TestTheNoticeOfABouncedDomainNamesNobodyElse(t *testing.T) {
	w := newWorld(t, "paused = true\n")
	h, back := w.host("mx.b.example"), w.host("mx.sender.example")
	w.domain("b.example", testnet.Domain{MX: []string{h.Name}})
	w.domain("sender.example", testnet.Domain{MX: []string{back.Name}})
	w.send("anna@sender.example", "one@a.example", "two@b.example", "three@a.example")
	if n := w.bounce(adminapi.Selection{Domain: "A.example", Reason: "no such company"}); n != 1 {
		t.Errorf("%d touched", n)
	}
	w.relay.Queue().SetPaused(false)
	notice := string(w.wait(back, 1)[0].Data)
	for _, want := range []string{"one@a.example", "three@a.example", "no such company"} {
		if !strings.Contains(notice, want) {
			t.Errorf("%s is not in the notice", want)
		}
	}
	if strings.Contains(notice, "two@b.example") {
		t.Errorf("the notice names a recipient whose mail goes on:\n%s", notice)
	}
	if got := w.wait(h, 1)[0].To; got != "two@b.example" {
		t.Errorf("delivered to %v", got)
	}
	w.empty()
}

func TestWhatWaitsForAHostThatHangsIsBouncedWhenItsAttemptEnds(t *testing.T) {
	w := newWorld(t, "concurrency_per_host = 1\n")
	h, back := w.host("mx.a.example"), w.host("mx.sender.example")
	w.set(h, testnet.Faults{Hang: "mail"})
	w.domain("a.example", testnet.Domain{MX: []string{h.Name}})
	w.domain("sender.example", testnet.Domain{MX: []string{back.Name}})
	const messages = 3 // one in a session, and some that wait for it
	for range messages {
		w.send("anna@sender.example", "kurt@a.example")
	}
	w.waitFor("all of them to be tried", func(q *queue.Queue) bool {
		n := 0
		err := q.List(t.Context(), queue.Filter{State: queue.Active}, func(queue.Message) bool { n++; return true })
		return err == nil && n == messages
	})
	if n := w.bounce(adminapi.Selection{All: true}); n != messages {
		t.Errorf("%d touched", n)
	}
	w.set(h, testnet.Faults{Down: true})
	h.Cut()
	w.wait(back, messages)
	w.empty()
}

// A notice puts no reply into the mouth of a host that did not say it.
func TestANoticeTellsOfTheLastAttempt(t *testing.T) {
	w := newWorld(t, "retry = [\"2s\"]\nexpire = \"2s\"\n")
	first, second, back := w.host("mx1.a.example"), w.host("mx2.a.example"), w.host("mx.sender.example")
	w.set(first, testnet.Faults{Replies: map[string]string{"rcpt": "450 4.2.0 greylisted"}})
	w.set(second, testnet.Faults{Down: true})
	w.domain("sender.example", testnet.Domain{MX: []string{back.Name}})
	publish := func(host string) {
		t.Helper()
		w.DNS.Remove("a.example", "MX")
		if err := w.DNS.Add("a.example. 0 IN MX 10 " + host + "."); err != nil {
			t.Fatal(err)
		}
	}
	publish(first.Name)
	w.attempted(w.send("anna@sender.example", "b@a.example"))
	publish(second.Name) // and the message expires
	text := string(w.wait(back, 1)[0].Data)
	if strings.Contains(text, "greylisted") || strings.Contains(text, "Remote-MTA") || !strings.Contains(text, "Diagnostic-Code: x-stsrelay; 5.4.7") {
		t.Error(text)
	}
}

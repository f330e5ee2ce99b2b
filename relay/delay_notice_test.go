package relay_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
)

// lateWorld is a world in which a domain fails and rests for hours; what comes after
// the first message waits without an attempt. tell makes all of it late.
func lateWorld(t *testing.T, d testnet.Domain, f testnet.Faults, senders ...string) (w *e2e.World, back *testnet.Host, tell func()) {
	w = e2e.New(t, "retry = [\"10h\"]\ndelay_notice = \"4h\"\n")
	h, back := w.Host("mx.a.example"), w.Host("mx.sender.example")
	w.SetFaults(h, f)
	d.MX = []string{h.Name}
	w.Domain("a.example", d)
	w.Domain("sender.example", testnet.Domain{MX: []string{back.Name}})
	w.Attempted(w.Send(senders[0], "kurt@a.example"))
	for _, s := range senders[1:] {
		w.Send(s, "kurt@a.example")
	}
	return w, back, func() {
		w.Edit(`delay_notice = "4h"`, `delay_notice = "1ms"`)
		w.Reload()
	}
}

// waitingForA is what the queue has of mail to the domain that fails.
func waitingForA(w *e2e.World) (list []queue.Message) {
	w.T.Helper()
	err := w.Relay.Queue().List(w.T.Context(), queue.Filter{Domain: "a.example"}, func(m queue.Message) bool {
		list = append(list, m)
		return true
	})
	if err != nil {
		w.T.Fatal(err)
	}
	return list
}

// Whoever wrote to a dead host hears of the delay, once, whether or not his
// message was the one that was tried.
func TestEverySenderHearsOfTheDelayOfMailThatRests(t *testing.T) {
	var senders []string
	for i := range 40 {
		senders = append(senders, fmt.Sprintf("s%d@sender.example", i))
	}
	w, back, tell := lateWorld(t, testnet.Domain{}, testnet.Faults{Down: true}, senders...)
	tell()
	notices := make(map[string]int)
	for _, m := range w.Received(back, len(senders)) {
		notices[m.To]++
		text := string(m.Data)
		for _, want := range []string{"Action: delayed", "Status: 4.4.1", "kurt@a.example", "Will-Retry-Until: "} {
			if !strings.Contains(text, want) {
				t.Fatalf("no %q in the notice:\n%s", want, text)
			}
		}
		if strings.Contains(text, "Last-Attempt-Date") {
			t.Error("the notice tells of an attempt that was not made")
		}
	}
	if len(notices) != len(senders) {
		t.Errorf("notices to %d senders: %v", len(notices), notices)
	}
	tried := 0
	list := waitingForA(w)
	for _, m := range list {
		tried += m.Attempts
		if s := m.States[0]; s.State != queue.Queued || !s.Delayed || m.Waits[0].Backoff == (queue.Reason{}) {
			t.Errorf("%+v rests for %v", s, m.Waits[0].Backoff)
		}
	}
	if len(list) != len(senders) || tried != 1 {
		t.Errorf("%d messages wait, %d attempts were made", len(list), tried)
	}
	// After a restart all are tried, and fail. Nobody hears of it again.
	w.Stop()
	w.Start("retry = [\"10h\"]\ndelay_notice = \"1ms\"\n")
	w.WaitFor("the attempts", func(q *queue.Queue) bool {
		n := 0
		for _, m := range waitingForA(w) {
			if m.Attempts > 0 && m.State == queue.Queued {
				n++
			}
		}
		return n > 1
	})
	w.Send("last@sender.example", "kurt@a.example") // its notice comes after any other
	if got := w.Received(back, len(senders)+1); got[len(senders)].To != "last@sender.example" {
		t.Errorf("%s was told twice", got[len(senders)].To)
	}
}

// Of a policy that holds mail a sender hears once a day, whatever he sent there.
func TestMailThatRestsForAPolicyIsToldOfOnceADay(t *testing.T) {
	w, back, tell := lateWorld(t, testnet.Domain{Policy: e2e.PolicyFor("enforce", "mx.a.example")},
		testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}},
		"anna@sender.example", "anna@sender.example", "anna@sender.example", "bert@sender.example")
	tell()
	told := make(map[string]bool)
	for _, m := range w.Received(back, 2) {
		told[m.To] = true
		if text := string(m.Data); !strings.Contains(text, "Status: 4.7.5") {
			t.Errorf("the notice:\n%s", text)
		}
	}
	if !told["anna@sender.example"] || !told["bert@sender.example"] {
		t.Errorf("told: %v", told)
	}
	w.Send("last@sender.example", "kurt@a.example") // its notice comes after any other
	if got := w.Received(back, 3); got[2].To != "last@sender.example" {
		t.Errorf("%s was told twice", got[2].To)
	}
}

// delay_notice = "0" tells nobody.
func TestNobodyIsToldWhereTheOperatorWantsNoNotices(t *testing.T) {
	w, back, tell := lateWorld(t, testnet.Domain{}, testnet.Faults{Down: true}, "anna@sender.example", "anna@sender.example")
	w.Edit(`delay_notice = "4h"`, `delay_notice = "0"`)
	w.Reload()
	w.Edit(`delay_notice = "0"`, `delay_notice = "4h"`)
	w.Send("kurt@sender.example", "kurt@sender.example") // a claim after the reload
	if got := w.Received(back, 1)[0]; got.From != "kurt@sender.example" {
		t.Errorf("a message from %q", got.From)
	}
	for _, m := range waitingForA(w) {
		if m.States[0].Delayed {
			t.Errorf("%+v", m.States)
		}
	}
	tell()
	w.Received(back, 3)
}

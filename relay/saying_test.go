package relay_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
)

// A session that has carried mail may end with 421 (RFC 5321, 3.8): the message
// goes over another one, at once.
func TestA421OnASessionThatWasUsedDelaysNothing(t *testing.T) {
	w := newWorld(t, "retry = [\"1h\"]\n")
	h := w.host("mx.a.example")
	w.set(h, testnet.Faults{SessionMessages: 1})
	w.domain("a.example", testnet.Domain{MX: []string{h.Name}})
	w.deliver("one@a.example")
	w.deliver("two@a.example")
	if c := h.Counts(); c.Messages != 2 || c.Connections != 2 {
		t.Errorf("%+v", c)
	}
}

// A host that says 421 to all mail is given a rest.
func TestAHostThatSays421ToMailIsLeftAlone(t *testing.T) {
	for _, step := range []string{"mail", "rcpt"} {
		w := newWorld(t, "retry = [\"1h\"]\nconcurrency_per_host = 1\n")
		h := w.host("mx.a.example")
		w.set(h, testnet.Faults{Replies: map[string]string{step: "421 4.7.0 too much of you"}})
		w.domain("a.example", testnet.Domain{MX: []string{h.Name}})
		m, gone := w.attempted(w.send("anna@sender.example", "one@a.example"))
		if gone || m.States[0].ReasonCode != "busy" {
			t.Fatalf("%s: gone %t, %+v", step, gone, m.States)
		}
		before := h.Counts().Connections
		id := w.send("anna@sender.example", "two@a.example")
		w.waitFor("the second message to wait with its domain", func(q *queue.Queue) bool {
			found := false
			_ = q.List(t.Context(), queue.Filter{To: "two@a.example"}, func(m queue.Message) bool {
				found = m.ID.String() == id && m.Backoffs[0].Code == "busy" && time.Until(m.NextAttemptAt) > time.Minute
				return true
			})
			return found
		})
		if n := h.Counts().Connections; n != before {
			t.Errorf("%s: %d connections more", step, n-before)
		}
	}
}

// What can be no answer ends the session: nobody knows what the host takes for
// commands then, and what for content.
func TestAnswersThatCannotBeOnesEndTheSession(t *testing.T) {
	for _, f := range []testnet.Faults{
		{Replies: map[string]string{"data": "250 2.0.0 ok"}},
		{Replies: map[string]string{"data": "250 2.0.0 ok"}, Without: []string{"PIPELINING"}},
		{Recipients: map[string]string{"b@a.example": "354 go on"}},
		{Recipients: map[string]string{"b@a.example": "354 go on"}, Without: []string{"PIPELINING"}},
	} {
		w := newWorld(t, "retry = [\"1h\"]\n")
		h := w.host("mx.a.example")
		w.set(h, f)
		w.domain("a.example", testnet.Domain{MX: []string{h.Name}})
		m, gone := w.attempted(w.send("anna@sender.example", "a@a.example", "b@a.example"))
		if gone || m.States[1].State != queue.Queued || !strings.Contains(m.States[1].LastError, "does not belong there") {
			t.Errorf("gone %t, %+v", gone, m.States)
		}
		w.set(h, testnet.Faults{})
		w.send("anna@sender.example", "c@a.example")
		w.wait(h, 1)
		if c := h.Counts(); c.Connections < 2 {
			t.Errorf("the session was used again: %+v", c)
		}
	}
}

// 421 to STARTTLS says nothing about TLS.
func TestA421ToSTARTTLSIsTheHostsTrouble(t *testing.T) {
	w := newWorld(t, "retry = [\"1h\"]\n")
	h := w.host("mx.a.example")
	w.set(h, testnet.Faults{StartTLSReply: "421 4.7.0 too many connections"})
	w.domain("a.example", testnet.Domain{MX: []string{h.Name}})
	m, gone := w.attempted(w.send("anna@sender.example", "kurt@a.example"))
	if s := m.States[0]; gone || s.ReasonCode != "busy" || !strings.HasPrefix(s.LastReply, "421 ") {
		t.Errorf("gone %t, %+v", gone, s)
	}
	if h.Counts().MailsInClear > 0 {
		t.Error("it went on in clear")
	}
}

func TestSeveralNullMXRecordsAreOne(t *testing.T) {
	w := newWorld(t, "")
	back := w.host("mx.sender.example")
	w.domain("sender.example", testnet.Domain{MX: []string{back.Name}})
	if err := w.DNS.Add("n.example. 60 IN MX 0 .", "n.example. 60 IN MX 10 ."); err != nil {
		t.Fatal(err)
	}
	w.send("anna@sender.example", "kurt@n.example")
	if text := string(w.wait(back, 1)[0].Data); !strings.Contains(text, "Status: 5.1.10") {
		t.Error(text)
	}
}

// A session that the operator's route has opened to a private address is no way
// for a stranger's domain to get there.
func TestASessionOfARouteIsNoWayToAPrivateAddress(t *testing.T) {
	w := newWorld(t, "")
	w.stop()
	h := w.host("internal.hop.example")
	w.domain("evil.example", testnet.Domain{MX: []string{h.Name}})
	w.public = true
	w.start("retry = [\"1h\"]\n[[domain]]\nname = \"routed.example\"\nroute = \"internal.hop.example:25\"\n")
	w.deliver("kurt@routed.example")
	m, gone := w.attempted(w.send("anna@sender.example", "kurt@evil.example"))
	if gone || !strings.Contains(m.States[0].LastError, "private addresses") || h.Counts().Messages != 1 {
		t.Errorf("gone %t, %+v", gone, m.States)
	}
}

// A session that turns out to be dead is none for the domain that has tried it.
func TestADeadSessionIsNotCounted(t *testing.T) {
	w := newWorld(t, "")
	h := w.host("mx.shared.example")
	for _, d := range []string{"a.example", "b.example"} {
		w.domain(d, testnet.Domain{MX: []string{h.Name}})
		w.deliver("kurt@" + d)
		h.Cut()
		if good, failed := w.sessions(d); good != 1 || failed != 0 {
			t.Errorf("%s: %d sessions good, %d failed", d, good, failed)
		}
	}
}

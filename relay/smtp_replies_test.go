package relay_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
)

// A reply to MAIL on a session that has carried a message says nothing of the next
// one: a fresh session is opened at once, and what that one hears counts.
func TestARefusedMAILOnAUsedSessionDelaysNothing(t *testing.T) {
	all := e2e.New(t, "retry = [\"1h\"]\n")
	for i, way := range ways {
		for j, reply := range []string{"503 5.5.1 EHLO first", "451 4.7.0 too many messages", "450 reconnect", "452 4.3.2 enough", "550 5.7.1 no more", "554 5.5.1 error", "421 4.7.0 bye"} {
			t.Run(way.name+"/"+reply, func(t *testing.T) {
				t.Parallel()
				w := all.In(t)
				domain := fmt.Sprintf("a%d-%d.example", i, j)
				h := w.Host("mx." + domain)
				w.SetFaults(h, testnet.Faults{Without: way.without, With: way.with, SessionMessages: 1, Enough: reply})
				w.Domain(domain, testnet.Domain{MX: []string{h.Name}})
				const n = 4
				for i := range n {
					w.WaitUntilGone(w.Send(fmt.Sprintf("s%d@sender.example", i), "kurt@"+domain))
				}
				if c := h.Counts(); c.Messages != n || c.Connections != n {
					t.Errorf("%+v", c)
				}
			})
		}
	}
}

// What a fresh session hears counts, and is asked for once.
func TestARefusedMAILOnAFreshSessionCounts(t *testing.T) {
	w := e2e.New(t, "retry = [\"1h\"]\n")
	h := w.Host("mx.a.example")
	w.Domain("a.example", testnet.Domain{MX: []string{h.Name}})
	w.Deliver("one@a.example")
	w.SetFaults(h, testnet.Faults{Replies: map[string]string{"mail": "451 4.7.1 not now"}})
	h.Cut()
	if s := w.Deferred(w.Send("anna@sender.example", "two@a.example")); s.ReasonCode != "content" || !strings.HasPrefix(s.LastReply, "451 4.7.1") {
		t.Errorf("%+v", s)
	}
	if c := h.Counts(); c.Connections != 2 {
		t.Errorf("%+v", c)
	}
}

// A message of which nobody knows what became goes alone through its session: what
// it did to the host costs no other one anything.
func TestAMessageWhoseResultIsUnknownGoesAlone(t *testing.T) {
	for _, way := range ways {
		w := e2e.New(t, "retry = [\"1h\"]\n")
		h := w.Host("mx.a.example")
		w.Domain("a.example", testnet.Domain{MX: []string{h.Name}})
		f := testnet.Faults{Without: way.without, With: way.with, Drop: "dot"}
		w.SetFaults(h, f)
		id := w.Send("anna@sender.example", "poison@a.example")
		if s := w.Deferred(id); s.ReasonCode != "unknown-result" {
			t.Fatalf("%s: %+v", way.name, s)
		}
		f.Drop = ""
		w.SetFaults(h, f)
		w.WaitUntilGone(w.Send("anna@sender.example", "before@a.example"))
		if _, err := w.Relay.Queue().Retry(t.Context(), queue.Filter{To: "poison@a.example"}); err != nil {
			t.Fatal(err)
		}
		w.WaitUntilGone(id)
		w.WaitUntilGone(w.Send("anna@sender.example", "after@a.example"))
		sessions := make(map[int64]string)
		for _, m := range h.Messages()[1:] { // the first is the one that was not answered
			sessions[m.Session] += m.To + " "
		}
		alone := false
		for _, to := range sessions {
			alone = alone || to == "poison@a.example "
		}
		if !alone {
			t.Errorf("%s: %v", way.name, sessions)
		}
	}
}

// A host that takes so many recipients a transaction gets the rest in the next one,
// at once.
func TestTooManyRecipientsFollowAtOnce(t *testing.T) {
	all := e2e.New(t, "retry = [\"1h\"]\n")
	for i, way := range ways {
		for j, tt := range []struct {
			reply         string
			recipients, n int
		}{
			{"452 4.5.3 too many recipients", 12, 5},
			{"452 too many", 12, 5},
			{"452 4.5.3 Recipients belong to multiple regions ATTR38", 4, 1},
			{"552 5.5.3 Too many recipients", 12, 5},
			{"552 Too many recipients", 12, 5},
			{"550 5.5.3 enough", 12, 5},
			{"451 4.5.3 enough", 100, 10},
			{"452 4.1.1 requested action aborted, too many recipients", 7, 3},
		} {
			t.Run(way.name+"/"+tt.reply, func(t *testing.T) {
				t.Parallel()
				w := all.In(t)
				domain := fmt.Sprintf("a%d-%d.example", i, j)
				h := w.Host("mx." + domain)
				w.SetFaults(h, testnet.Faults{Without: way.without, With: way.with, TransactionRecipients: tt.n, TooMany: tt.reply, Recipients: map[string]string{"u1@" + domain: "550 5.1.1 no"}})
				w.Domain(domain, testnet.Domain{MX: []string{h.Name}})
				var to []string
				for i := range tt.recipients {
					to = append(to, fmt.Sprintf("u%d@%s", i, domain))
				}
				w.WaitUntilGone(w.Send("", to...))
				seen := make(map[string]int)
				for _, m := range h.Messages() {
					for _, r := range m.Recipients {
						seen[r]++
					}
				}
				for i, r := range to {
					if i != 1 && seen[r] != 1 {
						t.Errorf("%s: %d times", r, seen[r])
					}
				}
				if c := h.Counts(); c.Connections != 1 || len(h.Breaches()) > 0 {
					t.Errorf("%+v, %q", c, h.Breaches())
				}
			})
		}
	}
}

// Where none is taken, the recipient waits: it is not asked again and again.
func TestTooManyRecipientsWaitWhereNoneIsTaken(t *testing.T) {
	for _, tt := range []struct {
		reply string
		mails int64
	}{{"452 4.5.3 too many", 2}, {"552 5.5.3 too many", 2}, {"452 4.2.2 mailbox full", 1}} {
		w := e2e.New(t, "retry = [\"1h\"]\n")
		h := w.Host("mx.a.example")
		w.SetFaults(h, testnet.Faults{Recipients: map[string]string{"full@a.example": tt.reply}})
		w.Domain("a.example", testnet.Domain{MX: []string{h.Name}})
		m, gone := w.Attempted(w.Send("anna@sender.example", "kurt@a.example", "full@a.example"))
		if s := m.States; gone || s[0].State != queue.Delivered || s[1].State != queue.Queued || s[1].LastReply != tt.reply || !strings.HasPrefix(s[1].LastError, "4.") {
			t.Errorf("%s: gone %t, %+v", tt.reply, gone, s)
		}
		if c := h.Counts(); c.Mails != tt.mails || c.Messages != 1 {
			t.Errorf("%s: %+v", tt.reply, c)
		}
	}
}

// RFC 3207, 4: 454 is temporary, and 530 only says again that TLS is wanted.
func TestAHostThatWantsTLSAndCannotGiveItIsWaitedFor(t *testing.T) {
	for _, tt := range []struct {
		name, reply, why string
		faults           testnet.Faults
	}{
		{"454", "530 5.7.0 Must issue a STARTTLS command first", "tls-none", testnet.Faults{StartTLSReply: "454 4.7.0 TLS not available due to temporary reason"}},
		{"454, in few words", "530 5.7.0 no", "tls-none", testnet.Faults{StartTLSReply: "454 4.7.0 no"}},
		{"a handshake that breaks", "530 5.7.0 Must issue a STARTTLS command first", "tls-handshake", testnet.Faults{GarbageAfter220: true}},
		{"in other words", "554 5.7.10 encryption needed", "tls-handshake", testnet.Faults{GarbageAfter220: true}},
		{"no offer", "530 5.7.0 Must issue a STARTTLS command first", "tls-none", testnet.Faults{NoStartTLS: true}},
		{"HELO only", "550 5.7.1 TLS is required", "tls-none", testnet.Faults{Replies: map[string]string{"ehlo": "502 what?"}}},
	} {
		for _, step := range []string{"mail", "rcpt"} {
			t.Run(tt.name+"/"+step, func(t *testing.T) {
				t.Parallel()
				w := e2e.New(t, "retry = [\"1h\"]\n")
				h := w.Host("mx.a.example")
				f := tt.faults
				f.Replies = map[string]string{step: tt.reply}
				for k, v := range tt.faults.Replies {
					f.Replies[k] = v
				}
				w.SetFaults(h, f)
				w.Domain("a.example", testnet.Domain{MX: []string{h.Name}})
				id := w.Send("anna@sender.example", "kurt@a.example")
				if s := w.Deferred(id); s.ReasonCode != tt.why || s.LastReply != tt.reply || !strings.HasPrefix(s.LastError, "4.7.") {
					t.Errorf("%+v", s)
				}
				w.SetFaults(h, testnet.Faults{})
				if _, err := w.Relay.Queue().Retry(t.Context(), queue.Filter{}); err != nil {
					t.Fatal(err)
				}
				w.WaitUntilGone(id)
				if m := h.Messages(); len(m) != 1 || !m[0].TLS {
					t.Errorf("%+v", m)
				}
			})
		}
	}
}

// 530 that asks for a password is no matter of TLS.
func TestAHostThatWantsAPasswordRefuses(t *testing.T) {
	w := e2e.New(t, "retry = [\"1h\"]\n")
	h := w.Host("mx.a.example")
	w.SetFaults(h, testnet.Faults{StartTLSReply: "454 4.7.0 no", Replies: map[string]string{"mail": "530 5.7.1 Authentication required"}})
	w.Domain("a.example", testnet.Domain{MX: []string{h.Name}})
	w.WaitUntilGone(w.Send("", "kurt@a.example"))
}

// 4xx to AUTH is the provider's trouble, not the password's.
func TestAnAUTHThatIsPutOffIsTheProvidersTrouble(t *testing.T) {
	for reply, why := range map[string]string{"454 4.7.0 temporary authentication failure": "busy", "451 4.3.0 not now": "busy", "421 4.3.2 bye": "busy", "535 5.7.8 wrong": "route-auth", "504 5.5.4 what?": "route-auth"} {
		w := e2e.New(t, "retry = [\"1h\"]\n")
		w.Stop()
		h := w.Host("hop.example")
		h.Alias("587")
		if err := os.WriteFile(filepath.Join(w.Dir, "password"), []byte("secret"), 0o600); err != nil {
			t.Fatal(err)
		}
		w.SetFaults(h, testnet.Faults{Login: "me:secret", AuthMechanism: "PLAIN", Replies: map[string]string{"auth": reply}})
		w.Start("retry = [\"1h\"]\n[[domain]]\nname = \"a.example\"\nroute = \"hop.example:587\"\nuser = \"me\"\npassword_file = \"password\"\n")
		if s := w.Deferred(w.Send("anna@sender.example", "kurt@a.example")); s.ReasonCode != why || s.LastReply != reply {
			t.Errorf("%s: %+v", reply, s)
		}
	}
}

// A host that takes one session of ours greets others with 421: that costs nothing
// but those.
func TestAGreetingOf421CostsNothingWhileOtherSessionsWork(t *testing.T) {
	for _, n := range []int{1, 2} {
		w := e2e.New(t, "retry = [\"1h\"]\n")
		h := w.Host("mx.a.example")
		w.SetFaults(h, testnet.Faults{Sessions: n, Delay: 10 * time.Millisecond})
		w.Domain("a.example", testnet.Domain{MX: []string{h.Name}})
		const messages = 30
		for i := range messages {
			w.Send(fmt.Sprintf("s%d@sender.example", i), "kurt@a.example")
		}
		w.Received(h, messages)
		w.WaitUntilEmpty()
	}
}

// 421 to RCPT is the reason of all recipients that it cut off; what was said of one
// before stays.
func TestA421ToRCPTIsTheReasonOfAllThatItCutOff(t *testing.T) {
	for _, way := range ways {
		w := e2e.New(t, "retry = [\"1h\"]\n")
		h := w.Host("mx.a.example")
		w.SetFaults(h, testnet.Faults{Without: way.without, With: way.with, Recipients: map[string]string{"b@a.example": "550 5.1.1 no", "c@a.example": "421 4.7.0 too much of you"}})
		w.Domain("a.example", testnet.Domain{MX: []string{h.Name}})
		m, gone := w.Attempted(w.Send("", "a@a.example", "b@a.example", "c@a.example", "d@a.example"))
		if gone {
			t.Fatal(way.name, "it is gone")
		}
		for i, s := range m.States {
			if i == 1 && (s.State != queue.Bounced || s.LastReply != "550 5.1.1 no") {
				t.Errorf("%s: %+v", way.name, s)
			}
			if i != 1 && (s.State != queue.Queued || s.ReasonCode != "busy" || s.LastReply != "421 4.7.0 too much of you" || strings.Contains(s.LastError, "nil")) {
				t.Errorf("%s: %+v", way.name, s)
			}
		}
	}
}

// What hosts write by other books is read.
func TestRepliesByOtherBooks(t *testing.T) {
	for _, tt := range []struct{ name, reply, last, diagnostic string }{
		{"codes differ", "550-5.1.1 no such\n551 5.1.1 user", "551 5.1.1 no such user", "551 5.1.1 no such user"},
		{"a long line", "550 5.1.1 " + strings.Repeat("x", 6000), "550 5.1.1 " + strings.Repeat("x", 489) + "…", "550 5.1.1 xxx"},
		{"many lines", strings.Repeat("550-5.1.1 x\n", 150) + "550 5.1.1 x", "550 5.1.1 x x", "550 5.1.1 x x"},
		{"UTF-8", "550 5.1.1 Der Empfänger ist unbekannt", "550 5.1.1 Der Empfänger ist unbekannt", `550 5.1.1 Der Empf\xc3\xa4nger ist unbekannt`},
	} {
		w := e2e.New(t, "retry = [\"1h\"]\n")
		h, back := w.Host("mx.a.example"), w.Host("mx.sender.example")
		w.SetFaults(h, testnet.Faults{Recipients: map[string]string{"b@a.example": tt.reply, "c@a.example": "451 4.3.0 later"}})
		w.Domain("a.example", testnet.Domain{MX: []string{h.Name}})
		w.Domain("sender.example", testnet.Domain{MX: []string{back.Name}})
		m, gone := w.Attempted(w.Send("anna@sender.example", "b@a.example", "c@a.example"))
		if gone || m.States[0].State != queue.Bounced || !strings.HasPrefix(m.States[0].LastReply, tt.last) {
			t.Errorf("%s: gone %t, %+v", tt.name, gone, m.States)
		}
		if text := string(w.Received(back, 1)[0].Data); !strings.Contains(text, "Diagnostic-Code: smtp; "+tt.diagnostic) {
			t.Errorf("%s: %s", tt.name, text)
		}
	}
}

// A greeting whose last line refuses is a refusal.
func TestAGreetingWhoseLastLineRefuses(t *testing.T) {
	w := e2e.New(t, "retry = [\"1h\"]\n")
	h := w.Host("mx.a.example")
	w.SetFaults(h, testnet.Faults{Replies: map[string]string{"greeting": "220-mx.example\n521 5.7.1 listed, see https://list.example"}})
	w.Domain("a.example", testnet.Domain{MX: []string{h.Name}})
	if s := w.Deferred(w.Send("", "kurt@a.example")); s.ReasonCode != "greeting" || !strings.Contains(s.LastReply, "https://list.example") {
		t.Errorf("%+v", s)
	}
}

// A session that has carried mail may end with 421 (RFC 5321, 3.8): the message
// goes over another one, at once.
func TestA421OnASessionThatWasUsedDelaysNothing(t *testing.T) {
	w := e2e.New(t, "retry = [\"1h\"]\n")
	h := w.Host("mx.a.example")
	w.SetFaults(h, testnet.Faults{SessionMessages: 1})
	w.Domain("a.example", testnet.Domain{MX: []string{h.Name}})
	w.Deliver("one@a.example")
	w.Deliver("two@a.example")
	if c := h.Counts(); c.Messages != 2 || c.Connections != 2 {
		t.Errorf("%+v", c)
	}
}

// A host that says 421 to all mail is given a rest.
func TestAHostThatSays421ToMailIsLeftAlone(t *testing.T) {
	for _, step := range []string{"mail", "rcpt"} {
		w := e2e.New(t, "retry = [\"1h\"]\nconcurrency_per_host = 1\n")
		h := w.Host("mx.a.example")
		w.SetFaults(h, testnet.Faults{Replies: map[string]string{step: "421 4.7.0 too much of you"}})
		w.Domain("a.example", testnet.Domain{MX: []string{h.Name}})
		m, gone := w.Attempted(w.Send("anna@sender.example", "one@a.example"))
		if gone || m.States[0].ReasonCode != "busy" {
			t.Fatalf("%s: gone %t, %+v", step, gone, m.States)
		}
		before := h.Counts().Connections
		id := w.Send("anna@sender.example", "two@a.example")
		w.WaitFor("the second message to wait with its domain", func(q *queue.Queue) bool {
			found := false
			_ = q.List(t.Context(), queue.Filter{To: "two@a.example"}, func(m queue.Message) bool {
				found = m.ID.String() == id && m.Waits[0].Backoff.Code == "busy" && time.Until(m.NextAttemptAt) > time.Minute
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
		w := e2e.New(t, "retry = [\"1h\"]\n")
		h := w.Host("mx.a.example")
		w.SetFaults(h, f)
		w.Domain("a.example", testnet.Domain{MX: []string{h.Name}})
		m, gone := w.Attempted(w.Send("anna@sender.example", "a@a.example", "b@a.example"))
		if gone || m.States[1].State != queue.Queued || !strings.Contains(m.States[1].LastError, "does not belong there") {
			t.Errorf("gone %t, %+v", gone, m.States)
		}
		w.SetFaults(h, testnet.Faults{})
		w.Send("anna@sender.example", "c@a.example")
		w.Received(h, 1)
		if c := h.Counts(); c.Connections < 2 {
			t.Errorf("the session was used again: %+v", c)
		}
	}
}

// 421 to STARTTLS says nothing about TLS.
func TestA421ToSTARTTLSIsTheHostsTrouble(t *testing.T) {
	w := e2e.New(t, "retry = [\"1h\"]\n")
	h := w.Host("mx.a.example")
	w.SetFaults(h, testnet.Faults{StartTLSReply: "421 4.7.0 too many connections"})
	w.Domain("a.example", testnet.Domain{MX: []string{h.Name}})
	m, gone := w.Attempted(w.Send("anna@sender.example", "kurt@a.example"))
	if s := m.States[0]; gone || s.ReasonCode != "busy" || !strings.HasPrefix(s.LastReply, "421 ") {
		t.Errorf("gone %t, %+v", gone, s)
	}
	if h.Counts().MailsInClear > 0 {
		t.Error("it went on in clear")
	}
}

// A session that the operator's route has opened to a private address is no way
// for a stranger's domain to get there.
func TestASessionOfARouteIsNoWayToAPrivateAddress(t *testing.T) {
	w := e2e.New(t, "")
	w.Stop()
	h := w.Host("internal.hop.example")
	w.Domain("evil.example", testnet.Domain{MX: []string{h.Name}})
	w.RefusePrivate = true
	w.Start("retry = [\"1h\"]\n[[domain]]\nname = \"routed.example\"\nroute = \"internal.hop.example:25\"\n")
	w.Deliver("kurt@routed.example")
	m, gone := w.Attempted(w.Send("anna@sender.example", "kurt@evil.example"))
	if gone || !strings.Contains(m.States[0].LastError, "private addresses") || h.Counts().Messages != 1 {
		t.Errorf("gone %t, %+v", gone, m.States)
	}
}

// A session that turns out to be dead is none for the domain that has tried it.
func TestADeadSessionIsNotCounted(t *testing.T) {
	w := e2e.New(t, "")
	h := w.Host("mx.shared.example")
	for _, d := range []string{"a.example", "b.example"} {
		w.Domain(d, testnet.Domain{MX: []string{h.Name}})
		w.Deliver("kurt@" + d)
		h.Cut()
		if good, failed := w.Sessions(d); good != 1 || failed != 0 {
			t.Errorf("%s: %d sessions good, %d failed", d, good, failed)
		}
	}
}

// A host that answers a command twice is out of step: what it says then is about another
// recipient, or another message.
func TestAReplyTooManyIsNotThatOfTheNextCommand(t *testing.T) {
	for _, f := range []testnet.Faults{{}, {NoStartTLS: true}, {Without: []string{"PIPELINING"}}} {
		w := e2e.New(t, "")
		h := w.Host("mx.a.example")
		f.Replies = map[string]string{"dot": "250 2.0.0 taken\n250 2.0.0 taken"}
		f.Recipients = map[string]string{"nobody@a.example": "550 5.1.1 nobody"}
		w.SetFaults(h, f)
		w.Domain("a.example", testnet.Domain{MX: []string{h.Name}})
		w.Send("anna@sender.example", "a@a.example")
		w.Received(h, 1)
		w.WaitFor("the queue to be empty", func(q *queue.Queue) bool { return q.Counts().Messages == 0 })
		w.Send("anna@sender.example", "b@a.example", "nobody@a.example")
		if got := w.Received(h, 2); got[1].To != "b@a.example" {
			t.Errorf("%+v: received for %s", f, got[1].To)
		}
	}
}

// Some hosts refuse a message when they have read enough of it, and close the connection.
func TestARefusalInTheMiddleOfTheContentCounts(t *testing.T) {
	long := "Subject: long\r\n\r\n" + strings.Repeat(strings.Repeat("x", 70)+"\r\n", 110_000)
	w := e2e.New(t, "retry = [\"1h\"]\n")
	for i, tt := range []struct {
		said   string
		way    testnet.Faults
		state  queue.State
		reason string
	}{
		{"552 5.3.4 too long", testnet.Faults{}, queue.Bounced, "552 5.3.4 too long"},
		{"552 5.3.4 too long", testnet.Faults{NoStartTLS: true}, queue.Bounced, "552 5.3.4 too long"},
		{"552 5.3.4 too long", testnet.Faults{Without: []string{"PIPELINING"}}, queue.Bounced, "552 5.3.4 too long"},
		{"451 4.3.0 not now", testnet.Faults{}, queue.Queued, "451 4.3.0 not now"},
		{"421 4.3.2 going down", testnet.Faults{}, queue.Queued, "421 4.3.2 going down"},
		{"250 2.0.0 taken", testnet.Faults{}, queue.Queued, "was lost: DATA: "}, // it has not seen the end
	} {
		domain := fmt.Sprintf("d%d.example", i)
		h := w.Host("mx." + domain)
		f := tt.way
		f.ContentOctets, f.TooLong = 100<<10, tt.said
		f.Recipients = map[string]string{"later@" + domain: "450 4.2.1 later"}
		w.SetFaults(h, f)
		w.Domain(domain, testnet.Domain{MX: []string{h.Name}})
		id, err := e2e.SendMail(w.Addr, "anna@sender.example", long, "b@"+domain, "later@"+domain)
		if err != nil {
			t.Fatal(err)
		}
		m, _ := w.Attempted(id)
		if s := m.States[0]; s.State != tt.state || !strings.Contains(s.LastError, tt.reason) {
			t.Errorf("%q: %+v", tt.said, s)
		}
	}
}

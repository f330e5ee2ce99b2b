package relay_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
)

// A reply to MAIL on a session that has carried a message says nothing of the next
// one: a fresh session is opened at once, and what that one hears counts.
func TestARefusedMAILOnAUsedSessionDelaysNothing(t *testing.T) {
	for _, way := range ways {
		for _, reply := range []string{"503 5.5.1 EHLO first", "451 4.7.0 too many messages", "450 reconnect", "452 4.3.2 enough", "550 5.7.1 no more", "554 5.5.1 error", "421 4.7.0 bye"} {
			t.Run(way.name+"/"+reply, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, "retry = [\"1h\"]\n")
				h := w.host("mx.a.example")
				w.set(h, testnet.Faults{Without: way.without, With: way.with, SessionMessages: 1, Enough: reply})
				w.domain("a.example", testnet.Domain{MX: []string{h.Name}})
				const n = 4
				for i := range n {
					w.gone(w.send(fmt.Sprintf("s%d@sender.example", i), "kurt@a.example"))
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
	w := newWorld(t, "retry = [\"1h\"]\n")
	h := w.host("mx.a.example")
	w.domain("a.example", testnet.Domain{MX: []string{h.Name}})
	w.deliver("one@a.example")
	w.set(h, testnet.Faults{Replies: map[string]string{"mail": "451 4.7.1 not now"}})
	h.Cut()
	if s := w.waits(w.send("anna@sender.example", "two@a.example")); s.ReasonCode != "content" || !strings.HasPrefix(s.LastReply, "451 4.7.1") {
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
		w := newWorld(t, "retry = [\"1h\"]\n")
		h := w.host("mx.a.example")
		w.domain("a.example", testnet.Domain{MX: []string{h.Name}})
		f := testnet.Faults{Without: way.without, With: way.with, Drop: "dot"}
		w.set(h, f)
		id := w.send("anna@sender.example", "poison@a.example")
		if s := w.waits(id); s.ReasonCode != "unknown-result" {
			t.Fatalf("%s: %+v", way.name, s)
		}
		f.Drop = ""
		w.set(h, f)
		w.gone(w.send("anna@sender.example", "before@a.example"))
		if _, err := w.relay.Queue().Retry(t.Context(), queue.Filter{To: "poison@a.example"}); err != nil {
			t.Fatal(err)
		}
		w.gone(id)
		w.gone(w.send("anna@sender.example", "after@a.example"))
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
	for _, way := range ways {
		for _, tt := range []struct {
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
				w := newWorld(t, "retry = [\"1h\"]\n")
				h := w.host("mx.a.example")
				w.set(h, testnet.Faults{Without: way.without, With: way.with, TransactionRecipients: tt.n, TooMany: tt.reply, Recipients: map[string]string{"u1@a.example": "550 5.1.1 no"}})
				w.domain("a.example", testnet.Domain{MX: []string{h.Name}})
				var to []string
				for i := range tt.recipients {
					to = append(to, fmt.Sprintf("u%d@a.example", i))
				}
				w.gone(w.send("", to...))
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
		w := newWorld(t, "retry = [\"1h\"]\n")
		h := w.host("mx.a.example")
		w.set(h, testnet.Faults{Recipients: map[string]string{"full@a.example": tt.reply}})
		w.domain("a.example", testnet.Domain{MX: []string{h.Name}})
		m, gone := w.attempted(w.send("anna@sender.example", "kurt@a.example", "full@a.example"))
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
				w := newWorld(t, "retry = [\"1h\"]\n")
				h := w.host("mx.a.example")
				f := tt.faults
				f.Replies = map[string]string{step: tt.reply}
				for k, v := range tt.faults.Replies {
					f.Replies[k] = v
				}
				w.set(h, f)
				w.domain("a.example", testnet.Domain{MX: []string{h.Name}})
				id := w.send("anna@sender.example", "kurt@a.example")
				if s := w.waits(id); s.ReasonCode != tt.why || s.LastReply != tt.reply || !strings.HasPrefix(s.LastError, "4.7.") {
					t.Errorf("%+v", s)
				}
				w.set(h, testnet.Faults{})
				if _, err := w.relay.Queue().Retry(t.Context(), queue.Filter{}); err != nil {
					t.Fatal(err)
				}
				w.gone(id)
				if m := h.Messages(); len(m) != 1 || !m[0].TLS {
					t.Errorf("%+v", m)
				}
			})
		}
	}
}

// 530 that asks for a password is no matter of TLS.
func TestAHostThatWantsAPasswordRefuses(t *testing.T) {
	w := newWorld(t, "retry = [\"1h\"]\n")
	h := w.host("mx.a.example")
	w.set(h, testnet.Faults{StartTLSReply: "454 4.7.0 no", Replies: map[string]string{"mail": "530 5.7.1 Authentication required"}})
	w.domain("a.example", testnet.Domain{MX: []string{h.Name}})
	w.gone(w.send("", "kurt@a.example"))
}

// 4xx to AUTH is the provider's trouble, not the password's.
func TestAnAUTHThatIsPutOffIsTheProvidersTrouble(t *testing.T) {
	for reply, why := range map[string]string{"454 4.7.0 temporary authentication failure": "busy", "451 4.3.0 not now": "busy", "421 4.3.2 bye": "busy", "535 5.7.8 wrong": "route-auth", "504 5.5.4 what?": "route-auth"} {
		w := newWorld(t, "retry = [\"1h\"]\n")
		w.stop()
		h := w.host("hop.example")
		h.Alias("587")
		if err := os.WriteFile(filepath.Join(w.dir, "password"), []byte("secret"), 0o600); err != nil {
			t.Fatal(err)
		}
		w.set(h, testnet.Faults{Login: "me:secret", AuthMechanism: "PLAIN", Replies: map[string]string{"auth": reply}})
		w.start("retry = [\"1h\"]\n[[domain]]\nname = \"a.example\"\nroute = \"hop.example:587\"\nuser = \"me\"\npassword_file = \"password\"\n")
		if s := w.waits(w.send("anna@sender.example", "kurt@a.example")); s.ReasonCode != why || s.LastReply != reply {
			t.Errorf("%s: %+v", reply, s)
		}
	}
}

// A host that takes one session of ours greets others with 421: that costs nothing
// but those.
func TestAGreetingOf421CostsNothingWhileOtherSessionsWork(t *testing.T) {
	for _, n := range []int{1, 2} {
		w := newWorld(t, "retry = [\"1h\"]\n")
		h := w.host("mx.a.example")
		w.set(h, testnet.Faults{Sessions: n, Delay: 10 * time.Millisecond})
		w.domain("a.example", testnet.Domain{MX: []string{h.Name}})
		const messages = 30
		for i := range messages {
			w.send(fmt.Sprintf("s%d@sender.example", i), "kurt@a.example")
		}
		w.wait(h, messages)
		w.empty()
	}
}

// 421 to RCPT is the reason of all recipients that it cut off; what was said of one
// before stays.
func TestA421ToRCPTIsTheReasonOfAllThatItCutOff(t *testing.T) {
	for _, way := range ways {
		w := newWorld(t, "retry = [\"1h\"]\n")
		h := w.host("mx.a.example")
		w.set(h, testnet.Faults{Without: way.without, With: way.with, Recipients: map[string]string{"b@a.example": "550 5.1.1 no", "c@a.example": "421 4.7.0 too much of you"}})
		w.domain("a.example", testnet.Domain{MX: []string{h.Name}})
		m, gone := w.attempted(w.send("", "a@a.example", "b@a.example", "c@a.example", "d@a.example"))
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
		w := newWorld(t, "retry = [\"1h\"]\n")
		h, back := w.host("mx.a.example"), w.host("mx.sender.example")
		w.set(h, testnet.Faults{Recipients: map[string]string{"b@a.example": tt.reply, "c@a.example": "451 4.3.0 later"}})
		w.domain("a.example", testnet.Domain{MX: []string{h.Name}})
		w.domain("sender.example", testnet.Domain{MX: []string{back.Name}})
		m, gone := w.attempted(w.send("anna@sender.example", "b@a.example", "c@a.example"))
		if gone || m.States[0].State != queue.Bounced || !strings.HasPrefix(m.States[0].LastReply, tt.last) {
			t.Errorf("%s: gone %t, %+v", tt.name, gone, m.States)
		}
		if text := string(w.wait(back, 1)[0].Data); !strings.Contains(text, "Diagnostic-Code: smtp; "+tt.diagnostic) {
			t.Errorf("%s: %s", tt.name, text)
		}
	}
}

// A greeting whose last line refuses is a refusal.
func TestAGreetingWhoseLastLineRefuses(t *testing.T) {
	w := newWorld(t, "retry = [\"1h\"]\n")
	h := w.host("mx.a.example")
	w.set(h, testnet.Faults{Replies: map[string]string{"greeting": "220-mx.example\n521 5.7.1 listed, see https://list.example"}})
	w.domain("a.example", testnet.Domain{MX: []string{h.Name}})
	if s := w.waits(w.send("", "kurt@a.example")); s.ReasonCode != "greeting" || !strings.Contains(s.LastReply, "https://list.example") {
		t.Errorf("%+v", s)
	}
}

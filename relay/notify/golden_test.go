package notify

import (
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"

	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/failure"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Every kind of notice in every language, as it goes out.
func TestGolden(t *testing.T) {
	bounced := func(why, text, reply string) queue.RecipientState {
		return queue.RecipientState{State: queue.Bounced, ReasonCode: why, Status: strings.Fields(text)[0], LastError: text, LastReply: reply, Host: "mx.example.org"}
	}
	waits := func(why, text string) queue.RecipientState {
		return queue.RecipientState{State: queue.Queued, ReasonCode: why, Status: strings.Fields(text)[0], LastError: text, Host: "mx.example.org"}
	}
	const tls = `4.7.5 example.org asks for verified TLS (MTA-STS, mode enforce), and the certificate of mx.example.org expired on 2026-11-01; nothing was sent (certificate-expired)`
	kurt, maria := queue.Recipient{Address: "kurt@example.org", Domain: "example.org"}, queue.Recipient{Address: "maria@example.org", Domain: "example.org"}
	type maker func(*Reporter, *queue.Claim, []queue.RecipientState) (queue.NewMessage, bool)
	failure, delay := (*Reporter).Failure, (*Reporter).Delay
	for _, tt := range []struct {
		name       string
		env        queue.Envelope
		recipients []queue.Recipient
		states     []queue.RecipientState
		before     []queue.RecipientState
		make       maker
	}{
		{"failed-mailbox", queue.Envelope{From: "anna@example.com", Ret: "FULL", EnvID: "QQ314159"}, []queue.Recipient{kurt, {Address: "maria@example.org", Domain: "example.org", ORcpt: "rfc822;m@example.org"}, {Address: "paul@example.net", Domain: "example.net"}},
			[]queue.RecipientState{
				bounced("rcpt", "5.1.1 mx.example.org said: 550 5.1.1 no such user", "550 5.1.1 no such user"),
				bounced("rcpt", "5.1.1 mx.example.org said: 550 5.1.1 no such user", "550 5.1.1 no such user"),
				bounced("content", "5.7.1 mx.example.org said: 554 5.7.1 looks like spam", "554 5.7.1 looks like spam"),
			}, nil, failure},
		{"failed-tls", queue.Envelope{From: "anna@example.com"}, []queue.Recipient{kurt},
			[]queue.RecipientState{bounced("expired", "5.4.7 not delivered within 120h0m0s; the last reason was: "+tls, "")},
			[]queue.RecipientState{waits("tls-expired", tls)}, failure},
		{"failed-expired", queue.Envelope{From: "anna@example.com"}, []queue.Recipient{kurt},
			[]queue.RecipientState{bounced("expired", "5.4.7 not delivered within 120h0m0s; the last reason was: 4.2.1 mx.example.org said: 450 4.2.1 busy", "450 4.2.1 busy")},
			[]queue.RecipientState{waits("rcpt", "4.2.1 mx.example.org said: 450 4.2.1 busy")}, failure},
		{"delayed-tls", queue.Envelope{From: "anna@example.com"}, []queue.Recipient{kurt, maria}, []queue.RecipientState{waits("tls-expired", tls), waits("tls-expired", tls)}, nil, delay},
		{"delayed-greylisted", queue.Envelope{From: "anna@example.com"}, []queue.Recipient{kurt}, []queue.RecipientState{waits("rcpt", "4.7.1 mx.example.org said: 450 4.7.1 greylisted, try again later")}, nil, delay},
		{"relayed", queue.Envelope{From: "anna@example.com"}, []queue.Recipient{{Address: "kurt@example.org", Domain: "example.org", Notify: []string{"SUCCESS"}}},
			[]queue.RecipientState{{State: queue.Delivered, LastReply: "250 2.0.0 ok", Host: "mx.example.org"}}, nil,
			func(r *Reporter, w *queue.Claim, s []queue.RecipientState) (queue.NewMessage, bool) {
				return r.Success(w, s, []bool{true})
			}},
		{"removed", queue.Envelope{From: "anna@example.com"}, []queue.Recipient{kurt}, []queue.RecipientState{{State: queue.Queued}}, nil,
			func(r *Reporter, w *queue.Claim, s []queue.RecipientState) (queue.NewMessage, bool) {
				return r.Removed(queue.Message{Envelope: w.Envelope, States: s}, "sent by mistake")
			}},
		{"failed-utf8", queue.Envelope{From: "änna@example.com", SMTPUTF8: true, Ret: "FULL"}, []queue.Recipient{{Address: "jürgen@example.org", Domain: "example.org", ORcpt: "utf-8;jürgen@example.org"}},
			[]queue.RecipientState{bounced("rcpt", "5.2.2 mx.example.org said: 552 5.2.2 Fach von jürgen voll", "552 5.2.2 Fach von jürgen voll")}, nil, failure},
	} {
		for language := range languages {
			t.Run(tt.name+"."+language, func(t *testing.T) {
				r := reporter()
				r.Language = func() string { return language }
				r.Content = func(queue.ID) (io.Reader, error) {
					return strings.NewReader("Subject: =?utf-8?q?Angebot_f=C3=BCr?=\r\n =?utf-8?q?_M=C3=A4rz?=\r\nFrom: anna@example.com\r\n\r\nthe body\r\n"), nil
				}
				tt.env.ID = ulid.MustParse("01KAS0D4Z1V7T8Q9R2S3T4V5W6")
				w, _ := work(tt.env, tt.recipients...)
				w.States = tt.before
				m, ok := tt.make(r, w, tt.states)
				if !ok {
					t.Fatal("no notice is owed")
				}
				parts(t, m)
				file := filepath.Join("testdata", tt.name+"."+language+".eml")
				if *update {
					if err := os.WriteFile(file, m.Body, 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if string(want) != string(m.Body) {
					t.Errorf("%s differs (-update writes it anew):\n%s", file, m.Body)
				}
			})
		}
	}
}

// What the texts lack would show as a panic, long after.
func TestEveryCauseHasItsTextInEveryLanguage(t *testing.T) {
	whys := []string{"", "a code that is none"}
	for _, r := range failure.All() {
		whys = append(whys, r.Code)
	}
	statuses := []string{"", "5.1.1", "5.1.2", "5.2.1", "5.2.2", "5.2.3", "5.7.1", "5.7.10", "5.7.30"}
	for language, texts := range languages {
		seen := make(map[string]string)
		for _, why := range whys {
			for _, status := range statuses {
				w, states := work(queue.Envelope{From: "a@b.example"}, queue.Recipient{Address: "k@example.org", Domain: "example.org"})
				states[0].ReasonCode, states[0].Status, states[0].LastError = why, status, status+" said no"
				r := reporter()
				r.Language = func() string { return language }
				m, ok := r.Failure(w, states)
				if !ok || strings.Contains(string(m.Body), "no value") {
					t.Fatalf("%s %s %s: %s", language, why, status, m.Body)
				}
				n := notice{reporter: r, action: Failed, env: &w.Envelope, entries: entries(w, states, func(int) bool { return true })}
				g := n.page(nil).Groups[0]
				if g.What == "" || g.Do == "" {
					t.Errorf("%s: %s %s has no text", language, why, status)
				}
				if other, ok := seen[g.What]; ok && other != g.key {
					t.Errorf("%s: %s and %s have the same text", language, other, g.key)
				}
				seen[g.What] = g.key
			}
		}
		if len(seen) < 25 {
			t.Errorf("%s: %d texts only", language, len(seen))
		}
		for other, o := range languages {
			for _, d := range o.Templates() {
				if !strings.HasSuffix(d.Name(), ".txt") && texts.Lookup(d.Name()) == nil {
					t.Errorf("%s has %q, and %s does not", other, d.Name(), language)
				}
			}
		}
	}
}

func TestSuccessIsToldOnlyWhereItWasAskedForAndTheHostWillNotTell(t *testing.T) {
	for _, tt := range []struct {
		name    string
		notify  []string
		state   queue.State
		relayed []bool
		want    bool
	}{
		{"asked", []string{"SUCCESS", "FAILURE"}, queue.Delivered, []bool{true}, true},
		{"the host offers DSN", []string{"SUCCESS"}, queue.Delivered, []bool{false}, false},
		{"not asked", nil, queue.Delivered, []bool{true}, false},
		{"asked for failures", []string{"FAILURE"}, queue.Delivered, []bool{true}, false},
		{"NEVER", []string{"NEVER"}, queue.Delivered, []bool{true}, false},
		{"not delivered", []string{"SUCCESS"}, queue.Queued, []bool{true}, false},
		{"nothing known", []string{"SUCCESS"}, queue.Delivered, nil, false},
	} {
		w, states := work(queue.Envelope{From: "a@b.example", Ret: "FULL"}, queue.Recipient{Address: "k@example.org", Notify: tt.notify})
		states[0].State = tt.state
		m, ok := reporter().Success(w, states, tt.relayed)
		if ok != tt.want {
			t.Errorf("%s: %t", tt.name, ok)
		}
		if ok && (!strings.Contains(string(m.Body), "Action: relayed\r\nStatus: 2.0.0") || strings.Contains(string(m.Body), "the body")) {
			t.Errorf("%s: %s", tt.name, m.Body)
		}
	}
}

// Subjects come from strangers.
func FuzzSubject(f *testing.F) {
	for _, s := range []string{"", "hello", "=?utf-8?q?=C3=A4?=", "=?utf-8?b?AAAA?=", "=?x?q?a?=", "a\r\n\tb", "\x1b[31m", "=?utf-8?q?a=0D=0ABcc:_x?=", strings.Repeat("ä", 400), "x?= =?y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r := reporter()
		r.Content = func(queue.ID) (io.Reader, error) { return strings.NewReader("Subject: " + s + "\r\n\r\n"), nil }
		w, states := work(queue.Envelope{From: "a@b.example"}, queue.Recipient{Address: "k@example.org"})
		states[0].LastReply, states[0].LastError = s, s
		m, _ := r.Failure(w, states)
		h, types, bodies := parts(t, m)
		if len(h) != 8 || len(types) != 3 {
			t.Fatalf("%v %v", h, types)
		}
		for line := range strings.SplitSeq(bodies[1], "\r\n") {
			if len(line) > 998 || !isASCII([]byte(line)) || strings.ContainsAny(line, "\r\n\x00") {
				t.Fatalf("%q", line)
			}
		}
	})
}

package notify

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/queue"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

const original = "Subject: grüße\r\nFrom: anna@example.com\r\n\r\nthe body\r\n"

func reporter() *Reporter {
	return &Reporter{
		Hostname: "relay.example.com", Now: func() time.Time { return now },
		Content: func(queue.ID) (io.Reader, error) { return strings.NewReader(original), nil },
	}
}

func work(env queue.Envelope, recipients ...queue.Recipient) (*queue.Claim, []queue.RecipientState) {
	env.Recipients, env.ReceivedAt, env.Size = recipients, now.Add(-5*time.Hour), int64(len(original))
	w := &queue.Claim{Envelope: env, ExpiresAt: env.ReceivedAt.Add(120 * time.Hour)}
	var states []queue.RecipientState
	for i := range recipients {
		w.Recipients = append(w.Recipients, i)
		states = append(states, queue.RecipientState{State: queue.Bounced, Status: "5.1.1", LastError: "5.1.1 mx said: 550 no", LastReply: "550 5.1.1 no", Host: "mx.example.org"})
	}
	return w, states
}

// parts parses a notice as a mail program would.
func parts(t *testing.T, m queue.NewMessage) (header mail.Header, types []string, bodies []string) {
	t.Helper()
	msg, err := mail.ReadMessage(bytes.NewReader(m.Body))
	if err != nil {
		t.Fatal(err)
	}
	mediaType, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	if err != nil || mediaType != "multipart/report" || !strings.HasSuffix(params["report-type"], "delivery-status") {
		t.Fatalf("%s %v, %v", mediaType, params, err)
	}
	r := multipart.NewReader(msg.Body, params["boundary"])
	for {
		p, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			if len(types) != 3 || types[1] != "message/"+params["report-type"] { // RFC 6522, 3
				t.Fatalf("%v, %v", types, params)
			}
			return msg.Header, types, bodies
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		types, bodies = append(types, p.Header.Get("Content-Type")), append(bodies, string(body))
	}
}

func TestAFailureNotice(t *testing.T) {
	w, states := work(queue.Envelope{From: "anna@bücher.example", EnvID: "e 1"}, queue.Recipient{Address: "kurt@example.org", ORcpt: "rfc822;k@example.org"})
	w.Envelope.From = "anna@xn--bcher-kva.example"
	m, ok := reporter().Failure(w, states)
	if !ok || m.Envelope.From != "" || m.Envelope.Kind != queue.Notice || m.Envelope.Recipients[0].Domain != "xn--bcher-kva.example" || m.Envelope.Recipients[0].Notify[0] != "NEVER" {
		t.Fatalf("%+v", m.Envelope)
	}
	h, types, bodies := parts(t, m)
	if h.Get("Auto-Submitted") != "auto-replied" || h.Get("To") != "<anna@xn--bcher-kva.example>" {
		t.Errorf("%v", h)
	}
	if strings.Join(types, "|") != "text/plain; charset=utf-8|message/delivery-status|text/rfc822-headers" {
		t.Errorf("%q", types)
	}
	for _, want := range []string{"Original-Envelope-Id: e 1", "Reporting-MTA: dns; relay.example.com", "Original-Recipient: rfc822; k@example.org", "Final-Recipient: rfc822; kurt@example.org",
		"Action: failed", "Status: 5.1.1", "Remote-MTA: dns; mx.example.org", "Diagnostic-Code: smtp; 550 5.1.1 no", "Arrival-Date: Mon, 23 Nov 2026 07:00:00 +0000"} {
		if !strings.Contains(bodies[1], want) {
			t.Errorf("the status lacks %q:\n%s", want, bodies[1])
		}
	}
	if !strings.Contains(bodies[2], "Subject: grüße") || strings.Contains(bodies[2], "the body") {
		t.Errorf("returned: %q", bodies[2])
	}
	if !m.Envelope.EightBit {
		t.Error("8-bit headers are not declared")
	}
}

func TestWhatComesBack(t *testing.T) {
	for _, tt := range []struct {
		name  string
		env   queue.Envelope
		whole bool
	}{
		{"nothing asked", queue.Envelope{From: "a@b.example"}, false},
		{"RET=HDRS", queue.Envelope{From: "a@b.example", Ret: "HDRS"}, false},
		{"RET=FULL", queue.Envelope{From: "a@b.example", Ret: "FULL"}, true},
		{"RET=FULL of a message that requires TLS", queue.Envelope{From: "a@b.example", Ret: "FULL", RequireTLS: true}, false},
	} {
		w, states := work(tt.env, queue.Recipient{Address: "k@example.org"})
		m, _ := reporter().Failure(w, states)
		if got := strings.Contains(string(m.Body), "the body"); got != tt.whole {
			t.Errorf("%s: whole %t", tt.name, got)
		}
	}
	w, states := work(queue.Envelope{From: "a@b.example", Ret: "FULL"}, queue.Recipient{Address: "k@example.org"})
	w.Envelope.Size = maxReturned + 1
	if m, _ := reporter().Failure(w, states); strings.Contains(string(m.Body), "the body") {
		t.Error("a large message comes back whole")
	}
}

func TestToWhomANoticeIsOwed(t *testing.T) {
	for _, tt := range []struct {
		name           string
		env            queue.Envelope
		notify         []string
		failure, delay bool
	}{
		{"nothing asked", queue.Envelope{From: "a@b.example"}, nil, true, true},
		{"null sender", queue.Envelope{}, nil, false, false},
		{"a notice", queue.Envelope{From: "a@b.example", Kind: queue.Notice}, nil, false, false},
		{"a report", queue.Envelope{From: "a@b.example", Kind: queue.Report}, nil, false, false},
		{"NEVER", queue.Envelope{From: "a@b.example"}, []string{"NEVER"}, false, false},
		{"SUCCESS", queue.Envelope{From: "a@b.example"}, []string{"SUCCESS"}, false, false},
		{"FAILURE", queue.Envelope{From: "a@b.example"}, []string{"FAILURE"}, true, false},
		{"DELAY", queue.Envelope{From: "a@b.example"}, []string{"DELAY"}, false, true},
	} {
		w, states := work(tt.env, queue.Recipient{Address: "k@example.org", Notify: tt.notify})
		if _, ok := reporter().Failure(w, states); ok != tt.failure {
			t.Errorf("%s: failure notice %t", tt.name, ok)
		}
		states[0].State = queue.Queued
		m, ok := reporter().Delay(w, states)
		if ok != tt.delay {
			t.Errorf("%s: delay notice %t", tt.name, ok)
		}
		if ok && !strings.Contains(string(m.Body), "Action: delayed") || ok && !strings.Contains(string(m.Body), "Will-Retry-Until: Sat, 28 Nov 2026 07:00:00 +0000") || ok && !strings.Contains(string(m.Body), "Status: 4.1.1") {
			t.Errorf("%s: %s", tt.name, m.Body)
		}
		states[0].Delayed = true
		if _, ok := reporter().Delay(w, states); ok {
			t.Errorf("%s: told twice", tt.name)
		}
		states[0].State = queue.Delivered
		if _, ok := reporter().Failure(w, states); ok {
			t.Errorf("%s: a notice about a delivery", tt.name)
		}
	}
}

// What hosts say must not become header fields of the notice.
func TestRepliesAreKeptInOneLine(t *testing.T) {
	w, states := work(queue.Envelope{From: "a@b.example"}, queue.Recipient{Address: "k@example.org"})
	states[0].LastReply = "550 no\r\nEvil: yes"
	m, _ := reporter().Failure(w, states)
	if strings.Contains(string(m.Body), "\nEvil:") {
		t.Errorf("%s", m.Body)
	}
}

// Mail that waits for protection: one notice for a sender and a domain in a day,
// however many messages wait; other delays have a notice each.
func TestOneNoticeADayAboutProtection(t *testing.T) {
	at := now
	r := reporter()
	r.Now = func() time.Time { return at }
	delay := func(from, why string, domains ...string) string {
		var list []queue.Recipient
		for _, d := range domains {
			list = append(list, queue.Recipient{Address: "k@" + d, Domain: d})
		}
		w, states := work(queue.Envelope{From: from}, list...)
		for i := range states {
			states[i].State, states[i].ReasonCode, states[i].Status, states[i].LastError = queue.Queued, why, "4.7.5", "4.7.5 no"
		}
		m, ok := r.Delay(w, states)
		if !ok {
			return ""
		}
		var told []string
		for line := range strings.SplitSeq(string(m.Body), "\r\n") {
			if a, ok := strings.CutPrefix(line, "Final-Recipient: rfc822; k@"); ok {
				told = append(told, a)
			}
		}
		return strings.Join(told, " ")
	}
	for _, tt := range []struct {
		after     time.Duration
		from, why string
		domains   []string
		want      string
	}{
		{0, "a@x.example", "tls-cert", []string{"bank.example", "bank.example"}, "bank.example bank.example"},
		{time.Hour, "a@x.example", "tls-name", []string{"bank.example"}, ""},
		{0, "a@x.example", "tls-cert", []string{"bank.example", "shop.example"}, "shop.example"},
		{0, "b@x.example", "tls-cert", []string{"bank.example"}, "bank.example"},
		{0, "a@x.example", "connect", []string{"bank.example"}, "bank.example"},
		{0, "a@x.example", "connect", []string{"bank.example"}, "bank.example"},
		{23 * time.Hour, "a@x.example", "tls-cert", []string{"bank.example"}, "bank.example"},
	} {
		at = at.Add(tt.after)
		if got := delay(tt.from, tt.why, tt.domains...); got != tt.want {
			t.Errorf("%s, %s, %v: told of %q, want %q", tt.from, tt.why, tt.domains, got, tt.want)
		}
	}
	// A failure has a notice always.
	w, states := work(queue.Envelope{From: "a@x.example"}, queue.Recipient{Address: "k@bank.example", Domain: "bank.example"})
	states[0].ReasonCode = "tls-cert"
	if _, ok := r.Failure(w, states); !ok {
		t.Error("no notice of the failure")
	}
}

// A message that waited while the relay was off is tried for longer than one that it had all the
// time: the notice says until when.
func TestADelayNoticeSaysUntilWhenItIsTried(t *testing.T) {
	w, states := work(queue.Envelope{From: "anna@example.com"}, queue.Recipient{Address: "k@bank.example", Domain: "bank.example"})
	w.Envelope.ReceivedAt, w.ExpiresAt = now.Add(-14*24*time.Hour), now.Add(20*time.Hour)
	states[0].State = queue.Queued
	m, ok := reporter().Delay(w, states)
	if !ok {
		t.Fatal("no notice")
	}
	_, _, bodies := parts(t, m)
	if !strings.Contains(bodies[0], "24 November 2026") || !strings.Contains(bodies[1], "Will-Retry-Until: Tue, 24 Nov 2026 08:00:00 +0000") {
		t.Errorf("%s\n%s", bodies[0], bodies[1])
	}
}

// Outlook and Exchange write subjects in Windows-1252 as soon as they have a dash.
func TestASubjectInAnotherCharacterSet(t *testing.T) {
	w, states := work(queue.Envelope{From: "anna@example.com"}, queue.Recipient{Address: "kurt@example.org"})
	r := reporter()
	r.Content = func(queue.ID) (io.Reader, error) {
		return strings.NewReader("Subject: =?Windows-1252?Q?Angebot_=96_M=E4rz?=\r\n\r\nthe body\r\n"), nil
	}
	m, _ := r.Failure(w, states)
	h, _, bodies := parts(t, m)
	if got, err := new(mime.WordDecoder).DecodeHeader(h.Get("Subject")); err != nil || got != "Undelivered: Angebot – März" {
		t.Errorf("%q, %v", got, err)
	}
	if !strings.Contains(bodies[0], "Subject: Angebot =E2=80=93 M=C3=A4rz") {
		t.Errorf("%s", bodies[0])
	}
}

// The relay takes addresses of nearly 2,000 octets. No line of a notice may be as long (RFC
// 5322, 2.1.1): hosts refuse that, and the sender would hear nothing.
func TestANoticeAboutLongAddressesHasNoLongLines(t *testing.T) {
	to := strings.Repeat("r", 1100) + "@example.org"
	w, states := work(queue.Envelope{From: strings.Repeat("s", 1100) + "@example.com"}, queue.Recipient{Address: to, Domain: "example.org"}, queue.Recipient{Address: "kurt@example.org", Domain: "example.org"})
	m, ok := reporter().Failure(w, states)
	if !ok {
		t.Fatal("no notice is owed")
	}
	for line := range strings.Lines(string(m.Body)) {
		if len(line) > 1000 {
			t.Errorf("%d octets: %.40s", len(line), line)
		}
	}
	_, _, bodies := parts(t, m)
	status := strings.NewReplacer("\r\n ", "", " ", "").Replace(bodies[1])
	for _, want := range []string{"Final-Recipient:rfc822;" + to + "\r\n", "\r\n\r\nFinal-Recipient:rfc822;kurt@example.org\r\n"} {
		if !strings.Contains(status, want) {
			t.Errorf("no %.40s in\n%s", want, bodies[1])
		}
	}
}

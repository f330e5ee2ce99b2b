package relay_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"mime/multipart"
	"net/http"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"
	mox "github.com/mjl-/mox/tlsrpt"

	ourdkim "github.com/stsrelay/stsrelay/internal/dkim"
	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/adminapi"
	"github.com/stsrelay/stsrelay/relay/operator"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// A mailed report is signed, can be read, and goes out whatever the TLS of its
// way; it is not counted itself.
func TestAReportIsMailed(t *testing.T) {
	for _, kinds := range [][]string{{ourdkim.RSA}, {ourdkim.Ed25519}, {ourdkim.RSA, ourdkim.Ed25519}} {
		t.Run(strings.Join(kinds, " and "), func(t *testing.T) {
			t.Parallel()
			w := e2e.NewWithKeys(t, kinds...)
			mx, box := w.Host("mx.a.example"), w.Host("mx.reports.example")
			w.SetFaults(box, testnet.Faults{NoStartTLS: true, With: []string{"DSN"}})
			w.Domain("reports.example", testnet.Domain{MX: []string{box.Name}, TLSRPT: "mailto:x@reports.example", Policy: e2e.PolicyFor("enforce", box.Name)})
			w.Domain("a.example", testnet.Domain{MX: []string{mx.Name}, TLSRPT: "mailto:tls%21rpt@reports.example"})
			w.SetFaults(mx, testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}})
			w.Domain("a.example", testnet.Domain{MX: []string{mx.Name}, Policy: e2e.PolicyFor("testing", mx.Name)})
			w.Deliver("b@a.example")
			day := w.Clock.Day()
			w.Clock.Tomorrow()
			m := w.Received(box, 1)[0]
			if m.RcptParams[0] != "NOTIFY=NEVER" {
				t.Errorf("RCPT with %q", m.RcptParams)
			}
			if m.TLS || m.From != "postmaster@test.example" || m.To != "tls!rpt@reports.example" {
				t.Errorf("%+v", m)
			}
			checkMail(w, m, day, len(kinds))
			w.WaitForReport("a.example", tlsrpt.Sent)
			for _, s := range w.ReportList() {
				if s.Domain == "reports.example" {
					t.Errorf("the way of a report was counted: %+v", s)
				}
			}
		})
	}
}

// The text of a report says what helps with a failure that its type does not explain.
func TestAReportExplainsTheCodeOfAFailure(t *testing.T) {
	t.Parallel()
	w := e2e.NewWithKeys(t, ourdkim.RSA)
	mx, box := w.Host("mx.a.example"), w.Host("mx.reports.example")
	w.Domain("reports.example", testnet.Domain{MX: []string{box.Name}})
	w.Domain("a.example", testnet.Domain{MX: []string{mx.Name}, TLSRPT: "mailto:x@reports.example", Policy: e2e.PolicyFor("testing", "mx.other.example")})
	w.Deliver("b@a.example")
	w.Clock.Tomorrow()
	m := w.Received(box, 1)[0]
	msg, err := mail.ReadMessage(bytes.NewReader(m.Data))
	if err != nil {
		t.Fatal(err)
	}
	_, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	part, err := multipart.NewReader(msg.Body, params["boundary"]).NextPart() // quoted-printable is undone
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(part)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Join(strings.Fields(security.CodeMXMismatch.Row().Report), " ")
	if got := strings.Join(strings.Fields(string(text)), " "); !strings.Contains(got, want) {
		t.Errorf("%s\nlacks %q", text, want)
	}
}

func checkMail(w *e2e.World, m testnet.Message, day string, signatures int) {
	w.T.Helper()
	verified, err := dkim.VerifyWithOptions(bytes.NewReader(m.Data), &dkim.VerifyOptions{LookupTXT: func(name string) ([]string, error) { return w.DNS.TXT(name), nil }})
	if err != nil || len(verified) != signatures {
		w.T.Fatalf("%d signatures, %v", len(verified), err)
	}
	for _, v := range verified {
		if v.Err != nil || v.Domain != "test.example" || !v.Time.Equal(w.Clock.Now()) {
			w.T.Errorf("signature of %s at %s: %v", v.Domain, v.Time, v.Err)
		}
		keys := strings.ToLower(strings.Join(v.HeaderKeys, " "))
		for _, k := range []string{"from", "tls-report-domain", "tls-report-submitter"} {
			if !strings.Contains(keys, k) {
				w.T.Errorf("%s is not signed: %s", k, keys)
			}
		}
	}
	for field := range strings.SplitSeq(string(m.Data[:bytes.Index(m.Data, []byte("\r\nFrom:"))]), "DKIM-Signature:") {
		if strings.Contains(field, " l=") {
			w.T.Errorf("a signature of a part only: %s", field)
		}
	}
	for line := range bytes.Lines(m.Data) {
		if len(line) > 1000 || !bytes.HasSuffix(line, []byte("\r\n")) {
			w.T.Errorf("line %.80q", line)
		}
	}
	if r, err := mox.ParseMessage(slog.New(slog.DiscardHandler), bytes.NewReader(m.Data)); err != nil || e2e.ShortOfMox(r) != "sts a.example +0 -1 1×certificate-not-trusted@mx.a.example" {
		w.T.Errorf("mox reads %+v, %v", r, err)
	}
	msg, err := mail.ReadMessage(bytes.NewReader(m.Data))
	if err != nil {
		w.T.Fatal(err)
	}
	id := ""
	for k, want := range map[string]string{
		"From": "<postmaster@test.example>", "To": "<tls!rpt@reports.example>", "TLS-Report-Domain": "a.example", "TLS-Report-Submitter": "test.example",
		"TLS-Required": "No", "Auto-Submitted": "auto-generated", "MIME-Version": "1.0",
	} {
		if got := msg.Header.Get(k); got != want {
			w.T.Errorf("%s: %q", k, got)
		}
	}
	if n, err := fmt.Sscanf(msg.Header.Get("Subject"), "Report Domain: a.example Submitter: test.example Report-ID: %s", &id); n != 1 {
		w.T.Errorf("subject %q: %v", msg.Header.Get("Subject"), err)
	}
	if got := msg.Header.Get("Message-ID"); got != id {
		w.T.Errorf("Message-ID %q, and %q in the subject", got, id)
	}
	if at, err := msg.Header.Date(); err != nil || tlsrpt.DayOf(at) != w.Clock.Day() {
		w.T.Errorf("date %s, %v", at, err)
	}
	mediaType, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	if err != nil || mediaType != "multipart/report" || params["report-type"] != "tlsrpt" {
		w.T.Fatalf("%s %v %v", mediaType, params, err)
	}
	parts := multipart.NewReader(msg.Body, params["boundary"])
	text, err := parts.NextPart()
	if err != nil || !strings.HasPrefix(text.Header.Get("Content-Type"), "text/plain") {
		w.T.Fatal(err, text)
	}
	words, _ := io.ReadAll(text)
	for _, want := range []string{"a.example", day, "1 failed at 12:00 UTC: certificate-not-trusted", "mx.a.example", "postmaster@test.example"} {
		if !strings.Contains(string(words), want) {
			w.T.Errorf("the text lacks %q:\n%s", want, words)
		}
	}
	file, err := parts.NextPart()
	if err != nil || file.Header.Get("Content-Type") != "application/tlsrpt+gzip" || file.Header.Get("Content-Transfer-Encoding") != "base64" {
		w.T.Fatal(err, file)
	}
	start, _ := tlsrpt.ParseDay(day)
	name := strings.Split(file.FileName(), "!")
	if len(name) != 5 || strings.Join(name[:4], "!") != fmt.Sprintf("test.example!a.example!%d!%d", start.Unix(), start.Unix()+86399) ||
		!strings.HasSuffix(name[4], ".json.gz") || strings.Trim(strings.ToLower(strings.TrimSuffix(name[4], ".json.gz")), "0123456789abcdefghijklmnopqrstuvwxyz") != "" {
		w.T.Errorf("file name %q", file.FileName())
	}
	z, err := gzip.NewReader(base64.NewDecoder(base64.StdEncoding, file))
	if err != nil {
		w.T.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		w.T.Fatal(err)
	}
	r := w.ReadReport(data)
	if "<"+*r.ID+"@test.example>" != id {
		w.T.Errorf("report-id %q in the subject, %q in the report", id, *r.ID)
	}
	if got := e2e.ShortReport(r); got != "sts a.example +0 -1 1×certificate-not-trusted@mx.a.example" {
		w.T.Error(got)
	}
	if _, err := parts.NextPart(); err != io.EOF {
		w.T.Errorf("a third part: %v", err)
	}
}

func TestAMailThatBouncesIsNotAnsweredAndTheReportFails(t *testing.T) {
	w := e2e.NewWithKeys(t, ourdkim.Ed25519)
	mx, box := w.Host("mx.a.example"), w.Host("mx.reports.example")
	w.SetFaults(box, testnet.Faults{Recipients: map[string]string{"gone@reports.example": "550 5.1.1 no such user"}})
	w.Domain("reports.example", testnet.Domain{MX: []string{box.Name}})
	back := w.Host("mx.test.example")
	w.Domain("test.example", testnet.Domain{MX: []string{back.Name}})
	w.Domain("a.example", testnet.Domain{MX: []string{mx.Name}, TLSRPT: "mailto:gone@reports.example"})
	w.Deliver("b@a.example")
	w.Clock.Tomorrow()
	st := w.WaitForReport("a.example", tlsrpt.Failed)
	if !strings.Contains(st.Why.String(), "no such user") {
		t.Errorf("%+v", st)
	}
	w.WaitUntilEmpty()
	if n := len(back.Messages()); n != 0 {
		t.Errorf("%d notices about a report", n)
	}
	mails := box.Counts().Mails
	w.Clock.Set(w.Clock.Now().Add(12 * time.Hour))
	w.Clock.Set(w.Clock.Now().Add(24 * time.Hour))
	w.WaitForReport("a.example", tlsrpt.Failed)
	if n := box.Counts().Mails; n != mails {
		t.Errorf("a receiver that refused was tried again")
	}
}

func TestAMailThatTheOperatorGivesUpEndsItsReport(t *testing.T) {
	w := e2e.NewWithKeys(t, ourdkim.Ed25519)
	mx, box := w.Host("mx.a.example"), w.Host("mx.reports.example")
	w.SetFaults(box, testnet.Faults{Down: true})
	w.Domain("reports.example", testnet.Domain{MX: []string{box.Name}})
	w.Domain("a.example", testnet.Domain{MX: []string{mx.Name}, TLSRPT: "mailto:x@reports.example"})
	w.Deliver("b@a.example")
	w.Clock.Tomorrow()
	w.WaitFor("the mail", func(q *queue.Queue) bool { return q.Counts().Messages == 1 })
	client := adminapi.NewClient(filepath.Join(w.Dir, "stsrelay.sock"))
	var list []tlsrpt.Status
	if err := client.Get(t.Context(), "/v1/reports", nil, &list); err != nil || len(list) != 1 || list[0].State != tlsrpt.Waiting {
		t.Errorf("%+v %v", list, err)
	}
	w.WaitFor("the message to be given up", func(q *queue.Queue) bool {
		var done operator.Affected
		err := client.Do(t.Context(), http.MethodPost, "/v1/queue/bounce", operator.Selection{All: true}, &done)
		return err == nil && q.Counts().Messages == 0
	})
	if st := w.WaitForReport("a.example", tlsrpt.Failed); !strings.Contains(st.Why.String(), "operator") {
		t.Errorf("%+v", st)
	}
}

// A report whose mail the operator has removed is not said to be in the queue, and can be sent
// anew.
func TestAReportWhoseMailIsRemovedCanBeSentAnew(t *testing.T) {
	w := e2e.NewWithKeys(t, ourdkim.Ed25519)
	mx, box := w.Host("mx.a.example"), w.Host("mx.reports.example")
	w.SetFaults(box, testnet.Faults{Down: true})
	w.Domain("reports.example", testnet.Domain{MX: []string{box.Name}})
	w.Domain("a.example", testnet.Domain{MX: []string{mx.Name}, TLSRPT: "mailto:x@reports.example"})
	w.Deliver("b@a.example")
	day := w.Clock.Day()
	w.Clock.Tomorrow()
	w.WaitFor("the mail", func(q *queue.Queue) bool { return q.Counts().Messages == 1 })
	send := func() {
		t.Helper()
		err := w.Relay.Operator().SendReports(t.Context(), operator.Actor{}, day, "", func(tlsrpt.Status) bool { return true })
		if err != nil {
			t.Fatal(err)
		}
	}
	send()
	client := adminapi.NewClient(filepath.Join(w.Dir, "stsrelay.sock"))
	w.WaitFor("one message to be removed", func(q *queue.Queue) bool {
		if n := q.Counts().Messages; n > 1 {
			t.Fatalf("%d mails of a report", n)
		}
		var done operator.Affected
		err := client.Do(t.Context(), http.MethodPost, "/v1/queue/remove", operator.Selection{All: true}, &done)
		return err == nil && q.Counts().Messages == 0
	})
	if st := w.WaitForReport("a.example", tlsrpt.Waiting); !strings.Contains(st.Why.String(), "is not in the queue any more") {
		t.Errorf("%+v", st)
	}
	w.SetFaults(box, testnet.Faults{})
	send()
	w.Received(box, 1)
	w.WaitForReport("a.example", tlsrpt.Sent)
}

func TestWithoutAKeyNothingIsMailedUntilThereIsOne(t *testing.T) {
	w := e2e.NewWithKeys(t)
	mx, box := w.Host("mx.a.example"), w.Host("mx.reports.example")
	w.Domain("reports.example", testnet.Domain{MX: []string{box.Name}})
	w.Domain("a.example", testnet.Domain{MX: []string{mx.Name}, TLSRPT: "mailto:x@reports.example"})
	w.Deliver("b@a.example")
	w.Clock.Tomorrow()
	w.WaitFor("the first attempt", func(*queue.Queue) bool {
		l := w.ReportList()
		return len(l) == 1 && strings.Contains(l[0].Why.String(), "no DKIM key of test.example")
	})
	w.Configure(w.PublishKeys(ourdkim.Ed25519))
	if err := w.Relay.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.Clock.Set(w.Clock.Now().Add(time.Hour))
	w.Received(box, 1)
	w.WaitForReport("a.example", tlsrpt.Sent)
}

// RFC 8460, 3 lifts the recipients' policies for a report, not the operator's
// rules; and a stranger, who decides where a report goes, gets no password.
func TestTheOperatorsRulesHoldForReports(t *testing.T) {
	selfSigned := testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}}
	clearOnly := testnet.Faults{NoStartTLS: true}
	login := func(f testnet.Faults) testnet.Faults { f.Login, f.AuthMechanism = "anna:secret", "PLAIN"; return f }
	const route = "route = \"box.hop.example:587\"\nuser = \"anna\"\npassword_file = \"password\"\n"
	for _, tt := range []struct {
		name, rule string
		faults     testnet.Faults
		why        string // what holds the report; "": it goes
		user       string // who is logged in
	}{
		{"no rule, in clear", "", clearOnly, "", ""},
		{"no rule, self-signed", "", selfSigned, "", ""},
		{"verify, self-signed", `tls = "verify"`, selfSigned, "self-signed", ""},
		{"verify, good", `tls = "verify"`, testnet.Faults{}, "", ""},
		{"secure, another name", `tls = "secure"`, testnet.Faults{Cert: testnet.CertSpec{Names: []string{"mx.attacker.example"}}}, "not for reports.example", ""},
		{"encrypt, in clear", `tls = "encrypt"`, clearOnly, "does not offer STARTTLS", ""},
		{"dane, no records", `tls = "dane"`, testnet.Faults{}, "no usable TLSA records", ""},
		{"opportunistic, in clear", `tls = "opportunistic"`, clearOnly, "", ""},
		{"route, good", route, login(testnet.Faults{}), "", "anna"},
		{"route, self-signed", route, login(selfSigned), "self-signed", ""},
		{"route, in clear", route, login(clearOnly), "does not offer STARTTLS", ""},
		{"route, another name", route, login(testnet.Faults{Cert: testnet.CertSpec{Names: []string{"mx.attacker.example"}}}), "is for mx.attacker.example", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := e2e.NewWithClock(t)
			if err := os.WriteFile(filepath.Join(w.Dir, "password"), []byte("secret\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			toml := w.PublishKeys(ourdkim.Ed25519)
			if tt.rule != "" {
				toml += "[[domain]]\nname = \"reports.example\"\n" + tt.rule + "\n"
			}
			mx, box := w.Host("mx.a.example"), w.Host("box.hop.example")
			box.Alias("587")
			w.SetFaults(box, tt.faults)
			w.Domain("reports.example", testnet.Domain{MX: []string{box.Name}, Policy: e2e.PolicyFor("enforce", "another.example")})
			w.Domain("a.example", testnet.Domain{MX: []string{mx.Name}, TLSRPT: "mailto:x@reports.example"})
			w.Start(toml)
			w.Deliver("b@a.example")
			w.Clock.Tomorrow()
			if tt.why == "" {
				if m := w.Received(box, 1)[0]; m.User != tt.user {
					t.Errorf("logged in as %q, want %q", m.User, tt.user)
				}
				return
			}
			var last string
			w.WaitFor("the report to be held", func(q *queue.Queue) bool {
				m, ok := waiting(t, q)
				if ok {
					last = m.States[0].LastError
				}
				return ok
			})
			if !strings.Contains(last, tt.why) {
				t.Errorf("held by %q, want %q", last, tt.why)
			}
			if c := box.Counts(); c.Mails != 0 || c.Auths != 0 {
				t.Errorf("the host saw %+v", c)
			}
		})
	}
}

// waiting is a message that has had an attempt and waits for the next one.
func waiting(t *testing.T, q *queue.Queue) (found queue.Message, ok bool) {
	t.Helper()
	err := q.List(t.Context(), queue.Filter{}, func(m queue.Message) bool {
		if m.Attempts > 0 && m.State == queue.Queued {
			found, ok = m, true
		}
		return !ok
	})
	if err != nil {
		t.Fatal(err)
	}
	return found, ok
}

// plaintext = "refuse" is the operator's own, and holds a report.
func TestPlaintextRefusedHoldsReports(t *testing.T) {
	w := e2e.NewWithClock(t)
	mx, box := w.Host("mx.a.example"), w.Host("mx.reports.example")
	w.SetFaults(box, testnet.Faults{NoStartTLS: true})
	w.Domain("reports.example", testnet.Domain{MX: []string{box.Name}})
	w.Domain("a.example", testnet.Domain{MX: []string{mx.Name}, TLSRPT: "mailto:x@reports.example"})
	w.Start("plaintext = \"refuse\"\n" + w.PublishKeys(ourdkim.Ed25519))
	w.Deliver("b@a.example")
	w.Clock.Tomorrow()
	w.WaitFor("the report to be held", func(q *queue.Queue) bool {
		m, ok := waiting(t, q)
		return ok && strings.Contains(m.States[0].LastError, "sends nothing in clear")
	})
	if n := box.Counts().Mails; n != 0 {
		t.Errorf("%d MAIL in clear", n)
	}
}

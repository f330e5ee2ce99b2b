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
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"
	mox "github.com/mjl-/mox/tlsrpt"

	ourdkim "github.com/stsrelay/stsrelay/internal/dkim"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/adminapi"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// A mailed report is signed, can be read, and goes out whatever the TLS of its
// way; it is not counted itself.
func TestAReportIsMailed(t *testing.T) {
	for _, kinds := range [][]string{{ourdkim.RSA}, {ourdkim.Ed25519}, {ourdkim.RSA, ourdkim.Ed25519}} {
		t.Run(strings.Join(kinds, " and "), func(t *testing.T) {
			t.Parallel()
			w := newReportWorld(t, kinds...)
			mx, box := w.host("mx.a.example"), w.host("mx.reports.example")
			w.set(box, testnet.Faults{NoStartTLS: true, With: []string{"DSN"}})
			w.domain("reports.example", testnet.Domain{MX: []string{box.Name}, TLSRPT: "mailto:x@reports.example", Policy: policyFor("enforce", box.Name)})
			w.domain("a.example", testnet.Domain{MX: []string{mx.Name}, TLSRPT: "mailto:tls%21rpt@reports.example"})
			w.set(mx, testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}})
			w.domain("a.example", testnet.Domain{MX: []string{mx.Name}, Policy: policyFor("testing", mx.Name)})
			w.deliver("b@a.example")
			day := w.clock.day()
			w.clock.tomorrow()
			m := w.wait(box, 1)[0]
			if m.RcptParams[0] != "NOTIFY=NEVER" {
				t.Errorf("RCPT with %q", m.RcptParams)
			}
			if m.TLS || m.From != "postmaster@test.example" || m.To != "tls!rpt@reports.example" {
				t.Errorf("%+v", m)
			}
			checkMail(w, m, day, len(kinds))
			w.stands("a.example", tlsrpt.Sent)
			for _, s := range w.reportList() {
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
	w := newReportWorld(t, ourdkim.RSA)
	mx, box := w.host("mx.a.example"), w.host("mx.reports.example")
	w.domain("reports.example", testnet.Domain{MX: []string{box.Name}})
	w.domain("a.example", testnet.Domain{MX: []string{mx.Name}, TLSRPT: "mailto:x@reports.example", Policy: policyFor("testing", "mx.other.example")})
	w.deliver("b@a.example")
	w.clock.tomorrow()
	m := w.wait(box, 1)[0]
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

func checkMail(w *world, m testnet.Message, day string, signatures int) {
	w.t.Helper()
	verified, err := dkim.VerifyWithOptions(bytes.NewReader(m.Data), &dkim.VerifyOptions{LookupTXT: func(name string) ([]string, error) { return w.txt(name), nil }})
	if err != nil || len(verified) != signatures {
		w.t.Fatalf("%d signatures, %v", len(verified), err)
	}
	for _, v := range verified {
		if v.Err != nil || v.Domain != "test.example" {
			w.t.Errorf("signature of %s: %v", v.Domain, v.Err)
		}
		keys := strings.ToLower(strings.Join(v.HeaderKeys, " "))
		for _, k := range []string{"from", "tls-report-domain", "tls-report-submitter"} {
			if !strings.Contains(keys, k) {
				w.t.Errorf("%s is not signed: %s", k, keys)
			}
		}
	}
	for field := range strings.SplitSeq(string(m.Data[:bytes.Index(m.Data, []byte("\r\nFrom:"))]), "DKIM-Signature:") {
		if strings.Contains(field, " l=") {
			w.t.Errorf("a signature of a part only: %s", field)
		}
	}
	for line := range bytes.Lines(m.Data) {
		if len(line) > 1000 || !bytes.HasSuffix(line, []byte("\r\n")) {
			w.t.Errorf("line %.80q", line)
		}
	}
	if r, err := mox.ParseMessage(slog.New(slog.DiscardHandler), bytes.NewReader(m.Data)); err != nil || shortOfMox(r) != "sts a.example +0 -1 1×certificate-not-trusted@mx.a.example" {
		w.t.Errorf("mox reads %+v, %v", r, err)
	}
	msg, err := mail.ReadMessage(bytes.NewReader(m.Data))
	if err != nil {
		w.t.Fatal(err)
	}
	id := ""
	for k, want := range map[string]string{
		"From": "<postmaster@test.example>", "To": "<tls!rpt@reports.example>", "TLS-Report-Domain": "a.example", "TLS-Report-Submitter": "test.example",
		"TLS-Required": "No", "Auto-Submitted": "auto-generated", "MIME-Version": "1.0",
	} {
		if got := msg.Header.Get(k); got != want {
			w.t.Errorf("%s: %q", k, got)
		}
	}
	if n, err := fmt.Sscanf(msg.Header.Get("Subject"), "Report Domain: a.example Submitter: test.example Report-ID: %s", &id); n != 1 {
		w.t.Errorf("subject %q: %v", msg.Header.Get("Subject"), err)
	}
	if got := msg.Header.Get("Message-ID"); got != id {
		w.t.Errorf("Message-ID %q, and %q in the subject", got, id)
	}
	if at, err := msg.Header.Date(); err != nil || tlsrpt.DayOf(at) != w.clock.day() {
		w.t.Errorf("date %s, %v", at, err)
	}
	mediaType, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	if err != nil || mediaType != "multipart/report" || params["report-type"] != "tlsrpt" {
		w.t.Fatalf("%s %v %v", mediaType, params, err)
	}
	parts := multipart.NewReader(msg.Body, params["boundary"])
	text, err := parts.NextPart()
	if err != nil || !strings.HasPrefix(text.Header.Get("Content-Type"), "text/plain") {
		w.t.Fatal(err, text)
	}
	words, _ := io.ReadAll(text)
	for _, want := range []string{"a.example", day, "1 failed at 12:00 UTC: certificate-not-trusted", "mx.a.example", "postmaster@test.example"} {
		if !strings.Contains(string(words), want) {
			w.t.Errorf("the text lacks %q:\n%s", want, words)
		}
	}
	file, err := parts.NextPart()
	if err != nil || file.Header.Get("Content-Type") != "application/tlsrpt+gzip" || file.Header.Get("Content-Transfer-Encoding") != "base64" {
		w.t.Fatal(err, file)
	}
	start, _ := tlsrpt.ParseDay(day)
	name := strings.Split(file.FileName(), "!")
	if len(name) != 5 || strings.Join(name[:4], "!") != fmt.Sprintf("test.example!a.example!%d!%d", start.Unix(), start.Unix()+86399) ||
		!strings.HasSuffix(name[4], ".json.gz") || strings.Trim(strings.ToLower(strings.TrimSuffix(name[4], ".json.gz")), "0123456789abcdefghijklmnopqrstuvwxyz") != "" {
		w.t.Errorf("file name %q", file.FileName())
	}
	z, err := gzip.NewReader(base64.NewDecoder(base64.StdEncoding, file))
	if err != nil {
		w.t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		w.t.Fatal(err)
	}
	r := w.strict(data)
	if "<"+*r.ID+"@test.example>" != id {
		w.t.Errorf("report-id %q in the subject, %q in the report", id, *r.ID)
	}
	if got := short(r); got != "sts a.example +0 -1 1×certificate-not-trusted@mx.a.example" {
		w.t.Error(got)
	}
	if _, err := parts.NextPart(); err != io.EOF {
		w.t.Errorf("a third part: %v", err)
	}
}

func TestAMailThatBouncesIsNotAnsweredAndTheReportFails(t *testing.T) {
	w := newReportWorld(t, ourdkim.Ed25519)
	mx, box := w.host("mx.a.example"), w.host("mx.reports.example")
	w.set(box, testnet.Faults{Recipients: map[string]string{"gone@reports.example": "550 5.1.1 no such user"}})
	w.domain("reports.example", testnet.Domain{MX: []string{box.Name}})
	back := w.host("mx.test.example")
	w.domain("test.example", testnet.Domain{MX: []string{back.Name}})
	w.domain("a.example", testnet.Domain{MX: []string{mx.Name}, TLSRPT: "mailto:gone@reports.example"})
	w.deliver("b@a.example")
	w.clock.tomorrow()
	st := w.stands("a.example", tlsrpt.Failed)
	if !strings.Contains(st.Why, "no such user") {
		t.Errorf("%+v", st)
	}
	w.empty()
	if n := len(back.Messages()); n != 0 {
		t.Errorf("%d notices about a report", n)
	}
	mails := box.Counts().Mails
	w.clock.set(w.clock.Now().Add(12 * time.Hour))
	w.clock.set(w.clock.Now().Add(24 * time.Hour))
	w.stands("a.example", tlsrpt.Failed)
	if n := box.Counts().Mails; n != mails {
		t.Errorf("a receiver that refused was tried again")
	}
}

func TestAMailThatTheOperatorGivesUpEndsItsReport(t *testing.T) {
	w := newReportWorld(t, ourdkim.Ed25519)
	mx, box := w.host("mx.a.example"), w.host("mx.reports.example")
	w.set(box, testnet.Faults{Down: true})
	w.domain("reports.example", testnet.Domain{MX: []string{box.Name}})
	w.domain("a.example", testnet.Domain{MX: []string{mx.Name}, TLSRPT: "mailto:x@reports.example"})
	w.deliver("b@a.example")
	w.clock.tomorrow()
	w.waitFor("the mail", func(q *queue.Queue) bool { return q.Counts().Messages == 1 })
	client := adminapi.NewClient(filepath.Join(w.dir, "stsrelay.sock"))
	var list []tlsrpt.Status
	if err := client.Get(t.Context(), "/v1/reports", nil, &list); err != nil || len(list) != 1 || list[0].State != tlsrpt.Waiting {
		t.Errorf("%+v %v", list, err)
	}
	w.waitFor("the message to be given up", func(q *queue.Queue) bool {
		var done adminapi.Touched
		err := client.Do(t.Context(), http.MethodPost, "/v1/queue/bounce", adminapi.Selection{All: true}, &done)
		return err == nil && q.Counts().Messages == 0
	})
	if st := w.stands("a.example", tlsrpt.Failed); !strings.Contains(st.Why, "operator") {
		t.Errorf("%+v", st)
	}
}

func TestWithoutAKeyNothingIsMailedUntilThereIsOne(t *testing.T) {
	w := newReportWorld(t)
	mx, box := w.host("mx.a.example"), w.host("mx.reports.example")
	w.domain("reports.example", testnet.Domain{MX: []string{box.Name}})
	w.domain("a.example", testnet.Domain{MX: []string{mx.Name}, TLSRPT: "mailto:x@reports.example"})
	w.deliver("b@a.example")
	w.clock.tomorrow()
	w.waitFor("the first attempt", func(*queue.Queue) bool {
		l := w.reportList()
		return len(l) == 1 && strings.Contains(l[0].Why, "no DKIM key of test.example")
	})
	w.configure(w.keys(ourdkim.Ed25519))
	if err := w.relay.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.clock.set(w.clock.Now().Add(time.Hour))
	w.wait(box, 1)
	w.stands("a.example", tlsrpt.Sent)
}

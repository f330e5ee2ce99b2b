package relay_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/mail"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/admin"
	ourdkim "github.com/stsrelay/stsrelay/relay/dkim"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// clock is a clock that only a test moves.
type clock struct {
	mu      sync.Mutex
	now     time.Time
	waiting []waiter
}

type waiter struct {
	at time.Time
	ch chan time.Time
}

// newClock begins today at noon (UTC): certificates of the fake Internet are
// good for some weeks around today.
func newClock() *clock {
	return &clock{now: time.Now().UTC().Truncate(24 * time.Hour).Add(12 * time.Hour)}
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) After(d time.Duration) <-chan time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := waiter{c.now.Add(d), make(chan time.Time, 1)}
	c.waiting = append(c.waiting, w)
	return w.ch
}

// set moves the clock, also back.
func (c *clock) set(to time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = to
	var later []waiter
	for _, w := range c.waiting {
		if w.at.After(to) {
			later = append(later, w)
		} else {
			w.ch <- to
		}
	}
	c.waiting = later
}

func (c *clock) day() string { return tlsrpt.DayOf(c.Now()) }

// tomorrow sets the clock to five in the morning of the next day, when all
// reports of the day are due.
func (c *clock) tomorrow() { c.set(c.Now().Truncate(24 * time.Hour).Add(29 * time.Hour)) }

// newReportWorld is a world with a clock and DKIM keys of its sender, which are
// published.
func newReportWorld(t *testing.T, kinds ...string) *world {
	t.Helper()
	c := newClock()
	n, err := testnet.New(testnet.Options{Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	w := &world{Net: n, t: t, dir: t.TempDir(), clock: c}
	w.start(w.keys(kinds...))
	return w
}

// keys makes keys of the sender, publishes them, and returns their tables.
func (w *world) keys(kinds ...string) (toml string) {
	w.t.Helper()
	for i, kind := range kinds {
		data, err := ourdkim.Generate(kind)
		if err != nil {
			w.t.Fatal(err)
		}
		selector := fmt.Sprintf("s%d", i)
		file := filepath.Join(w.dir, selector+".pem")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			w.t.Fatal(err)
		}
		k, err := ourdkim.Load("test.example", selector, file)
		if err != nil {
			w.t.Fatal(err)
		}
		record, err := k.Record("tlsrpt", "email") // go-msgauth wants "email"
		if err != nil {
			w.t.Fatal(err)
		}
		var parts []string
		for ; len(record) > 200; record = record[200:] {
			parts = append(parts, fmt.Sprintf("%q", record[:200]))
		}
		if err := w.DNS.Add(fmt.Sprintf("%s. 60 IN TXT %s %q", k.RecordName(), strings.Join(parts, " "), record)); err != nil {
			w.t.Fatal(err)
		}
		toml += fmt.Sprintf("[[dkim]]\ndomain = \"test.example\"\nselector = %q\nkey_file = %q\nsign = [\"reports\"]\n", selector, file)
	}
	return toml
}

func (w *world) receiver(name string) *testnet.ReportHost {
	w.t.Helper()
	h, err := w.AddReportHost(name)
	if err != nil {
		w.t.Fatal(err)
	}
	return h
}

// posted waits for n posts and reads the last one strictly.
func (w *world) posted(h *testnet.ReportHost, n int) *testnet.TLSReport {
	w.t.Helper()
	posts, err := h.Wait(w.context(), n)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.strict(posts[n-1].Report)
}

func (w *world) strict(data []byte) *testnet.TLSReport {
	w.t.Helper()
	r, err := testnet.ReadTLSReport(data)
	if err != nil {
		w.t.Fatalf("%v in %s", err, data)
	}
	return r
}

// deliver sends a message and waits until it has left the queue.
func (w *world) deliver(to ...string) {
	w.t.Helper()
	w.send("anna@sender.example", to...)
	w.empty()
}

// stands waits until the report of a domain is in a state.
func (w *world) stands(domain string, state tlsrpt.State) (st tlsrpt.Status) {
	w.t.Helper()
	w.waitFor("the report of "+domain+" to be "+string(state), func(*queue.Queue) bool {
		for _, s := range w.reportList() {
			if s.Domain == domain {
				st = s
				return s.State == state
			}
		}
		return false
	})
	return st
}

func (w *world) reportList() (out []tlsrpt.Status) {
	w.t.Helper()
	err := w.relay.ReportStatus(func(s tlsrpt.Status) bool { out = append(out, s); return true })
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// short tells what a report counts: one line for each policy and each kind of
// failure, sorted by the report itself.
func short(r *testnet.TLSReport) string {
	var lines []string
	for _, p := range r.Policies {
		line := fmt.Sprintf("%s %s +%d -%d", *p.Policy.Type, *p.Policy.Domain, *p.Summary.Successful, *p.Summary.Failed)
		for _, d := range p.Details {
			line += fmt.Sprintf(" %d×%s", *d.Count, *d.Type)
			if d.MXHost != nil {
				line += "@" + *d.MXHost
			}
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "; ")
}

func TestADayIsReportedAsItWasCounted(t *testing.T) {
	const url = "https://reports.example/in"
	good, expired := testnet.Faults{}, testnet.Faults{Cert: testnet.CertSpec{Expired: true}}
	for _, tt := range []struct {
		name string
		day  func(w *world, mx1, mx2 *testnet.Host)
		want string
	}{
		{"successes only, without a policy", func(w *world, mx1, _ *testnet.Host) {
			w.domain("a.example", testnet.Domain{MX: []string{mx1.Name}, TLSRPT: url})
			w.deliver("b@a.example")
		}, "no-policy-found a.example +1 -0"},
		{"a session for three messages", func(w *world, mx1, _ *testnet.Host) {
			w.domain("a.example", testnet.Domain{MX: []string{mx1.Name}, TLSRPT: url, Policy: policyFor("enforce", mx1.Name)})
			for range 3 {
				w.deliver("b@a.example")
			}
			if n := mx1.Counts().Connections; n != 1 {
				w.t.Errorf("%d connections", n)
			}
		}, "sts a.example +1 -0"},
		{"failures of mode testing", func(w *world, mx1, _ *testnet.Host) {
			w.set(mx1, expired)
			w.domain("a.example", testnet.Domain{MX: []string{mx1.Name}, TLSRPT: url, Policy: policyFor("testing", mx1.Name)})
			w.deliver("b@a.example")
		}, "sts a.example +0 -1 1×certificate-expired@mx1.a.example"},
		{"the first host fails, the second does not", func(w *world, mx1, mx2 *testnet.Host) {
			w.set(mx1, expired)
			w.domain("a.example", testnet.Domain{MX: []string{mx1.Name, mx2.Name}, TLSRPT: url, Policy: policyFor("enforce", "*.a.example")})
			w.deliver("b@a.example")
		}, "sts a.example +1 -1 1×certificate-expired@mx1.a.example"},
		{"a handshake that breaks, and then in clear: one session", func(w *world, mx1, _ *testnet.Host) {
			w.set(mx1, testnet.Faults{Drop: "handshake"})
			w.domain("a.example", testnet.Domain{MX: []string{mx1.Name}, TLSRPT: url})
			w.deliver("b@a.example")
			w.deliver("b@a.example")
		}, "no-policy-found a.example +0 -1 1×validation-failure@mx1.a.example"},
		{"refused connections are no TLS results", func(w *world, mx1, mx2 *testnet.Host) {
			w.set(mx1, testnet.Faults{Down: true})
			w.domain("a.example", testnet.Domain{MX: []string{mx1.Name, mx2.Name}, TLSRPT: url, Policy: policyFor("enforce", "*.a.example")})
			w.deliver("b@a.example")
		}, "sts a.example +1 -0"},
		{"DANE and MTA-STS", func(w *world, mx1, _ *testnet.Host) {
			w.domain("a.example", testnet.Domain{MX: []string{mx1.Name}, TLSRPT: url, Policy: policyFor("testing", mx1.Name)})
			w.set(mx1, testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}})
			w.DNS.Secure("a.example", true)
			w.secureHost(mx1, w.tlsa(mx1, 3, 1, 1))
			w.deliver("b@a.example")
		}, "sts a.example +0 -1 1×certificate-not-trusted@mx1.a.example; tlsa a.example +1 -0"},
		{"the policy changes during the day", func(w *world, mx1, _ *testnet.Host) {
			w.set(mx1, testnet.Faults{Replies: map[string]string{"dot": "421 4.3.2 bye"}})
			w.domain("a.example", testnet.Domain{MX: []string{mx1.Name}, TLSRPT: url, Policy: policyFor("enforce", "other.example")})
			id := w.send("anna@sender.example", "b@a.example")
			w.attempted(id) // held by the first policy
			w.set(mx1, good)
			w.domain("a.example", testnet.Domain{MX: []string{mx1.Name}, TLSRPT: url, Policy: testnet.Policy{ID: "2", Mode: "enforce", MX: []string{mx1.Name}, MaxAge: 86400}})
			w.waitFor("the message to leave", func(q *queue.Queue) bool {
				_, _ = q.Retry(w.t.Context(), queue.Filter{})
				return q.Counts().Messages == 0
			})
		}, ""},
		{"a policy that cannot be fetched, and no older one", func(w *world, mx1, _ *testnet.Host) {
			w.domain("a.example", testnet.Domain{MX: []string{mx1.Name}, TLSRPT: url, Policy: policyFor("enforce", mx1.Name)})
			w.policyFaults("a.example", testnet.PolicyFaults{Status: 500})
			w.deliver("b@a.example")
		}, "sts a.example +0 -1 1×sts-policy-fetch-error"},
		{"a policy that is malformed", func(w *world, mx1, _ *testnet.Host) {
			w.domain("a.example", testnet.Domain{MX: []string{mx1.Name}, TLSRPT: url, Policy: policyFor("enforce", mx1.Name)})
			w.policyFaults("a.example", testnet.PolicyFaults{Body: "version: STSv1\r\nmode: \xff\x00sure\r\n"})
			w.deliver("b@a.example")
		}, "sts a.example +0 -1 1×sts-policy-invalid"},
		{"an international domain", func(w *world, mx1, _ *testnet.Host) {
			w.domain("xn--bcher-kva.example", testnet.Domain{MX: []string{mx1.Name}, TLSRPT: url})
			w.deliver("b@xn--bcher-kva.example")
		}, "no-policy-found xn--bcher-kva.example +1 -0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newReportWorld(t)
			h := w.receiver("reports.example")
			mx1, mx2 := w.host("mx1.a.example"), w.host("mx2.a.example")
			tt.day(w, mx1, mx2)
			w.clock.tomorrow()
			r := w.posted(h, 1)
			got := short(r)
			if parts := strings.Split(got, "; "); len(parts) == 2 && parts[0] > parts[1] {
				got = parts[1] + "; " + parts[0] // policies are in no order
			}
			if tt.want != "" && got != tt.want {
				t.Errorf("got  %s\nwant %s\n%s", got, tt.want, h.Posts()[0].Report)
			}
			if tt.want == "" && len(r.Policies) != 2 {
				t.Errorf("want two policies: %s", got)
			}
			if ct := h.Posts()[0].ContentType; ct != "application/tlsrpt+gzip" {
				t.Errorf("content type %q", ct)
			}
		})
	}
}

func (w *world) policyFaults(domain string, f testnet.PolicyFaults) {
	w.t.Helper()
	site, err := w.PolicyHost(domain)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := site.Set(f); err != nil {
		w.t.Fatal(err)
	}
}

func TestTwoDomainsOnOneSessionHaveAReportEach(t *testing.T) {
	w := newReportWorld(t)
	h, mx := w.receiver("reports.example"), w.host("mx.host.example")
	for _, d := range []string{"a.example", "b.example"} {
		w.domain(d, testnet.Domain{MX: []string{mx.Name}, TLSRPT: "https://reports.example/" + d})
		w.deliver("x@" + d)
	}
	if n := mx.Counts().Connections; n != 1 {
		t.Errorf("%d connections", n)
	}
	w.clock.tomorrow()
	w.posted(h, 2)
	for _, p := range h.Posts() {
		domain := strings.TrimPrefix(p.Path, "POST /")
		if got := short(w.strict(p.Report)); got != "no-policy-found "+domain+" +1 -0" {
			t.Errorf("%s: %s", domain, got)
		}
	}
}

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
	for line := range bytes.Lines(m.Data) {
		if len(line) > 1000 || !bytes.HasSuffix(line, []byte("\r\n")) {
			w.t.Errorf("line %.80q", line)
		}
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
	for _, want := range []string{"a.example", day, "1 failed: certificate-not-trusted", "mx.a.example", "postmaster@test.example"} {
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

// txt is what the fake DNS has.
func (w *world) txt(name string) []string { return w.DNS.TXT(name) }

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
	client := admin.NewClient(filepath.Join(w.dir, "stsrelay.sock"))
	var list []tlsrpt.Status
	if err := client.Get(t.Context(), "/v1/reports", nil, &list); err != nil || len(list) != 1 || list[0].State != tlsrpt.Waiting {
		t.Errorf("%+v %v", list, err)
	}
	w.waitFor("the message to be given up", func(q *queue.Queue) bool {
		var done admin.Touched
		err := client.Do(t.Context(), http.MethodPost, "/v1/queue/bounce", admin.Selection{All: true}, &done)
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

func TestARestartAndAMissedMidnightChangeNothing(t *testing.T) {
	w := newReportWorld(t)
	h, mx := w.receiver("reports.example"), w.host("mx.a.example")
	w.domain("a.example", testnet.Domain{MX: []string{mx.Name}, TLSRPT: "https://reports.example/"})
	w.deliver("b@a.example")
	w.stop()
	w.start("")
	w.deliver("b@a.example")
	preview, err := json.Marshal(w.reportOn(w.clock.day(), "a.example"))
	if err != nil {
		t.Fatal(err)
	}
	w.stop()
	w.clock.tomorrow() // the midnight is missed
	w.start("")
	if got := short(w.posted(h, 1)); got != "no-policy-found a.example +2 -0" {
		t.Error(got)
	}
	if got := h.Posts()[0].Report; !bytes.Equal(got, preview) {
		t.Errorf("sent\n%s\npreview\n%s", got, preview)
	}
	w.stands("a.example", tlsrpt.Sent)
	w.stop()
	w.start("")
	w.clock.tomorrow()
	w.deliver("b@a.example")
	if n := len(h.Posts()); n != 1 {
		t.Errorf("%d posts of one report", n)
	}
}

func (w *world) reportOn(day, domain string) (out *tlsrpt.Report) {
	w.t.Helper()
	err := w.relay.Reports(w.t.Context(), day, func(r *tlsrpt.Report) bool {
		if r.Policies[0].Policy.Domain == domain {
			out = r
		}
		return true
	})
	if err != nil || out == nil {
		w.t.Fatalf("no report of %s: %v", domain, err)
	}
	return out
}

func TestMidnightBetweenTwoAttempts(t *testing.T) {
	w := newReportWorld(t)
	h, mx := w.receiver("reports.example"), w.host("mx.a.example")
	w.set(mx, testnet.Faults{NoStartTLS: true})
	w.domain("a.example", testnet.Domain{MX: []string{mx.Name}, TLSRPT: "https://reports.example/", Policy: policyFor("enforce", mx.Name)})
	id := w.send("anna@sender.example", "b@a.example")
	w.attempted(id)
	w.clock.tomorrow()
	if got := short(w.posted(h, 1)); got != "sts a.example +0 -1 1×starttls-not-supported@mx.a.example" {
		t.Error(got)
	}
	w.set(mx, testnet.Faults{})
	if _, err := w.relay.Queue().Retry(t.Context(), queue.Filter{}); err != nil {
		t.Fatal(err)
	}
	w.empty()
	w.clock.tomorrow()
	if got := short(w.posted(h, 2)); got != "sts a.example +1 -0" {
		t.Error(got)
	}
}

func TestSkippedDomainsAndThoseWithoutARecordGetNothing(t *testing.T) {
	c := newClock()
	n, err := testnet.New(testnet.Options{Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	w := &world{Net: n, t: t, dir: t.TempDir(), clock: c}
	w.start("[tlsrpt]\nskip = [\"a.example\", \".below.example\"]\n")
	h, mx := w.receiver("reports.example"), w.host("mx.host.example")
	for d, rua := range map[string]string{"a.example": "https://reports.example/a", "x.below.example": "https://reports.example/x", "below.example": "https://reports.example/ok", "none.example": "", "ftp.example": "ftp://reports.example/"} {
		w.domain(d, testnet.Domain{MX: []string{mx.Name}, TLSRPT: rua})
		w.deliver("b@" + d)
	}
	w.clock.tomorrow()
	w.stands("below.example", tlsrpt.Sent)
	w.stands("none.example", tlsrpt.Skipped)
	w.stands("ftp.example", tlsrpt.Skipped)
	if l := w.reportList(); len(l) != 3 || len(h.Posts()) != 1 {
		t.Errorf("%d posts; %+v", len(h.Posts()), l)
	}
}

package relay_test

import (
	"bytes"
	"encoding/json"
	"net/mail"
	"strings"
	"testing"

	ourdkim "github.com/stsrelay/stsrelay/internal/dkim"
	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

func TestADayIsReportedAsItWasCounted(t *testing.T) {
	const url = "https://reports.example/in"
	expired := testnet.Faults{Cert: testnet.CertSpec{Expired: true}}
	for _, tt := range []struct {
		name string
		day  func(w *e2e.World, mx1, mx2 *testnet.Host)
		want string
	}{
		{"successes only, without a policy", func(w *e2e.World, mx1, _ *testnet.Host) {
			w.Domain("a.example", testnet.Domain{MX: []string{mx1.Name}, TLSRPT: url})
			w.Deliver("b@a.example")
		}, "no-policy-found a.example +1 -0"},
		{"a session for three messages", func(w *e2e.World, mx1, _ *testnet.Host) {
			w.Domain("a.example", testnet.Domain{MX: []string{mx1.Name}, TLSRPT: url, Policy: e2e.PolicyFor("enforce", mx1.Name)})
			for range 3 {
				w.Deliver("b@a.example")
			}
			if n := mx1.Counts().Connections; n != 1 {
				w.T.Errorf("%d connections", n)
			}
		}, "sts a.example +1 -0"},
		{"failures of mode testing", func(w *e2e.World, mx1, _ *testnet.Host) {
			w.SetFaults(mx1, expired)
			w.Domain("a.example", testnet.Domain{MX: []string{mx1.Name}, TLSRPT: url, Policy: e2e.PolicyFor("testing", mx1.Name)})
			w.Deliver("b@a.example")
		}, "sts a.example +0 -1 1×certificate-expired@mx1.a.example"},
		{"the first host fails, the second does not", func(w *e2e.World, mx1, mx2 *testnet.Host) {
			w.SetFaults(mx1, expired)
			w.Domain("a.example", testnet.Domain{MX: []string{mx1.Name, mx2.Name}, TLSRPT: url, Policy: e2e.PolicyFor("enforce", "*.a.example")})
			w.Deliver("b@a.example")
		}, "sts a.example +1 -1 1×certificate-expired@mx1.a.example"},
		{"a handshake that breaks, and then in clear: one session", func(w *e2e.World, mx1, _ *testnet.Host) {
			w.SetFaults(mx1, testnet.Faults{Drop: "handshake"})
			w.Domain("a.example", testnet.Domain{MX: []string{mx1.Name}, TLSRPT: url})
			w.Deliver("b@a.example")
			w.Deliver("b@a.example")
		}, "no-policy-found a.example +0 -1 1×validation-failure@mx1.a.example"},
		{"refused connections are no TLS results", func(w *e2e.World, mx1, mx2 *testnet.Host) {
			w.SetFaults(mx1, testnet.Faults{Down: true})
			w.Domain("a.example", testnet.Domain{MX: []string{mx1.Name, mx2.Name}, TLSRPT: url, Policy: e2e.PolicyFor("enforce", "*.a.example")})
			w.Deliver("b@a.example")
		}, "sts a.example +1 -0"},
		{"DANE and MTA-STS", func(w *e2e.World, mx1, _ *testnet.Host) {
			w.Domain("a.example", testnet.Domain{MX: []string{mx1.Name}, TLSRPT: url, Policy: e2e.PolicyFor("testing", mx1.Name)})
			w.SetFaults(mx1, testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}})
			w.DNS.Secure("a.example", true)
			w.SecureHost(mx1, w.TLSA(mx1, 3, 1, 1))
			w.Deliver("b@a.example")
		}, "sts a.example +0 -1 1×certificate-not-trusted@mx1.a.example; tlsa a.example +1 -0"},
		{"a policy that cannot be fetched, and no older one", func(w *e2e.World, mx1, _ *testnet.Host) {
			w.Domain("a.example", testnet.Domain{MX: []string{mx1.Name}, TLSRPT: url, Policy: e2e.PolicyFor("enforce", mx1.Name)})
			w.SetPolicyFaults("a.example", testnet.PolicyFaults{Status: 500})
			w.Deliver("b@a.example")
		}, "sts a.example +0 -1 1×sts-policy-fetch-error"},
		{"a policy that is malformed", func(w *e2e.World, mx1, _ *testnet.Host) {
			w.Domain("a.example", testnet.Domain{MX: []string{mx1.Name}, TLSRPT: url, Policy: e2e.PolicyFor("enforce", mx1.Name)})
			w.SetPolicyFaults("a.example", testnet.PolicyFaults{Body: "version: STSv1\r\nmode: \xff\x00sure\r\n"})
			w.Deliver("b@a.example")
		}, "sts a.example +0 -1 1×sts-policy-invalid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := e2e.NewWithKeys(t)
			h := w.ReportHost("reports.example")
			mx1, mx2 := w.Host("mx1.a.example"), w.Host("mx2.a.example")
			tt.day(w, mx1, mx2)
			w.Clock.Tomorrow()
			r := w.Posted(h, 1)
			got := e2e.ShortReport(r)
			if parts := strings.Split(got, "; "); len(parts) == 2 && parts[0] > parts[1] {
				got = parts[1] + "; " + parts[0] // policies are in no order
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s\n%s", got, tt.want, h.Posts()[0].Report)
			}
			if ct := h.Posts()[0].ContentType; ct != "application/tlsrpt+gzip" {
				t.Errorf("content type %q", ct)
			}
		})
	}
}

func TestTwoDomainsOnOneSessionHaveAReportEach(t *testing.T) {
	w := e2e.NewWithKeys(t)
	h, mx := w.ReportHost("reports.example"), w.Host("mx.host.example")
	for _, d := range []string{"a.example", "b.example"} {
		w.Domain(d, testnet.Domain{MX: []string{mx.Name}, TLSRPT: "https://reports.example/" + d})
		w.Deliver("x@" + d)
	}
	if n := mx.Counts().Connections; n != 1 {
		t.Errorf("%d connections", n)
	}
	w.Clock.Tomorrow()
	w.Posted(h, 2)
	for _, p := range h.Posts() {
		domain := strings.TrimPrefix(p.Path, "POST /")
		if got := e2e.ShortReport(w.ReadReport(p.Report)); got != "no-policy-found "+domain+" +1 -0" {
			t.Errorf("%s: %s", domain, got)
		}
	}
}

func TestARestartAndAMissedMidnightChangeNothing(t *testing.T) {
	w := e2e.NewWithKeys(t)
	h, mx := w.ReportHost("reports.example"), w.Host("mx.a.example")
	w.Domain("a.example", testnet.Domain{MX: []string{mx.Name}, TLSRPT: "https://reports.example/"})
	w.Deliver("b@a.example")
	w.Stop()
	w.Start("")
	w.Deliver("b@a.example")
	preview, err := json.Marshal(w.ReportOn(w.Clock.Day(), "a.example"))
	if err != nil {
		t.Fatal(err)
	}
	w.Stop()
	w.Clock.Tomorrow() // the midnight is missed
	w.Start("")
	if got := e2e.ShortReport(w.Posted(h, 1)); got != "no-policy-found a.example +2 -0" {
		t.Error(got)
	}
	if got := h.Posts()[0].Report; !bytes.Equal(got, preview) {
		t.Errorf("sent\n%s\npreview\n%s", got, preview)
	}
	w.WaitForReport("a.example", tlsrpt.Sent)
	w.Stop()
	w.Start("")
	w.Clock.Tomorrow()
	w.Deliver("b@a.example")
	if n := len(h.Posts()); n != 1 {
		t.Errorf("%d posts of one report", n)
	}
}

func TestMidnightBetweenTwoAttempts(t *testing.T) {
	w := e2e.NewWithKeys(t)
	h, mx := w.ReportHost("reports.example"), w.Host("mx.a.example")
	w.SetFaults(mx, testnet.Faults{NoStartTLS: true})
	w.Domain("a.example", testnet.Domain{MX: []string{mx.Name}, TLSRPT: "https://reports.example/", Policy: e2e.PolicyFor("enforce", mx.Name)})
	id := w.Send("anna@sender.example", "b@a.example")
	w.Attempted(id)
	w.Clock.Tomorrow()
	if got := e2e.ShortReport(w.Posted(h, 1)); got != "sts a.example +0 -1 1×starttls-not-supported@mx.a.example" {
		t.Error(got)
	}
	w.SetFaults(mx, testnet.Faults{})
	if _, err := w.Relay.Queue().Retry(t.Context(), queue.Filter{}); err != nil {
		t.Fatal(err)
	}
	w.WaitUntilEmpty()
	w.Clock.Tomorrow()
	if got := e2e.ShortReport(w.Posted(h, 2)); got != "sts a.example +1 -0" {
		t.Error(got)
	}
}

func TestSkippedDomainsAndThoseWithoutARecordGetNothing(t *testing.T) {
	w := e2e.NewWithClock(t)
	w.Start("[tlsrpt]\nskip = [\"a.example\", \".below.example\"]\n")
	h, mx := w.ReportHost("reports.example"), w.Host("mx.host.example")
	for d, rua := range map[string]string{"a.example": "https://reports.example/a", "x.below.example": "https://reports.example/x", "below.example": "https://reports.example/ok", "none.example": "", "ftp.example": "ftp://reports.example/"} {
		w.Domain(d, testnet.Domain{MX: []string{mx.Name}, TLSRPT: rua})
		w.Deliver("b@" + d)
	}
	w.Clock.Tomorrow()
	w.WaitForReport("below.example", tlsrpt.Sent)
	w.WaitForReport("none.example", tlsrpt.Skipped)
	w.WaitForReport("ftp.example", tlsrpt.Skipped)
	if l := w.ReportList(); len(l) != 3 || len(h.Posts()) != 1 {
		t.Errorf("%d posts; %+v", len(h.Posts()), l)
	}
}

func TestTheRecordIsFoundBehindAnAliasAndInSeveralStrings(t *testing.T) {
	w := e2e.NewWithKeys(t)
	h, mx := w.ReportHost("reports.example"), w.Host("mx.a.example")
	w.Domain("a.example", testnet.Domain{MX: []string{mx.Name}})
	if err := w.DNS.Add("_smtp._tls.a.example. 60 IN CNAME a.reports.example.", `a.reports.example. 60 IN TXT "v=TLSRPTv1; rua=https://rep" "orts.example/a%2Cb"`); err != nil {
		t.Fatal(err)
	}
	w.Deliver("b@a.example")
	w.Clock.Tomorrow()
	w.Posted(h, 1)
	if got := h.Posts()[0].Path; got != "POST /a,b" {
		t.Error(got)
	}
}

// Whatever a domain was written like, it is counted once, and told in A-labels
// everywhere.
func TestAnInternationalDomain(t *testing.T) {
	w := e2e.NewWithKeys(t, ourdkim.Ed25519)
	const domain = "xn--bcher-kva.example"
	h, mx, box := w.ReportHost("reports.example"), w.Host("mx.host.example"), w.Host("mx.reports.example")
	w.SetFaults(mx, testnet.Faults{With: []string{"SMTPUTF8"}})
	w.Domain("reports.example", testnet.Domain{MX: []string{box.Name}})
	w.Domain(domain, testnet.Domain{MX: []string{mx.Name}, TLSRPT: "https://reports.example/,mailto:x@reports.example", Policy: e2e.PolicyFor("enforce", mx.Name)})
	for _, to := range []string{"b@BÜCHER.example", "b@xn--bcher-kva.example"} {
		if err := w.Dialogue("250 EHLO x", "250 MAIL FROM:<anna@sender.example> SMTPUTF8", "250 RCPT TO:<"+to+">", "354 DATA", "250 Subject: x\r\n\r\nx\r\n."); err != nil {
			t.Fatal(err)
		}
		w.WaitUntilEmpty()
	}
	w.Clock.Tomorrow()
	if got := e2e.ShortReport(w.Posted(h, 1)); got != "sts "+domain+" +1 -0" {
		t.Error(got)
	}
	m, err := mail.ReadMessage(bytes.NewReader(w.Received(box, 1)[0].Data))
	if err != nil {
		t.Fatal(err)
	}
	if d, s := m.Header.Get("TLS-Report-Domain"), m.Header.Get("Subject"); d != domain || !strings.HasPrefix(s, "Report Domain: "+domain+" Submitter: test.example Report-ID: <") {
		t.Errorf("%q, %q", d, s)
	}
}

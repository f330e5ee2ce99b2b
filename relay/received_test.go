package relay_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	ourdkim "github.com/stsrelay/stsrelay/internal/dkim"
	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/relay/received"
)

// receivedSummary is what reports say of a domain, by the API.
func receivedSummary(w *e2e.World, domain string) received.Summary {
	w.T.Helper()
	var list []received.Summary
	if err := w.Admin().Get(w.T.Context(), "/v1/received-summary", url.Values{"domain": {domain}}, &list); err != nil || len(list) != 1 {
		w.T.Fatalf("%v, %+v", err, list)
	}
	return list[0]
}

// The report that the relay mails comes back into its own drop: the numbers are those
// that it counted, and its signature holds.
func TestAMailedReportComesBackIntoTheDrop(t *testing.T) {
	t.Parallel()
	w := e2e.NewWithClock(t)
	toml := w.PublishKeys(ourdkim.RSA)
	w.Start(toml)
	mx, box := w.Host("mx.a.example"), w.Host("mx.reports.example")
	w.Domain("reports.example", testnet.Domain{MX: []string{box.Name}})
	w.Domain("a.example", testnet.Domain{MX: []string{mx.Name}, TLSRPT: "mailto:x@reports.example", Policy: e2e.PolicyFor("testing", mx.Name)})
	w.Deliver("b@a.example", "c@a.example")
	w.Stop() // idle sessions end
	w.Start(toml)
	w.SetFaults(mx, testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}})
	w.Deliver("d@a.example")
	w.Edit("[delivery]", "[reports]\naddress = \"drop@own.example\"\n\n[delivery]")
	if restart := w.Reload(); len(restart) != 0 {
		t.Errorf("restart for %q", restart)
	}
	good, failed := w.Sessions("a.example")
	day := w.Clock.Day()
	w.Clock.Tomorrow()
	m := w.Received(box, 1)[0]

	for _, to := range []string{"drop@OWN.example", "Drop@own.example"} { // a client that has not seen the first answer sends it again
		if _, err := e2e.SendMail(w.Addr, m.From, string(m.Data), to); err != nil {
			t.Fatal(err)
		}
	}
	s := receivedSummary(w, "a.example")
	if s.Successful != good || s.Failed != failed || good == 0 || failed == 0 || len(s.Days) != 1 || s.Days[0].Day != day || len(s.Senders) != 1 {
		t.Errorf("%+v, counted were %d and %d on %s", s, good, failed, day)
	}
	if f := s.Failures[0]; f.Type != "certificate-not-trusted" || f.MX != mx.Name || !f.Own {
		t.Errorf("%+v", f)
	}
	if p := s.Seen; len(p) != 1 || p[0].Mode != "testing" || p[0].ID == "" {
		t.Errorf("%+v", p)
	}
	var list []received.Record
	if err := w.Admin().Get(t.Context(), "/v1/received", nil, &list); err != nil || len(list) != 1 {
		t.Fatalf("%v, %+v", err, list)
	}
	if r := list[0]; r.Proof() != "signed by test.example" || r.Via != received.ByMail || r.Oddities != nil {
		t.Errorf("%+v", r)
	}
	w.WaitUntilEmpty()
}

// Mail to the drop is answered with 250, is not relayed, and nobody gets a notice; the other
// recipients get it.
func TestTheDropTakesMailThatIsNoReport(t *testing.T) {
	t.Parallel()
	w := e2e.NewStopped(t)
	w.Start("[reports]\naddress = \"drop@own.example\"\ndomains = [\"own.example\"]")
	mx := w.Host("mx.own.example")
	w.Domain("own.example", testnet.Domain{MX: []string{mx.Name}})
	body := "From: a@own.example\r\nSubject: Re: Report\r\n\r\nWhat is this?\r\n"
	if _, err := e2e.SendMail(w.Addr, "a@own.example", body, "drop@own.example"); err != nil {
		t.Fatal(err)
	}
	if _, err := e2e.SendMail(w.Addr, "a@own.example", strings.Replace(body, "Re: Report", "to both", 1), "b@own.example", "drop@own.example", "c@own.example"); err != nil {
		t.Fatal(err)
	}
	foreign := fmt.Sprintf(`{"organization-name":"x","report-id":"1","date-range":{"start-datetime":"%sT00:00:00Z"},"policies":[{"policy":{"policy-type":"sts","policy-domain":"other.example"},"summary":{"total-successful-session-count":1}}]}`, time.Now().UTC().Format(time.DateOnly))
	if _, err := e2e.SendMail(w.Addr, "", "Content-Type: application/tlsrpt+json\r\n\r\n"+foreign+"\r\n", "drop@own.example"); err != nil {
		t.Fatal(err)
	}
	got := w.Received(mx, 1)
	w.WaitUntilEmpty()
	if len(got) != 1 || strings.Contains(got[0].To, "drop") || !strings.Contains(string(got[0].Data), "Subject: to both") || len(got[0].Recipients) != 2 {
		t.Errorf("%+v", got)
	}
	var mails []received.Mail
	if err := w.Admin().Get(t.Context(), "/v1/received-mails", nil, &mails); err != nil || len(mails) != 2 {
		t.Fatalf("%v, %+v", err, mails)
	}
	var shown received.Shown
	if err := w.Admin().Get(t.Context(), "/v1/received/"+mails[0].ID, nil, &shown); err != nil || !strings.Contains(shown.Content, "What is this?") {
		t.Errorf("%v, %+v", err, shown)
	}
	w.Stop()
	w.Start("[reports]\naddress = \"drop@own.example\"")
	if err := w.Admin().Get(t.Context(), "/v1/received-mails", nil, &mails); err != nil || len(mails) != 2 {
		t.Errorf("after a restart: %v, %+v", err, mails)
	}
}

// reportOf is a report of one policy of own.example with one kind of failure.
func reportOf(sender string, daysAgo, successful, failed int, kind, mx string) string {
	day := time.Now().UTC().AddDate(0, 0, -daysAgo).Format(time.DateOnly)
	return fmt.Sprintf(`{"organization-name":%q,"date-range":{"start-datetime":"%[2]sT00:00:00Z","end-datetime":"%[2]sT23:59:59Z"},"report-id":%[2]q,"policies":[{"policy":{"policy-type":"sts","policy-domain":"own.example",
"policy-string":["version: STSv1","mode: testing","mx: mx.own.example","max_age: 604800"]},"summary":{"total-successful-session-count":%[3]d,"total-failure-session-count":%[4]d},
"failure-details":[{"result-type":%[5]q,"receiving-mx-hostname":%[6]q,"failed-session-count":%[4]d}]}]}`, sender, day, successful, failed, kind, mx)
}

func TestThePagesOfReceivedReports(t *testing.T) {
	t.Parallel()
	w := e2e.New(t, "[admin]\nhttp = \"127.0.0.1:0\"")
	if body := page(w, "/received"); !strings.Contains(body, "No report has come.") {
		t.Error(body)
	}
	for i, report := range []string{
		reportOf("a.example", 3, 40, 2, "certificate-expired", "mx.own.example"), reportOf("b.example", 3, 10, 0, "", ""),
		reportOf("a.example", 1, 20, 5, "sts-policy-fetch-error", ""), reportOf("<script>alert(1)</script>", 1, 1, 1, "<b>", "\"><script>"),
	} {
		results, err := w.Admin().ImportReports(t.Context(), strings.NewReader(report), "a.json")
		if err != nil || len(results) != 1 || results[0].Outcome != received.Kept {
			t.Fatalf("report %d: %+v, %v", i, results, err)
		}
	}
	if body := page(w, "/received"); !strings.Contains(body, `<a href="/received/own.example">own.example</a>`) {
		t.Error(body)
	}
	body := page(w, "/received/own.example")
	for want, n := range map[string]int{
		`class="well"`: 2, `<title>20`: 5, "is not ready for enforce": 1, "renew the certificate, load it into the mail server": 1,
		"https://mta-sts.own.example/.well-known/mta-sts.txt": 1, "testing": 1, `data-label="certificate-expired"`: 3,
	} {
		if got := strings.Count(body, want); got != n {
			t.Errorf("%q is there %d times, not %d, in\n%s", want, got, n, body)
		}
	}
	if body := page(w, "/received/other.example"); !strings.Contains(body, "No report has come.") {
		t.Error(body)
	}
}

func TestReportsArePostedToThePublisher(t *testing.T) {
	t.Parallel()
	w := e2e.New(t, "[publisher]\nhttps = \"127.0.0.1:0\"\ntls = \"proxy\"\nhost = \"mta-sts.own.example\"\n[reports]\nhttps = true\ndomains = [\"own.example\"]")
	for host, want := range map[string]int{"mta-sts.own.example": http.StatusCreated, "other.example": http.StatusNotFound} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+w.Relay.PublisherAddr().String()+"/tlsrpt", strings.NewReader(reportOf("a.example", 1, 3, 0, "", "")))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if _ = res.Body.Close(); res.StatusCode != want {
			t.Errorf("%s: %d, want %d", host, res.StatusCode, want)
		}
	}
	if s := receivedSummary(w, "own.example"); s.Successful != 3 {
		t.Errorf("%+v", s)
	}
}

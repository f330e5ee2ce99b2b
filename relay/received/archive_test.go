package received

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/dkim"
	"github.com/stsrelay/stsrelay/internal/store/memory"
	"github.com/stsrelay/stsrelay/relay/security"
)

// harness is an archive with a clock and a DNS.
type harness struct {
	*Archive
	now      time.Time
	settings Settings
	txt      map[string][]string
	counted  [2]int64
}

func newHarness(t *testing.T) *harness {
	t.Helper()
	h := &harness{now: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC), settings: Settings{Keep: 400 * 24 * time.Hour}, txt: make(map[string][]string)}
	s := new(memory.Place).Open()
	t.Cleanup(func() { _ = s.Close() })
	h.Archive = Open(Options{
		Store: s, Settings: func() Settings { return h.settings }, Now: func() time.Time { return h.now },
		LookupTXT: func(_ context.Context, name string) ([]string, error) {
			if r, ok := h.txt[name]; ok {
				return r, nil
			}
			return nil, errors.New("no such name")
		},
		Counted: func(successful, failed int64) { h.counted[0] += successful; h.counted[1] += failed },
	})
	return h
}

// add adds a report and returns what became of it.
func (h *harness) add(t *testing.T, report string) Result {
	t.Helper()
	results, err := h.Add(t.Context(), strings.NewReader(report), "", ByImport)
	if err != nil || len(results) != 1 {
		t.Fatalf("%+v, %v", results, err)
	}
	return results[0]
}

// take hands over a mail to the drop.
func (h *harness) take(t *testing.T, id, mail string) {
	t.Helper()
	if err := h.Take(t.Context(), id, func() (io.Reader, error) { return strings.NewReader(mail), nil }); err != nil {
		t.Fatal(err)
	}
}

func (h *harness) records(t *testing.T) (list []Record) {
	t.Helper()
	if err := h.List(t.Context(), "", "", func(r *Record) bool { list = append(list, *r); return true }); err != nil {
		t.Fatal(err)
	}
	return list
}

func (h *harness) mails(t *testing.T) (list []Mail) {
	t.Helper()
	if err := h.Mails(t.Context(), "", func(m *Mail) bool { list = append(list, *m); return true }); err != nil {
		t.Fatal(err)
	}
	return list
}

// report is a report of one policy; details are written as "type host count reason".
func report(sender, day, id, domain string, successful, failed int, details ...string) string {
	var list []string
	for _, d := range details {
		f := strings.SplitN(d, " ", 4)
		list = append(list, fmt.Sprintf(`{"result-type":%q,"sending-mta-ip":"192.0.2.1","receiving-mx-hostname":%q,"failed-session-count":%s,"failure-reason-code":%q}`, f[0], f[1], f[2], strings.Join(f[3:], "")))
	}
	return fmt.Sprintf(`{"organization-name":%q,"date-range":{"start-datetime":"%sT00:00:00Z","end-datetime":"%[2]sT23:59:59Z"},"contact-info":"x@%[1]s","report-id":%[3]q,
"policies":[{"policy":{"policy-type":"sts","policy-domain":%[4]q,"policy-string":["version: STSv1","mode: testing","mx: mx.%[4]s","max_age: 604800"],"mx-host":["mx.%[4]s"]},
"summary":{"total-successful-session-count":%[5]d,"total-failure-session-count":%[6]d},"failure-details":[%[7]s]}]}`, sender, day, id, domain, successful, failed, strings.Join(list, ","))
}

func TestAReportIsCountedOnce(t *testing.T) {
	h := newHarness(t)
	one := report("sender.example", "2026-11-18", "1", "r.example", 10, 3, "certificate-expired mx.r.example 2 x509")
	first := h.add(t, one)
	if first.Outcome != Kept || first.Domain != "r.example" || first.Sender != "sender.example" {
		t.Errorf("%+v", first)
	}
	if again := h.add(t, one); again.Outcome != Duplicate || again.ID != first.ID {
		t.Errorf("again: %+v", again)
	}
	h.add(t, report("other.example", "2026-11-19", "1", "r.example", 5, 1, "certificate-expired mx.r.example 1"))
	h.add(t, report("other.example", "2026-11-19", "1", "s.example", 7, 0))
	list, err := h.Summaries(t.Context(), "", "")
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	s := list[0]
	if s.Domain != "r.example" || s.Successful != 15 || s.Failed != 4 || len(s.Days) != 2 || len(s.Senders) != 2 || s.Senders[0].Organization != "sender.example" {
		t.Errorf("%+v", s)
	}
	if s.Days[0].Day != "2026-11-18" || s.Days[0].Successful != 10 || s.Days[0].Failed["certificate-expired"] != 2 || s.Days[0].Failed[Unexplained] != 1 {
		t.Errorf("days: %+v", s.Days)
	}
	if f := s.Failures[0]; f.Type != "certificate-expired" || f.MX != "mx.r.example" || f.Sessions != 3 || f.LastDay != "2026-11-19" || f.Reason != "x509" || !f.Own {
		t.Errorf("failure: %+v", f)
	}
	if len(s.Seen) != 1 || s.Seen[0].Mode != "testing" || s.Seen[0].ID == "" || s.Seen[0].Reports != 2 || s.Seen[0].FirstDay != "2026-11-18" || s.Seen[0].LastDay != "2026-11-19" {
		t.Errorf("seen: %+v", s.Seen)
	}
	if h.counted != [2]int64{22, 4} {
		t.Errorf("counted %v", h.counted)
	}
	in, err := h.Intakes(t.Context(), "")
	if err != nil || len(in) != 1 || in[0].Reports != 3 || in[0].Duplicates != 1 || in[0].Day != "2026-11-20" {
		t.Errorf("%+v, %v", in, err)
	}
	shown, err := h.Show(t.Context(), first.ID[:6])
	if err != nil || shown.Record.ID != first.ID || shown.Report == nil || shown.Report.Policies[0].Details[0].Sessions != 2 {
		t.Errorf("%+v, %v", shown, err)
	}
}

func TestReportsThatAreNotKept(t *testing.T) {
	h := newHarness(t)
	h.settings.Domains = []string{"r.example"}
	for _, tt := range []struct {
		name, report string
		want         Outcome
	}{
		{"of another domain", report("a", "2026-11-18", "1", "other.example", 1, 0), Foreign},
		{"without a domain", `{"report-id":"1","policies":[{"summary":{"total-successful-session-count":1}}]}`, Foreign},
		{"too old", report("a", "2020-01-01", "1", "r.example", 1, 0), TooOld},
		{"of the future", report("a", "2027-01-01", "1", "r.example", 1, 0), TooOld},
		{"unreadable", `{"report-id":"1","policies":[`, Unread},
		{"no report", `{"a":1}`, Unread},
	} {
		if got := h.add(t, tt.report); got.Outcome != tt.want || got.Why == "" {
			t.Errorf("%s: %+v", tt.name, got)
		}
	}
	if list := h.records(t); list != nil {
		t.Errorf("kept: %+v", list)
	}
	in, err := h.Intakes(t.Context(), "")
	if err != nil || in[0].Foreign != 4 || in[0].Damaged != 1 || in[0].Reports != 0 {
		t.Errorf("%+v, %v", in, err)
	}
}

func TestADayHasABound(t *testing.T) {
	h := newHarness(t)
	if err := h.count(t.Context(), func(i *Intake) { i.Reports = MaxReports - 1 }); err != nil {
		t.Fatal(err)
	}
	if got := h.add(t, report("a", "2026-11-18", "the last", "r.example", 1, 0)); got.Outcome != Kept {
		t.Errorf("%+v", got)
	}
	if got := h.add(t, report("a", "2026-11-18", "one more", "r.example", 1, 0)); got.Outcome != Full {
		t.Errorf("%+v", got)
	}
	h.now = h.now.Add(24 * time.Hour)
	if got := h.add(t, report("a", "2026-11-18", "one more", "r.example", 1, 0)); got.Outcome != Kept {
		t.Errorf("the next day: %+v", got)
	}
}

func TestOneReportAddsFewSums(t *testing.T) {
	h := newHarness(t)
	var details []string
	for i := range 500 {
		details = append(details, fmt.Sprintf("certificate-expired mx%d.r.example 1", i))
	}
	h.add(t, report("a", "2026-11-18", "1", "r.example", 0, 500, details...))
	list, err := h.Summaries(t.Context(), "", "")
	if err != nil || len(list[0].Failures) != maxKinds+1 || list[0].Failed != 500 {
		t.Fatalf("%v: %+v", err, list)
	}
}

// The type of a policy is a stranger's text, too: 150 KiB made 10,000 sums of 1 KiB, which are
// kept for 400 days.
func TestManyTypesOfPoliciesAddFewSums(t *testing.T) {
	h := newHarness(t)
	var policies []string
	for i := range 200 {
		var details []string
		for j := range maxKinds {
			details = append(details, fmt.Sprintf("kind%d mx%d.r.example 1", j, i))
		}
		one := strings.Replace(report("a", "2026-11-18", "1", "r.example", 2, maxKinds, details...), `"sts"`, fmt.Sprintf(`"type%d"`, i), 1)
		policies = append(policies, one[strings.Index(one, `[{"policy":`)+1:len(one)-len("]}")])
	}
	h.add(t, `{"organization-name":"a","report-id":"1","date-range":{"start-datetime":"2026-11-18T00:00:00Z"},"policies":[`+strings.Join(policies, ",")+`]}`)
	n := 0
	err := scan(h.Archive, kindSum, "", func([]byte, *Sum) error { n++; return nil })
	if err != nil || n > maxSums+2 {
		t.Errorf("%d sums, %v", n, err)
	}
	list, err := h.Summaries(t.Context(), "", "")
	if err != nil || len(list) != 1 || list[0].Failed != 200*maxKinds || list[0].Successful != 400 {
		t.Errorf("%v: %d failed, %d well", err, list[0].Failed, list[0].Successful)
	}
}

// signed signs a mail with a key whose record is published.
func (h *harness) signed(t *testing.T, domain, mail string, services ...string) string {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key := &dkim.Key{Domain: domain, Selector: "s1", Signer: private}
	record, err := key.Record(services...)
	if err != nil || !strings.Contains(record, "s="+services[0]) {
		t.Fatalf("%s, %v", record, err)
	}
	h.txt[key.RecordName()] = []string{record}
	fields, err := dkim.NewSigner(time.Now, key).Sign(domain, func(w io.Writer) error { _, err := io.WriteString(w, mail); return err })
	if err != nil {
		t.Fatal(err)
	}
	return string(fields) + mail
}

// reportMail is a mail with a report.
func reportMail(id string) string {
	return "From: TLS <tls@sender.example>\r\nTo: drop@r.example\r\nSubject: Report\r\nMessage-ID: <1@sender.example>\r\nContent-Type: application/tlsrpt+json\r\n\r\n" +
		strings.ReplaceAll(report("Sender", "2026-11-18", id, "r.example", 1, 0), "\n", "\r\n") + "\r\n"
}

// Mails in files are verified, too: as they were sent, with the line ends of Unix, in an
// mbox, and as the attachment of a mail that somebody has passed on.
func TestAnImportedMailSaysWhoHasSignedIt(t *testing.T) {
	h := newHarness(t)
	unix := func(text string) string { return strings.ReplaceAll(text, "\r\n", "\n") }
	signed := func(id string) string { return h.signed(t, "sender.example", reportMail(id), "tlsrpt") }
	passedOn := "From: anna@r.example\r\nSubject: Fwd: Report\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n"
	for _, file := range []func() string{ // each has a key of its own
		func() string { return signed("1") },
		func() string { return unix(signed("2")) },
		func() string {
			return "From x Fri Nov 20 00:00:00 2026\n" + unix(signed("3")) + "\nFrom x Fri Nov 20 00:00:00 2026\n" + unix(reportMail("4")) + "\n"
		},
		func() string { return passedOn + signed("5") + "\r\n--b--\r\n" },
		func() string { return strings.Replace(signed("6"), "Subject: Report", "Subject: [EXT] Report", 1) },
		func() string { return report("Sender", "2026-11-18", "7", "r.example", 1, 0) },
	} {
		if _, err := h.Add(t.Context(), strings.NewReader(file()), "", ByImport); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.Add(t.Context(), strings.NewReader(signed("8")), "", ByHTTPS); err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, r := range h.records(t) {
		got[r.ReportID] = r.SignedBy
	}
	want := map[string]string{"1": "sender.example", "2": "sender.example", "3": "sender.example", "4": "", "5": "sender.example", "6": "", "7": "", "8": ""}
	if !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestAMailSaysWhoHasSignedIt(t *testing.T) {
	mail := reportMail
	h := newHarness(t)
	h.take(t, "q1", h.signed(t, "sender.example", mail("1"), "tlsrpt", "email"))
	h.take(t, "q2", "Received: from exchange by relay\r\n"+h.signed(t, "sender.example", mail("2"), "tlsrpt"))
	h.take(t, "q3", h.signed(t, "list.example", mail("3"), "tlsrpt"))
	h.take(t, "q4", strings.Replace(h.signed(t, "sender.example", mail("4"), "tlsrpt"), "Subject: Report", "Subject: [EXT] Report", 1))
	h.take(t, "q5", mail("5"))
	got := make(map[string]string)
	for _, r := range h.records(t) {
		got[r.ReportID] = r.Proof()
		if r.Via != ByMail || r.From != "TLS <tls@sender.example>" {
			t.Errorf("%+v", r)
		}
	}
	for id, want := range map[string]string{"1": "signed by sender.example", "2": "signed by sender.example", "3": "signed by list.example", "4": "not verifiable", "5": "not verifiable"} {
		if got[id] != want {
			t.Errorf("report %s: %q, want %q", id, got[id], want)
		}
	}
	if mails := h.mails(t); mails != nil {
		t.Errorf("%+v", mails)
	}
}

func TestAMailWithoutAReportIsKept(t *testing.T) {
	h := newHarness(t)
	mail := "From: A Person <a@r.example>\r\nSubject: Re: Report\r\nMessage-ID: <2@r.example>\r\n\r\nWhat is this?\r\n"
	h.take(t, "q1", mail)
	list := h.mails(t)
	if len(list) != 1 || list[0].From != "A Person <a@r.example>" || list[0].Subject != "Re: Report" || list[0].Why == "" || !list[0].Whole {
		t.Fatalf("%+v", list)
	}
	shown, err := h.Show(t.Context(), list[0].ID)
	if err != nil || shown.Content != mail {
		t.Errorf("%+v, %v", shown, err)
	}
	if err := h.count(t.Context(), func(i *Intake) { i.Mails = maxMails - 1 }); err != nil {
		t.Fatal(err)
	}
	h.take(t, "q2", mail)
	h.take(t, "q3", mail)
	in, err := h.Intakes(t.Context(), "")
	if err != nil || in[0].Mails != maxMails+1 || in[0].Dropped != 1 || len(h.mails(t)) != 2 {
		t.Errorf("%+v, %v", in, err)
	}
}

func TestWhatIsOldIsDeleted(t *testing.T) {
	h := newHarness(t)
	h.add(t, report("a", "2026-11-18", "1", "r.example", 4, 0))
	h.take(t, "q1", "Subject: hello\r\n\r\nhello\r\n")
	count := func() [3]int {
		if err := h.Cleanup(t.Context()); err != nil {
			t.Fatal(err)
		}
		list, err := h.Summaries(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		return [3]int{len(h.records(t)), len(h.mails(t)), len(list)}
	}
	for _, tt := range []struct {
		days int
		want [3]int
	}{{0, [3]int{1, 1, 1}}, {29, [3]int{1, 1, 1}}, {3, [3]int{1, 0, 1}}, {55, [3]int{1, 0, 1}}, {5, [3]int{0, 0, 1}}, {300, [3]int{0, 0, 1}}, {10, [3]int{0, 0, 0}}} {
		h.now = h.now.Add(time.Duration(tt.days) * 24 * time.Hour)
		if got := count(); got != tt.want {
			t.Errorf("%s: %v reports, mails and domains, want %v", h.now.Format(time.DateOnly), got, tt.want)
		}
	}
	n := 0
	if err := h.o.Store.ScanKeys(keyOf(""), nil, func([]byte) error { n++; return nil }); err != nil || n != 0 {
		t.Errorf("%d keys are left, %v", n, err)
	}
}

func TestTheVerdictSaysWhatIsMissing(t *testing.T) {
	day := func(n int) string { return time.Date(2026, 11, 20-n, 0, 0, 0, 0, time.UTC).Format(time.DateOnly) }
	ready := func(h *harness) {
		for n := 1; n <= 14; n++ {
			h.add(t, report("a", day(n), "1", "r.example", 5, 0))
			h.add(t, report("b", day(n), "1", "r.example", 5, 0))
		}
	}
	for _, tt := range []struct {
		name    string
		fill    func(*harness)
		missing []string
	}{
		{"nothing has come", func(*harness) {}, []string{"reports of 14 more days (0 of 14)", "reports of 2 more senders (0 of 2)", "100 more sessions"}},
		{"ready", ready, nil},
		{"one sender", func(h *harness) {
			for n := 1; n <= 14; n++ {
				h.add(t, report("a", day(n), "1", "r.example", 50, 0))
			}
		}, []string{"reports of 1 more sender (1 of 2)"}},
		{"a failure of its own", func(h *harness) {
			ready(h)
			h.add(t, report("c", day(2), "1", "r.example", 0, 1, "starttls-not-supported mx.r.example 1"))
		}, []string{"14 days without a failure of the domain's own: 1 session failed, the last on 2026-11-18"}},
		{"a failure of its own that is long ago", func(h *harness) {
			ready(h)
			h.add(t, report("c", day(16), "1", "r.example", 0, 1, "certificate-expired mx.r.example 1"))
		}, nil},
		{"a failure that one sender sees", func(h *harness) {
			ready(h)
			h.add(t, report("c", day(2), "1", "r.example", 0, 1, "validation-failure mx.r.example 1"))
		}, nil},
		{"a failure that two senders see", func(h *harness) {
			ready(h)
			h.add(t, report("c", day(2), "1", "r.example", 0, 1, "validation-failure mx.r.example 1"))
			h.add(t, report("d", day(20), "1", "r.example", 0, 1, "validation-failure mx.r.example 1"))
		}, []string{"14 days without a failure of the domain's own: 1 session failed"}},
		{"a failure of DANE", func(h *harness) {
			ready(h)
			h.add(t, report("c", day(2), "1", "r.example", 0, 1, "dnssec-invalid mx.r.example 1"))
		}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t)
			tt.fill(h)
			v, err := h.Verdict(t.Context(), "r.example")
			if err != nil || v.Ready != (tt.missing == nil) || len(v.Missing) != len(tt.missing) {
				t.Fatalf("%+v, %v", v, err)
			}
			for i, m := range tt.missing {
				if !strings.HasPrefix(v.Missing[i].String(), m) {
					t.Errorf("missing %q, want %q", v.Missing[i], m)
				}
			}
		})
	}
}

func TestEveryFailureHasARemedy(t *testing.T) {
	for kind, ownFailure := range map[string]bool{
		"starttls-not-supported": true, "certificate-host-mismatch": true, "certificate-not-trusted": true, "certificate-expired": true, "validation-failure": false,
		"tlsa-invalid": false, "dnssec-invalid": false, "dane-required": false, "sts-policy-fetch-error": true, "sts-policy-invalid": true, "sts-webpki-invalid": true,
		"something-new": false, Unexplained: false,
	} {
		f := &Failure{Type: kind, Senders: []string{"a"}}
		if f.explain("r.example"); f.Remedy.IsZero() || f.Rule == "" || strings.Contains(f.Remedy.String(), "owner:") || strings.Contains(f.Remedy.String(), "DOMAIN") || f.Own != ownFailure {
			t.Errorf("%+v", f)
		}
	}
	f := &Failure{Type: "validation-failure", Reason: "mta-sts-mx-mismatch: mx.r.example", Senders: []string{"a"}}
	if f.explain("r.example"); !strings.HasSuffix(security.CodeMXMismatch.Row().Remedy.String(), f.Remedy.String()) || f.Remedy.IsZero() {
		t.Errorf("a code of this relay: %+v", f)
	}
	if !slices.Contains([]string{"RFC 8461, 4.1"}, f.Rule) {
		t.Errorf("%+v", f)
	}
}

func TestANewFailureIsTold(t *testing.T) {
	h := newHarness(t)
	h.add(t, report("a", "2026-11-10", "1", "r.example", 100, 30, "certificate-expired mx1.r.example 30"))
	h.add(t, report("a", "2026-11-19", "2", "r.example", 1000, 63, "certificate-expired mx1.r.example 30", "certificate-expired mx2.r.example 10", "starttls-not-supported mx1.r.example 9"))
	h.add(t, report("a", "2026-11-19", "3", "s.example", 19, 1, "sts-policy-fetch-error mx.s.example 1"))
	h.take(t, "q1", "Subject: hello\r\n\r\nhello\r\n")
	trouble, err := h.Troubles(t.Context())
	if err != nil || trouble.Mails != 1 || trouble.Dropped != 0 {
		t.Fatalf("%+v, %v", trouble, err)
	}
	got := make(map[string]int64)
	for _, f := range trouble.Failures {
		got[f.Domain+" "+f.Type+" "+f.MX] = f.Sessions
		if f.Type == "sts-policy-fetch-error" && !strings.HasPrefix(f.Remedy.String(), "serve the policy at exactly https://mta-sts.s.example/.well-known/") {
			t.Errorf("%+v", f)
		}
	}
	if len(got) != 3 || got["r.example certificate-expired mx2.r.example"] != 10 || got["r.example unexplained "] != 14 || got["s.example sts-policy-fetch-error mx.s.example"] != 1 {
		t.Errorf("%v", got)
	}
	h.now = h.now.Add(5 * 24 * time.Hour)
	if trouble, err = h.Troubles(t.Context()); err != nil || trouble.Mails != 0 || trouble.Failures != nil {
		t.Errorf("later: %+v, %v", trouble, err)
	}
}

// The header of a mail may be in another character set, and a report may have line ends in its
// texts: what is kept can be found, and is one line.
func TestTextsOfStrangers(t *testing.T) {
	h := newHarness(t)
	const from = "From: M\xfcller <a@sender.example>\r\n"
	h.take(t, "q1", from+"Subject: Gr\xfc\xdfe\r\n\r\nhello")
	odd := strings.NewReplacer(`"organization-name":"s"`, `"organization-name":"s\nr.example is ready"`, "mx.r.example", `mx.r.example\n\u001b[1m`)
	h.take(t, "q2", from+"Content-Type: application/json\r\n\r\n"+odd.Replace(report("s", "2026-11-18", "1", "r.example", 1, 1, "certificate-expired mx.r.example 1")))
	if m := h.mails(t); len(m) != 1 || m[0].From != "M\uFFFDller <a@sender.example>" || m[0].Subject != "Gr\uFFFD\uFFFDe" {
		t.Errorf("%+v", m)
	}
	if r := h.records(t); len(r) != 1 || r[0].From != "M\uFFFDller <a@sender.example>" || r[0].Organization != "s r.example is ready" {
		t.Errorf("%+v", r)
	}
	list, err := h.Summaries(t.Context(), "", "")
	if err != nil || len(list) != 1 || list[0].Failures[0].MX != "mx.r.example  [1m" {
		t.Errorf("%+v, %v", list, err)
	}
}

// Two reports of a stranger made the failures of a domain negative, and so none.
func TestHugeNumbersDoNotOverflow(t *testing.T) {
	h := newHarness(t)
	for i := range 2 {
		one := report("a", "2026-11-18", fmt.Sprint(i), "r.example", 1<<62, 1<<62, fmt.Sprintf("certificate-expired mx.r.example %d", 1<<62))
		policy := one[strings.Index(one, `[{"policy":`)+1 : len(one)-len("]}")]
		h.add(t, strings.Replace(one, policy, strings.Repeat(policy+",", 999)+policy, 1))
	}
	list, err := h.Summaries(t.Context(), "", "")
	if err != nil || len(list) != 1 || list[0].Successful < 1<<36 || list[0].Failed < 1<<36 || list[0].Verdict.Own < 1<<36 {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestTheSameReportIDOnTwoDays(t *testing.T) {
	h := newHarness(t)
	for _, day := range []string{"2026-11-18", "2026-11-19"} {
		r := h.add(t, report("sender.example", day, "tlsrpt", "r.example", 1, 0))
		shown, err := h.Show(t.Context(), r.ID)
		if err != nil || shown.Record.Day != day {
			t.Errorf("%+v: %+v, %v", r, shown, err)
		}
	}
}

// Postfix and mox name the host as the policy domain of TLSA records (RFC 8460, 1.1). Such a
// report is about the domain that its mail or its policies name, or that is above the host.
func TestReportsOnTLSARecords(t *testing.T) {
	tlsa := func(id, host string) string {
		return strings.ReplaceAll(report("sender.example", "2026-11-18", id, host, 5, 0), `"sts"`, `"tlsa"`)
	}
	h := newHarness(t)
	h.settings.Domains = []string{"r.example"}
	h.take(t, "q1", "From: a@sender.example\r\nTLS-Report-Domain: r.example\r\nContent-Type: application/json\r\n\r\n"+tlsa("1", "mx.provider.example"))
	if r := h.add(t, tlsa("2", "mx1.r.example")); r.Outcome != Kept {
		t.Errorf("%+v", r)
	}
	for _, foreign := range []string{tlsa("3", "mx.provider.example"), report("sender.example", "2026-11-18", "4", "sub.r.example", 5, 0)} {
		if r := h.add(t, foreign); r.Outcome != Foreign {
			t.Errorf("%+v", r)
		}
	}
	all, err := h.Summaries(t.Context(), "", "")
	if err != nil || len(all) != 1 || all[0].Domain != "r.example" || all[0].Successful != 10 {
		t.Errorf("%+v, %v", all, err)
	}
}

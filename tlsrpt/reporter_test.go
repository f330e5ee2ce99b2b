package tlsrpt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/testnet"
)

func TestReceiversThatDoNotTakeAReport(t *testing.T) {
	answers := func(a ...testnet.Answer) func(*harness, *testnet.ReportHost) {
		return func(_ *harness, h *testnet.ReportHost) { h.Answer(a...) }
	}
	const url = "https://r.example/in"
	for _, tt := range []struct {
		name   string
		record string
		set    func(*harness, *testnet.ReportHost)
		first  State // after the first attempt
		last   State // after a day
		posts  int   // in all; -1: many
		why    string
	}{
		{"200", url, answers(), Sent, Sent, 1, ""},
		{"202", url, answers(testnet.Answer{Status: 202}), Sent, Sent, 1, ""},
		{"301 to another host, then 200", url, answers(testnet.Answer{Status: 301, Location: "https://evil.example/"}), Waiting, Sent, 2, "not followed"},
		{"308 to http", url, answers(testnet.Answer{Status: 308, Location: "http://r.example/"}), Waiting, Sent, 2, "not followed"},
		{"308 to another path", url, answers(testnet.Answer{Status: 308, Location: "/other"}), Sent, Sent, 2, ""},
		{"308 in circles", url, answers(repeat(testnet.Answer{Status: 308, Location: "/in"}, 200)...), Waiting, Failed, -1, "redirects too often"},
		{"301 to another port", url, answers(testnet.Answer{Status: 301, Location: "https://r.example:8443/in"}), Waiting, Sent, 2, "not followed"},
		{"307 without a place to go to", url, answers(testnet.Answer{Status: 307}), Waiting, Sent, 2, "307"},
		{"404, then 200", url, answers(testnet.Answer{Status: 404}), Waiting, Sent, 2, "404"},
		{"500, 503, then 200", url, answers(testnet.Answer{Status: 500}, testnet.Answer{Status: 503}), Waiting, Sent, 3, "500"},
		{"410", url, answers(testnet.Answer{Status: 410}), Failed, Failed, 1, "refused"},
		{"413", url, answers(testnet.Answer{Status: 413}), Failed, Failed, 1, "refused"},
		{"500 for ever", url, answers(repeat(testnet.Answer{Status: 500}, 100)...), Waiting, Failed, -1, "given up after 24 hours"},
		{"a certificate that does not hold", url, func(_ *harness, h *testnet.ReportHost) { h.SetCert(testnet.CertSpec{SelfSigned: true}) }, Waiting, Failed, 0, "certificate"},
		{"a certificate that does not hold, and the operator does not mind", url, func(o *harness, h *testnet.ReportHost) {
			h.SetCert(testnet.CertSpec{SelfSigned: true})
			o.insecure = true
		}, Sent, Sent, 1, ""},
		{"a private address", url, func(o *harness, _ *testnet.ReportHost) { o.public = true }, Waiting, Failed, 0, "not a public address"},
		{"a private address in the URL", "https://127.0.0.1/", func(o *harness, _ *testnet.ReportHost) { o.public = true }, Waiting, Failed, 0, "not a public address"},
		{"a link-local address in the URL", "https://[fe80::1]/", func(o *harness, _ *testnet.ReportHost) { o.public = true }, Waiting, Failed, 0, "not a public address"},
		{"no such host", "https://nowhere.example/", answers(), Waiting, Failed, 0, "nowhere.example"},
		{"two, one dead", "https://nowhere.example/," + url, answers(), Sent, Sent, 1, ""},
		{"two, one refuses and one comes back", "https://r.example/1,https://r.example/2", answers(testnet.Answer{Status: 410}, testnet.Answer{Status: 500}), Waiting, Sent, 3, "refused"},
		{"an unknown scheme only", "ftp://r.example/", answers(), Skipped, Skipped, 0, "ftp"},
		{"a comma in the path", "https://r.example/a%2Cb", answers(), Sent, Sent, 1, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := newHarness(t)
			h := o.receiver("r.example")
			tt.set(o, h)
			o.publish("a.example", "v=TLSRPTv1; rua="+tt.record)
			o.count(success)
			o.at(nextDay)
			if s := o.state(); s.State != tt.first || !strings.Contains(s.Why.String(), tt.why) && tt.first == tt.last {
				t.Errorf("first: %+v", s)
			}
			var before time.Time
			for n := 0; o.state().NextAt != nil; n++ { // every retry at its time
				if before = *o.state().NextAt; n > 30 {
					t.Fatal("it is tried for ever")
				}
				if n%3 == 0 {
					o.restart()
				}
				o.at(before)
			}
			s := o.state()
			if s.State != tt.last || tt.last != Sent && !strings.Contains(s.Why.String(), tt.why) {
				t.Errorf("last: %+v", s)
			}
			if told := strings.Contains(o.log.String(), `level=WARN msg="TLS report given up"`); told != (s.State == Failed) {
				t.Errorf("the log has %q", o.log.String())
			}
			if d := o.now.Sub(nextDay); d > 24*time.Hour {
				t.Errorf("it was tried for %s", d)
			}
			posts := h.Posts()
			if len(posts) != tt.posts && tt.posts >= 0 || tt.posts < 0 && len(posts) < 5 {
				t.Errorf("%d posts", len(posts))
			}
			for _, p := range posts {
				if !bytes.Equal(p.Report, posts[0].Report) {
					t.Errorf("another report at a retry:\n%s\n%s", posts[0].Report, p.Report)
				}
			}
		})
	}
}

func repeat(a testnet.Answer, n int) (out []testnet.Answer) {
	for range n {
		out = append(out, a)
	}
	return out
}

// A receiver that has accepted a report does not get it again where the relay stops before the
// other receivers have answered.
func TestAStopBetweenTwoReceivers(t *testing.T) {
	o := newHarness(t)
	o.publish("a.example", "v=TLSRPTv1; rua=https://r.example/1,https://r.example/2,https://r.example/3")
	o.count(success)
	var posts []string
	ctx, stop := context.WithCancel(t.Context())
	post := func(ctx context.Context, url string, _ []byte) error {
		posts = append(posts, url[len(url)-1:])
		switch url {
		case "https://r.example/1":
			return nil
		case "https://r.example/2":
			return fmt.Errorf("%w: 410", ErrRefused)
		}
		stop()
		return ctx.Err()
	}
	o.o.Post = post
	o.now = nextDay
	if err := o.newDay(ctx, o.now); err != nil {
		t.Fatal(err)
	}
	k, _, _ := o.due.next(o.now)
	o.attempt(ctx, k)
	if s := o.state(); s.State != Waiting {
		t.Errorf("after the stop: %+v", s)
	}
	o.restart()
	o.o.Post = post
	o.at(nextDay)
	if got := strings.Join(posts, ""); got != "1233" {
		t.Errorf("posts to %s", got)
	}
	if s := o.state(); s.State != Sent || len(s.To) != 3 {
		t.Errorf("after the restart: %+v", s)
	}
	if got := slices.Sorted(slices.Values(o.ends)); !slices.Equal(got, []string{"https false", "https true", "https true"}) {
		t.Errorf("ends %q", got)
	}
}

// What a domain's owner or a receiver writes that is no UTF-8 does not damage the record of a
// report, which would hide the reports of all domains.
func TestTextsThatAreNoUTF8(t *testing.T) {
	o := newHarness(t)
	h := o.receiver("r.example")
	h.Answer(testnet.Answer{Status: 301, Location: "https://evil.example/?\xff"})
	for _, rua := range []string{"https://r.example/?\xff", "mailto:x@r.example", "https://r.example/"} {
		domain := fmt.Sprintf("d%d.example", len(o.records))
		o.publish(domain, "v=TLSRPTv1; rua="+rua)
		o.count(Result{Domain: domain, Policy: Policy{Type: PolicyNone}, At: noon})
	}
	o.at(nextDay)
	o.Mailed(t.Context(), "Q0", "550 Empf\xe4nger")
	got := make(map[State]string)
	for _, s := range o.list() {
		got[s.State] = s.Why.String()
	}
	for state, want := range map[State]string{Skipped: "it is no UTF-8", Failed: "550 Empf\uFFFDnger", Waiting: "redirects to https://evil.example/?\uFFFD"} {
		if !strings.Contains(got[state], want) {
			t.Errorf("%s: %q", state, got[state])
		}
	}
}

func TestRecordsAreLookedUpWhenAReportIsMadeAndAgainWhenItIsTriedAgain(t *testing.T) {
	o := newHarness(t)
	h := o.receiver("r.example")
	o.publish("a.example", "v=TLSRPTv1; rua=https://r.example/1")
	for _, d := range []string{"gone.example", "two.example", "later.example"} {
		o.count(Result{Domain: d, Policy: Policy{Type: PolicyNone}, At: noon})
	}
	o.publish("two.example", "v=TLSRPTv1; rua=https://r.example/", "v=TLSRPTv1; rua=https://r.example/")
	o.count(success)
	o.dnsErr = errors.New("the name server is down")
	o.at(nextDay)
	for _, s := range o.list() {
		if s.State != Waiting || !strings.Contains(s.Why.String(), "name server is down") {
			t.Errorf("%+v", s)
		}
	}
	o.dnsErr = nil
	o.publish("later.example", "v=TLSRPTv1; rua=https://r.example/1")
	h.Answer(repeat(testnet.Answer{Status: 500}, 2)...)
	o.at(nextDay.Add(5 * time.Minute))
	want := map[string]State{"a.example": Waiting, "gone.example": Skipped, "two.example": Skipped, "later.example": Waiting}
	for _, s := range o.list() {
		if s.State != want[s.Domain] {
			t.Errorf("%+v", s)
		}
	}
	o.publish("a.example", "v=TLSRPTv1; rua=https://r.example/2")
	o.publish("later.example")
	o.at(nextDay.Add(time.Hour))
	want["a.example"], want["later.example"] = Sent, Skipped
	for _, s := range o.list() {
		if s.State != want[s.Domain] {
			t.Errorf("%+v", s)
		}
	}
	if !slices.Equal(o.ends, []string{"https true"}) {
		t.Errorf("ends at destinations: %q", o.ends)
	}
	if p := h.Posts(); len(p) != 3 || p[2].Path != "POST /2" {
		t.Errorf("%+v", p)
	}
}

func TestAMailIsQueuedOnceAndWhatBecomesOfItIsTheReports(t *testing.T) {
	o := newHarness(t)
	o.publish("a.example", "v=TLSRPTv1; rua=mailto:x@r.example,https://nowhere.example/")
	o.noKey = true
	o.count(success)
	o.at(nextDay)
	if s := o.state(); s.State != Waiting || !strings.Contains(s.Why.String(), "no DKIM key of sender.example") {
		t.Errorf("%+v", s)
	}
	o.noKey = false
	o.at(*o.state().NextAt)
	o.restart()
	for range 3 {
		o.at(*o.state().NextAt)
	}
	if len(o.queued) != 1 || !bytes.HasPrefix(o.queued[0].Body, []byte("X-Signed: by sender.example\r\nFrom: <tls@sender.example>\r\nTo: <x@r.example>\r\n")) {
		t.Fatalf("%d mails: %.200s", len(o.queued), o.queued)
	}
	o.Mailed(t.Context(), "Q0", "550 5.1.1 gone")
	o.Mailed(t.Context(), "unknown", "")
	flush(t, o.store)
	if s := o.state(); s.State != Waiting || !strings.Contains(s.Why.String(), "gone") {
		t.Errorf("%+v", s)
	}
	for o.state().NextAt != nil {
		o.at(*o.state().NextAt)
	}
	if s := o.state(); s.State != Failed || len(o.queued) != 1 {
		t.Errorf("%d mails, %+v", len(o.queued), s)
	}
	err := o.SendNow(t.Context(), "2026-11-23", "a.example", func(s Status) bool { return true })
	if err != nil || len(o.queued) != 2 {
		t.Errorf("sent by the operator: %d mails, %v", len(o.queued), err)
	}
	o.Mailed(t.Context(), "Q1", "")
	flush(t, o.store)
	if s := o.state(); s.State != Sent {
		t.Errorf("%+v", s)
	}
	if want := []string{"mail false", "https false", "mail true"}; !slices.Equal(o.ends, want) {
		t.Errorf("ends at destinations: %q, want %q", o.ends, want)
	}
}

// flush waits for what was submitted before.
func flush(t testing.TB, s store.Store) {
	t.Helper()
	if err := store.Commit(t.Context(), s, new(store.Batch)); err != nil {
		t.Fatal(err)
	}
}

func TestSendingADaySendsAllOfItsReports(t *testing.T) {
	o := newHarness(t)
	o.publish("a.example", "v=TLSRPTv1; rua=mailto:tls@r.example")
	send := func() (states []State) {
		if err := o.SendNow(t.Context(), "2026-11-23", "a.example", func(s Status) bool { states = append(states, s.State); return true }); err != nil {
			t.Fatal(err)
		}
		return states
	}
	o.noKey = true
	o.count(success)
	if got := send(); len(got) != 1 || got[0] != Waiting || len(o.queued) != 0 {
		t.Fatalf("without a key: %v, %d mails", got, len(o.queued))
	}
	o.noKey = false
	o.count(success, success)
	if got := send(); len(got) != 2 || len(o.queued) != 2 {
		t.Errorf("%v, %d mails; two reports of the day were not sent", got, len(o.queued))
	}
	if got := send(); len(o.queued) != 2 {
		t.Errorf("sent again: %v, %d mails", got, len(o.queued))
	}
}

func TestAReportThatIsPlannedTwiceIsTriedAtItsTimeOnly(t *testing.T) {
	o := newHarness(t)
	h := o.receiver("r.example")
	h.Answer(repeat(testnet.Answer{Status: 500}, 3)...)
	o.publish("a.example", "v=TLSRPTv1; rua=https://r.example/")
	o.count(success)
	posts := func(when string, want int) {
		t.Helper()
		if n := len(h.Posts()); n != want {
			t.Errorf("%s: %d posts, not %d", when, n, want)
		}
	}
	o.at(nextDay)
	posts("at once", 1)
	o.plan(reportKey{Day: "2026-11-23", Domain: "a.example"}, nextDay.Add(time.Minute))
	o.at(nextDay.Add(time.Minute))
	posts("after a minute", 1)
	if err := o.SendNow(t.Context(), "2026-11-23", "", func(Status) bool { return true }); err != nil {
		t.Fatal(err)
	}
	posts("by the operator", 2)
	o.at(nextDay.Add(5 * time.Minute))
	posts("when it would have been tried again", 2)
	o.at(nextDay.Add(16 * time.Minute))
	posts("15 minutes after the operator", 3)
}

func TestARunningReporterSendsByItsClockAndStops(t *testing.T) {
	o := newHarness(t)
	h := o.receiver("r.example")
	o.publish("a.example", "v=TLSRPTv1; rua=https://r.example/")
	o.count(success)
	o.now = nextDay
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- o.Run(ctx) }()
	wait, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := h.Wait(wait, 1); err != nil {
		t.Error(err)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestALargeReportArrivesWhole(t *testing.T) {
	o := newHarness(t)
	h := o.receiver("r.example")
	o.publish("a.example", "v=TLSRPTv1; rua=https://r.example/,mailto:x@r.example")
	for p := range 60 {
		var b store.Batch
		policy := Policy{Type: PolicySTS, Strings: []string{fmt.Sprintf("max_age: %d", p)}}
		for i := range 1000 {
			o.Count(&b, Result{Domain: "a.example", Policy: policy, Failure: &Failure{CertificateNotTrusted, "192.0.2.1", fmt.Sprintf("mx%d.a.example", i), "mx", "192.0.2.2", "self-signed"}, At: noon})
			if i%200 == 199 {
				if err := store.Commit(t.Context(), o.store, &b); err != nil {
					t.Fatal(err)
				}
				b = store.Batch{}
			}
		}
	}
	o.at(nextDay)
	post := h.Posts()[0]
	if len(post.Report) < 10<<20 {
		t.Errorf("only %d octets", len(post.Report))
	}
	r, err := testnet.ReadTLSReport(post.Report)
	if err != nil || len(r.Policies) != 60 || len(r.Policies[7].Details) != 1000 {
		t.Errorf("%v", err)
	}
	if len(o.queued) != 1 || len(o.queued[0].Body) < len(post.Raw)*4/3 {
		t.Errorf("%d mails", len(o.queued))
	}
	t.Logf("%d octets of JSON, %d compressed", len(post.Report), len(post.Raw))
}

// A session that was judged by two policies is one for people.
func TestASessionUnderTwoPoliciesIsListedOnce(t *testing.T) {
	o := newHarness(t)
	sts := Policy{Type: PolicySTS, Strings: []string{"version: STSv1"}}
	tlsa := Policy{Type: PolicyTLSA, Strings: []string{"3 1 1 abcd"}}
	expired := &Failure{Type: CertificateExpired, MXHost: "mx"}
	session := func(dane, mtasts *Failure) {
		o.count(Result{Domain: "a.example", Policy: tlsa, Failure: dane, At: noon},
			Result{Domain: "a.example", Policy: sts, Failure: mtasts, At: noon, Again: true, Failed: dane != nil && mtasts != nil})
	}
	session(nil, nil)
	session(nil, nil)
	session(nil, expired)     // DANE holds
	session(expired, nil)     // and the other way round
	session(expired, expired) // neither
	l := o.list()
	if len(l) != 1 || l[0].Sessions != 5 || l[0].Failures != 3 {
		t.Errorf("%+v", l)
	}
	err := o.Preview(t.Context(), "2026-11-23", "a.example", func(r *Report) bool {
		for _, p := range r.Policies { // each policy has all of its own
			if p.Summary.Successful != 3 || p.Summary.Failed != 2 {
				t.Errorf("%+v", p)
			}
		}
		return true
	})
	if err != nil {
		t.Error(err)
	}
}

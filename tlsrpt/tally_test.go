package tlsrpt

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stsrelay/stsrelay/internal/bench/cputime"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/badger"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func openStore(t testing.TB, dir string) *badger.Store {
	t.Helper()
	s, err := badger.Open(badger.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func count(t testing.TB, s store.Store, results ...Result) {
	t.Helper()
	countIn(t, NewTally(nil), s, results...)
}

func countIn(t testing.TB, tally *Tally, s store.Store, results ...Result) {
	t.Helper()
	var b store.Batch
	for _, r := range results {
		tally.Count(&b, r)
	}
	if err := store.Commit(t.Context(), s, &b); err != nil {
		t.Fatal(err)
	}
}

// dayCounts is what was counted of one domain for one report.
type dayCounts struct {
	reportKey
	Policies []Counts
}

func read(t testing.TB, s store.Store, parts ...string) (out []dayCounts) {
	t.Helper()
	err := readPolicies(s, countsPrefix(parts...), func(k reportKey, c *Counts) bool {
		if len(out) == 0 || out[len(out)-1].reportKey != k {
			out = append(out, dayCounts{reportKey: k})
		}
		last := &out[len(out)-1]
		last.Policies = append(last.Policies, *c)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestCountsAddUpOverCommitsAndRestarts(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	sts := Policy{Type: PolicySTS, Strings: []string{"version: STSv1", "mode: testing"}, MXHosts: []string{"mx.a.example"}}
	failure := &Failure{Type: CertificateExpired, MXHost: "mx.a.example", Code: "expired"}
	other := &Failure{Type: StartTLSNotSupported, MXHost: "mx.a.example"}
	count(t, s, Result{Domain: "a.example", Policy: sts, Failure: nil, At: noon}, Result{Domain: "a.example", Policy: sts, Failure: failure, At: noon}, Result{Domain: "a.example", Policy: sts, Failure: nil, At: noon})
	count(t, s, Result{Domain: "a.example", Policy: sts, Failure: failure, At: noon.Add(time.Hour)}, Result{Domain: "a.example", Policy: sts, Failure: other, At: noon}, Result{Domain: "b.example", Policy: Policy{Type: PolicyNone}, Failure: nil, At: noon},
		Result{Domain: "a.example", Policy: sts, Failure: nil, At: noon.Add(12 * time.Hour)})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir)
	got := read(t, s, "2026-11-23")
	want := []dayCounts{
		{reportKey{"2026-11-23", "a.example", 0}, []Counts{{Policy: sts, Successes: 2, Failures: []FailureCount{{*failure, 2, noon.Unix(), noon.Add(time.Hour).Unix()}, {*other, 1, noon.Unix(), noon.Unix()}}}}},
		{reportKey{"2026-11-23", "b.example", 0}, []Counts{{Policy: Policy{Type: PolicyNone}, Successes: 1}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if next := read(t, s, "2026-11-24", "a.example"); len(next) != 1 || next[0].Policies[0].Successes != 1 {
		t.Errorf("the session after midnight: %+v", next)
	}
}

func TestAReportSaysWhatWasCounted(t *testing.T) {
	s := openStore(t, t.TempDir())
	sts := Policy{Type: PolicySTS, Strings: []string{"version: STSv1", "mode: enforce", "mx: *.a.example", "max_age: 86400"}, MXHosts: []string{"*.a.example"}}
	failure := &Failure{CertificateHostMismatch, "192.0.2.1", "mx.a.example", "mx", "2001:db8::1", "name"}
	for range 5 {
		count(t, s, Result{Domain: "a.example", Policy: sts, Failure: nil, At: noon})
	}
	for range 3 {
		count(t, s, Result{Domain: "a.example", Policy: sts, Failure: failure, At: noon})
	}
	count(t, s, Result{Domain: "a.example", Policy: Policy{Type: PolicyNone}, Failure: nil, At: noon})
	var b bytes.Buffer
	_, err := Identity{Organization: "Example", Contact: "postmaster@example.com"}.write(&b, s, reportKey{"2026-11-23", "a.example", 0}, "id-1")
	if err != nil {
		t.Fatal(err)
	}
	var r Report
	if err := json.Unmarshal(b.Bytes(), &r); err != nil {
		t.Fatalf("%v in %s", err, b.Bytes())
	}
	slices.SortFunc(r.Policies, func(a, b ReportPolicy) int { return -strings.Compare(string(a.Policy.Type), string(b.Policy.Type)) })
	got, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	const want = `{
 "organization-name": "Example",
 "date-range": {
  "start-datetime": "2026-11-23T00:00:00Z",
  "end-datetime": "2026-11-23T23:59:59Z"
 },
 "contact-info": "postmaster@example.com",
 "report-id": "id-1",
 "policies": [
  {
   "policy": {
    "policy-type": "sts",
    "policy-string": [
     "version: STSv1",
     "mode: enforce",
     "mx: *.a.example",
     "max_age: 86400"
    ],
    "policy-domain": "a.example",
    "mx-host": [
     "*.a.example"
    ]
   },
   "summary": {
    "total-successful-session-count": 5,
    "total-failure-session-count": 3
   },
   "failure-details": [
    {
     "result-type": "certificate-host-mismatch",
     "sending-mta-ip": "192.0.2.1",
     "receiving-mx-hostname": "mx.a.example",
     "receiving-mx-helo": "mx",
     "receiving-ip": "2001:db8::1",
     "failed-session-count": 3,
     "failure-reason-code": "name"
    }
   ]
  },
  {
   "policy": {
    "policy-type": "no-policy-found",
    "policy-domain": "a.example"
   },
   "summary": {
    "total-successful-session-count": 1,
    "total-failure-session-count": 0
   }
  }
 ]
}`
	if string(got) != want {
		t.Errorf("got\n%s", got)
	}
}

// What counting adds to a delivery in CPU time (the machine may have other work): commits of a hundred deliveries with their
// counts, less the same commits without.
func BenchmarkCount(b *testing.B) {
	policy := Policy{Type: PolicySTS, Strings: []string{"version: STSv1", "mode: enforce", "mx: mx1.a.example", "mx: mx2.a.example", "max_age: 86400"}, MXHosts: []string{"mx1.a.example", "mx2.a.example"}}
	failure := &Failure{Type: CertificateExpired, SendingIP: "192.0.2.1", MXHost: "mx1.a.example", MXHelo: "mx1.a.example", MXIP: "192.0.2.2", Code: "expired"}
	for _, bm := range []struct {
		name    string
		failure *Failure
	}{{"success", nil}, {"failure", failure}} {
		b.Run(bm.name, func(b *testing.B) {
			s := openStore(b, b.TempDir())
			tally := NewTally(nil)
			domains := make([]string, 100)
			for i := range domains {
				domains[i] = fmt.Sprintf("d%d.example", i)
			}
			run := func(counting bool) time.Duration {
				start := cputime.Used()
				var batch store.Batch
				for i, d := range domains { // a hundred deliveries share a commit under load
					batch.Set(fmt.Appendf(nil, "x%d", i), make([]byte, 200))
					if counting {
						tally.Count(&batch, Result{Domain: d, Policy: policy, Failure: bm.failure, At: noon})
					}
				}
				if err := store.Commit(b.Context(), s, &batch); err != nil {
					b.Fatal(err)
				}
				return cputime.Used() - start
			}
			var with, without time.Duration
			for b.Loop() {
				without += run(false)
				with += run(true)
			}
			b.ReportMetric(float64((with-without).Nanoseconds())/float64(b.N)/100, "cpu-ns/count")
		})
	}
}

func TestBoundsAreKeptAndTold(t *testing.T) {
	var log bytes.Buffer
	s := openStore(t, t.TempDir())
	tally := NewTally(slog.New(slog.NewTextHandler(&log, nil)))
	tally.maxDomains, tally.maxDetails = 3, 5
	policy := Policy{Type: PolicyNone}
	for i := range 20 {
		f := &Failure{Type: CertificateExpired, MXHost: fmt.Sprintf("mx%d", i), MXIP: "192.0.2.1"}
		countIn(t, tally, s, Result{Domain: "a.example", Policy: policy, Failure: f, At: noon}, Result{Domain: "a.example", Policy: policy, Failure: f, At: noon})
	}
	countIn(t, tally, s, Result{Domain: "a.example", Policy: policy, Failure: &Failure{Type: StartTLSNotSupported, MXHost: "new"}, At: noon})
	for i := range 120 {
		countIn(t, tally, s, Result{Domain: "b.example", Policy: Policy{Type: PolicySTS, Strings: []string{fmt.Sprint(i)}}, Failure: nil, At: noon})
	}
	for i := range 10 {
		countIn(t, tally, s, Result{Domain: fmt.Sprintf("more%d.example", i), Policy: policy, At: noon})
	}
	got := read(t, s, "2026-11-23")
	if len(got) != 3 || len(got[1].Policies) != maxPolicies+1 {
		t.Fatalf("%d domains, %d policies", len(got), len(got[1].Policies))
	}
	var summed []FailureCount
	for _, f := range got[0].Policies[0].Failures {
		if f.MXHost == "" {
			summed = append(summed, f)
		} else if f.Count != 2 {
			t.Errorf("%+v", f)
		}
	}
	want := []FailureCount{{Failure{Type: CertificateExpired}, 30, noon.Unix(), noon.Unix()}, {Failure{Type: StartTLSNotSupported}, 1, noon.Unix(), noon.Unix()}}
	if n := got[0].Policies[0].Failed(); n != 41 || !reflect.DeepEqual(summed, want) {
		t.Errorf("%d failures, summed %+v", n, summed)
	}
	var total int64
	for _, p := range got[1].Policies {
		total += p.Successes
	}
	if total != 120 {
		t.Errorf("%d sessions of a domain with many policies", total)
	}
	for _, want := range []string{"more domains", "too many policies", "too many ways"} {
		if n := strings.Count(log.String(), want); n != 1 {
			t.Errorf("%q stands %d times in the log", want, n)
		}
	}
}

// What strangers say cannot make the counts unreadable.
func TestTextsOfStrangersAreMadeFit(t *testing.T) {
	s := openStore(t, t.TempDir())
	bad := "\xff\xfe" + strings.Repeat("x", 1000)
	count(t, s, Result{Domain: "A.example", Policy: Policy{Type: PolicySTS, Strings: []string{"good", bad}}, At: noon, Failure: &Failure{Type: STSPolicyInvalid, MXHelo: bad, Code: bad}})
	got := read(t, s, "2026-11-23", "a.example")
	if len(got) != 1 || len(got[0].Policies) != 1 || len(got[0].Policies[0].Failures) != 1 {
		t.Fatalf("%+v", got)
	}
	f := got[0].Policies[0].Failures[0]
	if len(f.MXHelo) > maxText || !utf8.ValidString(f.MXHelo+f.Code+got[0].Policies[0].Policy.Strings[1]) {
		t.Errorf("%+v", f)
	}
}

// A commit that is refused takes its counts with it, also those that were
// remembered instead of read.
func TestARefusedCommitIsNotCounted(t *testing.T) {
	s := openStore(t, t.TempDir())
	tally := NewTally(nil)
	countIn(t, tally, s, success)
	var b store.Batch
	tally.Count(&b, success)
	b.Set(make([]byte, 70_000), nil) // no key of Badger is so long
	if err := store.Commit(t.Context(), s, &b); err == nil {
		t.Fatal("the commit was taken")
	}
	countIn(t, tally, s, success)
	if n := read(t, s, "2026-11-23")[0].Policies[0].Successes; n != 2 {
		t.Errorf("%d successes", n)
	}
}

func TestADamagedCountLeavesTheRestOfTheReport(t *testing.T) {
	s := openStore(t, t.TempDir())
	count(t, s, success, Result{Domain: "a.example", Policy: Policy{Type: PolicySTS, Strings: []string{"x"}}, At: noon, Failure: &Failure{Type: CertificateExpired}})
	if err := store.Put(t.Context(), s, append(countsPrefix("2026-11-23", "a.example", "0000"), "ffffffffffffffff/n"...), []byte{0xff}); err != nil {
		t.Fatal(err)
	}
	if got := read(t, s, "2026-11-23"); len(got) != 1 || len(got[0].Policies) != 3 {
		t.Errorf("%+v", got)
	}
}

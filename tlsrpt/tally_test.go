package tlsrpt

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func openStore(t testing.TB, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(store.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func count(t testing.TB, s *store.Store, results ...Result) {
	t.Helper()
	countIn(t, NewTally(nil), s, results...)
}

func countIn(t testing.TB, tally *Tally, s *store.Store, results ...Result) {
	t.Helper()
	var b store.Batch
	for _, r := range results {
		tally.Count(&b, r)
	}
	if err := s.Commit(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
}

// dayCounts is what was counted of one domain for one report.
type dayCounts struct {
	reportKey
	Policies []Counts
}

func read(t testing.TB, s *store.Store, parts ...string) (out []dayCounts) {
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
	count(t, s, Result{"a.example", sts, nil, noon}, Result{"a.example", sts, failure, noon}, Result{"a.example", sts, nil, noon})
	count(t, s, Result{"a.example", sts, failure, noon}, Result{"a.example", sts, other, noon}, Result{"b.example", Policy{Type: PolicyNone}, nil, noon},
		Result{"a.example", sts, nil, noon.Add(12 * time.Hour)})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir)
	got := read(t, s, "2026-11-23")
	want := []dayCounts{
		{reportKey{"2026-11-23", "a.example", 0}, []Counts{{Policy: sts, Successes: 2, Failures: []FailureCount{{*failure, 2}, {*other, 1}}}}},
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
		count(t, s, Result{"a.example", sts, nil, noon})
	}
	for range 3 {
		count(t, s, Result{"a.example", sts, failure, noon})
	}
	count(t, s, Result{"a.example", Policy{Type: PolicyNone}, nil, noon})
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
				start := cpuTime(b)
				var batch store.Batch
				for i, d := range domains { // a hundred deliveries share a commit under load
					batch.Set(fmt.Appendf(nil, "x%d", i), make([]byte, 200))
					if counting {
						tally.Count(&batch, Result{d, policy, bm.failure, noon})
					}
				}
				if err := s.Commit(b.Context(), &batch); err != nil {
					b.Fatal(err)
				}
				return cpuTime(b) - start
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

func cpuTime(t testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

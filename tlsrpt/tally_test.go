package tlsrpt

import (
	"encoding/json"
	"reflect"
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
	var b store.Batch
	for _, r := range results {
		Count(&b, r)
	}
	if err := s.Commit(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, s *store.Store, day, domain string) (out []DomainCounts) {
	t.Helper()
	if err := Read(s, day, domain, func(c DomainCounts) bool { out = append(out, c); return true }); err != nil {
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
	got := read(t, s, "2026-11-23", "")
	want := []DomainCounts{
		{Day: "2026-11-23", Domain: "a.example", Policies: []Counts{{Policy: sts, Successes: 2, Failures: []FailureCount{{*failure, 2}, {*other, 1}}}}},
		{Day: "2026-11-23", Domain: "b.example", Policies: []Counts{{Policy: Policy{Type: PolicyNone}, Successes: 1}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if next := read(t, s, "2026-11-24", "a.example"); len(next) != 1 || next[0].Policies[0].Successes != 1 {
		t.Errorf("the session after midnight: %+v", next)
	}
}

func TestAReportSaysWhatWasCounted(t *testing.T) {
	c := DomainCounts{Day: "2026-11-23", Domain: "a.example", Policies: []Counts{{
		Policy:    Policy{Type: PolicySTS, Strings: []string{"version: STSv1", "mode: enforce", "mx: *.a.example", "max_age: 86400"}, MXHosts: []string{"*.a.example"}},
		Successes: 5, Failures: []FailureCount{{Failure{Type: CertificateHostMismatch, SendingIP: "192.0.2.1", MXHost: "mx.a.example", MXHelo: "mx", MXIP: "2001:db8::1", Code: "name"}, 3}},
	}, {Policy: Policy{Type: PolicyNone}, Successes: 1}}}
	r, err := Sender{Organization: "Example", Contact: "postmaster@example.com"}.NewReport(c, "id-1")
	if err != nil {
		t.Fatal(err)
	}
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

func BenchmarkCount(b *testing.B) {
	s := openStore(b, b.TempDir())
	r := Result{"a.example", Policy{Type: PolicySTS, Strings: []string{"version: STSv1"}}, nil, noon}
	for b.Loop() {
		var batch store.Batch
		for range 100 { // a hundred deliveries share a commit under load
			Count(&batch, r)
		}
		if err := s.Commit(b.Context(), &batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100, "ns/count")
}

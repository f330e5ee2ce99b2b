package tlsrpt

import (
	"bytes"
	"log/slog"
	"reflect"
	"testing"

	mox "github.com/mjl-/mox/tlsrpt"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// Reports are read as they were meant by another implementation, mox, and by a
// reader as strict as the RFC; as files and out of the mails.
func TestOthersReadTheReports(t *testing.T) {
	sts := Policy{Type: PolicySTS, Strings: []string{"version: STSv1", "mode: testing", "mx: *.a.example", "mx: b.example", "max_age: 86400"}, MXHosts: []string{"*.a.example", "b.example"}}
	tlsa := Policy{Type: PolicyTLSA, Strings: []string{"3 1 1 abcd", "2 0 1 1234"}, MXHosts: []string{"mx.a.example"}}
	none := Policy{Type: PolicyNone}
	everywhere := []Result{{Policy: sts}, {Policy: sts}, {Policy: tlsa}, {Policy: none}}
	for i, kind := range []ResultType{StartTLSNotSupported, CertificateHostMismatch, CertificateNotTrusted, CertificateExpired, ValidationFailure} {
		f := &Failure{Type: kind, SendingIP: "192.0.2.1", MXHost: "mx.a.example", MXHelo: "mx", MXIP: "2001:db8::1", Code: "a-code"}
		for range i + 1 {
			everywhere = append(everywhere, Result{Policy: sts, Failure: f}, Result{Policy: none, Failure: f})
		}
	}
	for _, tt := range []struct {
		name    string
		results []Result
	}{
		{"successes by STS", []Result{{Policy: sts}, {Policy: sts}}},
		{"successes by DANE", []Result{{Policy: tlsa}}},
		{"no policy found", []Result{{Policy: none}}},
		{"all policies and negotiation failures", everywhere},
		{"failures of DANE", []Result{
			{Policy: tlsa, Failure: &Failure{Type: TLSAInvalid, SendingIP: "192.0.2.1", MXHost: "mx.a.example", MXIP: "192.0.2.2", Code: "no-usable-tlsa"}},
			{Policy: Policy{Type: PolicyTLSA, MXHosts: []string{"mx.a.example"}}, Failure: &Failure{Type: DNSSECInvalid, MXHost: "mx.a.example", Code: "tlsa-lookup-failed"}},
			{Policy: Policy{Type: PolicyTLSA, MXHosts: []string{"mx.a.example"}}, Failure: &Failure{Type: DANERequired, MXHost: "mx.a.example"}},
		}},
		{"policies that could not be had", []Result{
			{Policy: Policy{Type: PolicySTS}, Failure: &Failure{Type: STSPolicyFetchError, Code: "read tcp 192.0.2.2:443: connection reset"}},
			{Policy: Policy{Type: PolicySTS}, Failure: &Failure{Type: STSWebPKIInvalid}},
			{Policy: Policy{Type: PolicySTS, Strings: []string{"version: STSv1", "mode: \x00\xffmaybe\u2028", `mx: "<&>\`}}, Failure: &Failure{Type: STSPolicyInvalid, Code: `the mode "maybe" is unknown`}},
			{Policy: sts},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := newHarness(t)
			h := o.receiver("r.example")
			o.publish("a.example", "v=TLSRPTv1; rua=https://r.example/,mailto:x@r.example")
			for _, r := range tt.results {
				r.Domain, r.At = "a.example", noon
				o.count(r)
			}
			var want *Report
			if err := o.Preview(t.Context(), "2026-11-23", "a.example", func(r *Report) bool { want = r; return true }); err != nil {
				t.Fatal(err)
			}
			o.at(nextDay)
			posts := h.Posts()
			if len(posts) != 1 || len(o.queued) != 1 {
				t.Fatalf("%d posts, %d mails", len(posts), len(o.queued))
			}
			if _, err := testnet.ReadTLSReport(posts[0].Report); err != nil {
				t.Errorf("the strict reader: %v in %s", err, posts[0].Report)
			}
			posted, err := mox.Parse(bytes.NewReader(posts[0].Report))
			if err != nil {
				t.Fatal(err)
			}
			mailed, err := mox.ParseMessage(slog.New(slog.DiscardHandler), bytes.NewReader(o.queued[0].Body))
			if err != nil {
				t.Fatal(err)
			}
			for how, m := range map[string]*mox.ReportJSON{"posted": posted, "mailed": mailed} {
				if got := ours(m); !reflect.DeepEqual(got, want) {
					t.Errorf("%s: mox reads\n%+v\nmeant was\n%+v", how, got, want)
				}
			}
		})
	}
}

// ours is what mox has read.
func ours(m *mox.ReportJSON) *Report {
	r := &Report{OrganizationName: m.OrganizationName, DateRange: DateRange{m.DateRange.Start, m.DateRange.End}, ContactInfo: m.ContactInfo, ReportID: m.ReportID}
	for _, p := range m.Policies {
		q := ReportPolicy{
			Policy:  ReportedPolicy{PolicyType(p.Policy.Type), p.Policy.String, p.Policy.Domain, p.Policy.MXHost},
			Summary: Summary{p.Summary.TotalSuccessfulSessionCount, p.Summary.TotalFailureSessionCount},
		}
		for _, f := range p.FailureDetails {
			q.Details = append(q.Details, FailureDetail{
				ResultType(f.ResultType), f.SendingMTAIP, f.ReceivingMXHostname, f.ReceivingMXHelo, f.ReceivingIP, f.FailedSessionCount, f.FailureReasonCode,
			})
		}
		r.Policies = append(r.Policies, q)
	}
	return r
}

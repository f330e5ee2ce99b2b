package relay

import (
	"errors"
	"net"
	"reflect"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/relay/delivery"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/sts"
	"github.com/stsrelay/stsrelay/sts/dane"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

func TestWhatASessionCountsFor(t *testing.T) {
	policy := &sts.Policy{Mode: sts.ModeTesting, MX: []string{"*.a.example"}, MaxAge: 24 * time.Hour}
	tlsa := dane.NewRRset("mx.alias.example", []dane.Record{{Usage: 3, Selector: 1, MatchingType: 1, Data: []byte{0xab, 0xcd}}})
	expired := &security.Shortfall{Type: tlsrpt.CertificateExpired, Code: "expired"}
	mismatch := &security.Shortfall{Type: tlsrpt.ValidationFailure, Code: "mta-sts-mx-mismatch"}
	failed := &sts.FetchError{Type: sts.PolicyInvalid, Domain: "a.example", Text: "version: STSv1\r\nmode: maybe\r\n", Err: errors.New("the mode is unknown")}
	stsPolicy := tlsrpt.Policy{Type: tlsrpt.PolicySTS, Strings: []string{"version: STSv1", "mode: testing", "mx: *.a.example", "max_age: 86400"}, MXHosts: []string{"*.a.example"}}
	fetchPolicy := tlsrpt.Policy{Type: tlsrpt.PolicySTS, Strings: []string{"version: STSv1", "mode: maybe"}}
	fetchFailure := &tlsrpt.Failure{Type: tlsrpt.STSPolicyInvalid, Code: "the mode is unknown"}
	whole := &tlsrpt.Failure{Type: tlsrpt.CertificateExpired, Code: "expired", SendingIP: "192.0.2.1", MXHost: "mx.a.example", MXHelo: "mx", MXIP: "2001:db8::1"}
	for _, tt := range []struct {
		name     string
		verdicts []security.Verdict
		fetch    *sts.FetchError
		skipped  bool
		want     []tlsrpt.Result
	}{
		{"no policy", []security.Verdict{{Source: security.Opportunistic}}, nil, false, []tlsrpt.Result{{Policy: tlsrpt.Policy{Type: tlsrpt.PolicyNone}}}},
		{"DANE holds, MTA-STS does not", []security.Verdict{{Source: security.DANE}, {Source: security.MTASTS, Shortfall: expired}}, nil, false, []tlsrpt.Result{
			{Policy: tlsrpt.Policy{Type: tlsrpt.PolicyTLSA, Strings: []string{"3 1 1 abcd"}, MXHosts: []string{"mx.a.example"}}},
			{Policy: stsPolicy, Failure: whole, Again: true},
		}},
		{"neither holds", []security.Verdict{{Source: security.DANE, Shortfall: expired}, {Source: security.MTASTS, Shortfall: expired}}, nil, false, []tlsrpt.Result{
			{Policy: tlsrpt.Policy{Type: tlsrpt.PolicyTLSA, Strings: []string{"3 1 1 abcd"}, MXHosts: []string{"mx.a.example"}}, Failure: whole},
			{Policy: stsPolicy, Failure: whole, Again: true, Failed: true},
		}},
		{"a host is passed over", []security.Verdict{{Source: security.MTASTS, Shortfall: mismatch}}, nil, true, []tlsrpt.Result{
			{Policy: stsPolicy, Failure: &tlsrpt.Failure{Type: tlsrpt.ValidationFailure, Code: "mta-sts-mx-mismatch", MXHost: "mx.a.example"}},
		}},
		{"what operator and sender ask is not told", []security.Verdict{{Source: security.MTASTS}, {Source: security.Rule, Shortfall: expired}, {Source: security.RequireTLS, Shortfall: expired}}, nil, false, []tlsrpt.Result{{Policy: stsPolicy}}},
		{"a new policy is malformed, an older one is in force", []security.Verdict{{Source: security.MTASTS}}, failed, false, []tlsrpt.Result{{Policy: fetchPolicy, Failure: fetchFailure}, {Policy: stsPolicy, Again: true}}},
		{"a policy is malformed, there is no older one", []security.Verdict{{Source: security.Opportunistic}}, failed, false, []tlsrpt.Result{{Policy: fetchPolicy, Failure: fetchFailure}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := &delivery.Event{At: time.Unix(1, 0)}
			s := &delivery.Session{
				Requirement: &security.Requirement{Domain: "a.example", Host: "mx.a.example", Policy: policy, TLSA: tlsa},
				Verdicts:    tt.verdicts, PolicyFailure: tt.fetch,
			}
			if !tt.skipped {
				s.LocalIP, s.RemoteIP, s.Helo = "192.0.2.1", "2001:db8::1", "mx"
			}
			for i := range tt.want {
				tt.want[i].Domain, tt.want[i].At = "a.example", e.At
			}
			if got := results(e, s); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func TestOurOwnAddressIsNoReason(t *testing.T) {
	err := &net.OpError{Op: "read", Net: "tcp", Source: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 40123}, Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 443}, Err: errors.New("connection reset")}
	if got := reasonCode(err); got != "read tcp 192.0.2.2:443: connection reset" {
		t.Error(got)
	}
}

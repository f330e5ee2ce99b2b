package relay_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
)

// whole tells all of a report: a line for each policy, with its lines and hosts,
// and below it one for each kind of failure, sorted.
func whole(r *testnet.TLSReport, mx *testnet.Host) string {
	var blocks []string
	for _, p := range r.Policies {
		block := fmt.Sprintf("%s %q %q +%d -%d", *p.Policy.Type, p.Policy.Strings, p.Policy.MXHosts, *p.Summary.Successful, *p.Summary.Failed)
		var details []string
		for _, d := range p.Details {
			line := fmt.Sprintf("\n  %d %s", *d.Count, *d.Type)
			for _, f := range []struct {
				name  string
				value *string
			}{{"code", d.Code}, {"host", d.MXHost}, {"helo", d.MXHelo}, {"ip", d.MXIP}, {"from", d.SendingIP}} {
				if f.value != nil {
					line += fmt.Sprintf(" %s=%s", f.name, strings.ReplaceAll(*f.value, mx.IP, "MX"))
				}
			}
			details = append(details, line)
		}
		slices.Sort(details)
		blocks = append(blocks, block+strings.Join(details, ""))
	}
	slices.Sort(blocks)
	return strings.Join(blocks, "\n")
}

// What a session failed by is told as RFC 8460, 4.3 has it, with all that is
// known of the session, and nothing where there was none.
func TestEveryKindOfFailure(t *testing.T) {
	const (
		bad     = "3 1 1 0000000000000000000000000000000000000000000000000000000000000000"
		session = " host=mx1.a.example helo=mx1.a.example ip=MX from=127.0.0.1"
		sts     = `sts ["version: STSv1" "mode: testing" "mx: mx1.a.example" "max_age: 86400"] ["mx1.a.example"]`
	)
	testing1 := e2e.PolicyFor("testing", "mx1.a.example")
	cert := func(c testnet.CertSpec) testnet.Faults { return testnet.Faults{Cert: c} }
	for _, tt := range []struct {
		name   string
		faults testnet.Faults
		policy testnet.Policy
		set    func(w *e2e.World, mx *testnet.Host)
		toml   string
		want   string
	}{
		{"STARTTLS is not offered", testnet.Faults{NoStartTLS: true}, testing1, nil, "", sts + " +0 -1\n  1 starttls-not-supported code=not-offered" + session},
		{"STARTTLS is refused with 4xx", testnet.Faults{StartTLSReply: "454 4.7.0 not now"}, testing1, nil, "", sts + " +0 -1\n  1 starttls-not-supported code=refused" + session},
		{"STARTTLS is refused with 5xx", testnet.Faults{StartTLSReply: "554 5.7.0 no"}, testing1, nil, "", sts + " +0 -1\n  1 starttls-not-supported code=refused" + session},
		{"another name", cert(testnet.CertSpec{Names: []string{"other.example"}}), testing1, nil, "", sts + " +0 -1\n  1 certificate-host-mismatch code=name" + session},
		{"the name in the Common Name only", cert(testnet.CertSpec{Names: []string{"mx1.a.example"}, CNOnly: true}), testing1, nil, "", sts + " +0 -1\n  1 certificate-host-mismatch code=name" + session},
		{"expired", cert(testnet.CertSpec{Expired: true}), testing1, nil, "", sts + " +0 -1\n  1 certificate-expired code=expired" + session},
		{"not yet valid", cert(testnet.CertSpec{NotYetValid: true}), testing1, nil, "", sts + " +0 -1\n  1 certificate-expired code=not-yet-valid" + session},
		{"expired, self-signed and another name: the first one counts", cert(testnet.CertSpec{Expired: true, SelfSigned: true, Names: []string{"other.example"}}), testing1, nil, "", sts + " +0 -1\n  1 certificate-expired code=expired" + session},
		{"self-signed", cert(testnet.CertSpec{SelfSigned: true}), testing1, nil, "", sts + " +0 -1\n  1 certificate-not-trusted code=self-signed" + session},
		{"an unknown authority", cert(testnet.CertSpec{UnknownCA: true}), testing1, nil, "", sts + " +0 -1\n  1 certificate-not-trusted code=unknown-authority" + session},
		{"a chain that is not whole", cert(testnet.CertSpec{Intermediate: true, NoChain: true}), testing1, nil, "", sts + " +0 -1\n  1 certificate-not-trusted code=unknown-authority" + session},
		{"a handshake that is dropped", testnet.Faults{Drop: "handshake"}, testing1, nil, "", sts + " +0 -1\n  1 validation-failure code=handshake-failed: the host closed the connection" + session},
		{"an old TLS", testnet.Faults{TLS11: true}, testing1, nil, "", sts + " +0 -1\n  1 validation-failure code=handshake-failed: the host sent the alert protocol version not supported" + session},
		{"a host that the policy does not name, mode testing", testnet.Faults{}, e2e.PolicyFor("testing", "mx2.a.example"), nil, "", strings.ReplaceAll(sts, "mx1", "mx2") + " +0 -1\n  1 validation-failure code=mta-sts-mx-mismatch" + session},
		{"a host that the policy does not name, mode enforce", testnet.Faults{}, e2e.PolicyFor("enforce", "mx2.a.example"), func(w *e2e.World, mx *testnet.Host) {
			w.Domain("a.example", testnet.Domain{MX: []string{mx.Name, "mx3.a.example", "mx2.a.example"}})
			w.Host("mx2.a.example")
		}, "", strings.ReplaceAll(strings.ReplaceAll(sts, "mx1", "mx2"), "testing", "enforce") +
			" +1 -2\n  1 validation-failure code=mta-sts-mx-mismatch host=mx1.a.example\n  1 validation-failure code=mta-sts-mx-mismatch host=mx3.a.example"},
		{"TLSA records that do not fit", testnet.Faults{}, testnet.Policy{}, func(w *e2e.World, mx *testnet.Host) { w.SecureHost(mx, bad) }, "",
			`tlsa ["` + bad + `"] ["mx1.a.example"] +0 -1` + "\n  1 validation-failure code=tlsa-mismatch" + session},
		{"TLSA records and no STARTTLS", testnet.Faults{NoStartTLS: true}, testnet.Policy{}, func(w *e2e.World, mx *testnet.Host) { w.SecureHost(mx, bad) }, "",
			`tlsa ["` + bad + `"] ["mx1.a.example"] +0 -1` + "\n  1 starttls-not-supported code=not-offered" + session},
		{"TLSA records of which none can be used", testnet.Faults{}, testnet.Policy{}, func(w *e2e.World, mx *testnet.Host) { w.SecureHost(mx, "1"+bad[1:]) }, "",
			`tlsa ["1` + bad[1:] + `"] ["mx1.a.example"] +0 -1` + "\n  1 tlsa-invalid code=no-usable-tlsa" + session},
		{"a bogus answer about TLSA records", testnet.Faults{}, testnet.Policy{}, func(w *e2e.World, mx *testnet.Host) {
			w.SecureHost(mx)
			w.DNS.Fail("_25._tcp."+mx.Name, "TLSA", testnet.Bogus)
		}, "", `tlsa [] ["mx1.a.example"] +0 -1` + "\n  1 dnssec-invalid code=tlsa-lookup-failed host=mx1.a.example"},
		{"the operator wants DANE, and there is none", testnet.Faults{}, testnet.Policy{}, nil, "[[domain]]\nname = \"a.example\"\ntls = \"dane\"\n",
			`tlsa [] ["mx1.a.example"] +0 -1` + "\n  1 dane-required code=no-usable-tlsa host=mx1.a.example"},
		{"a certificate of the policy host that does not hold", testnet.Faults{}, testing1, func(w *e2e.World, _ *testnet.Host) {
			w.SetPolicyFaults("a.example", testnet.PolicyFaults{Cert: testnet.CertSpec{Expired: true}})
		}, "", "sts [] [] +0 -1\n  1 sts-webpki-invalid code="},
		{"a policy host that is down", testnet.Faults{}, testing1, func(w *e2e.World, _ *testnet.Host) {
			w.SetPolicyFaults("a.example", testnet.PolicyFaults{Down: true})
		}, "", "sts [] [] +0 -1\n  1 sts-policy-fetch-error code="},
		{"a policy that is malformed is told as it came", testnet.Faults{}, testing1, func(w *e2e.World, _ *testnet.Host) {
			w.SetPolicyFaults("a.example", testnet.PolicyFaults{Body: "version: STSv1\r\nmode: maybe\r\n\r\nx"})
		}, "", `sts ["version: STSv1" "mode: maybe" "" "x"] [] +0 -1` + "\n  1 sts-policy-invalid code="},
		{"mode none is no policy", testnet.Faults{}, testnet.Policy{ID: "1", Mode: "none", MaxAge: 86400}, nil, "", "no-policy-found [] [] +1 -0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := e2e.NewWithKeys(t)
			if tt.toml != "" {
				w.Stop()
				w.Start(tt.toml)
			}
			h, mx := w.ReportHost("reports.example"), w.Host("mx1.a.example")
			w.SetFaults(mx, tt.faults)
			w.Domain("a.example", testnet.Domain{MX: []string{mx.Name}, TLSRPT: "https://reports.example/", Policy: tt.policy})
			if tt.set != nil {
				tt.set(w, mx)
			}
			w.Attempted(w.Send("anna@sender.example", "b@a.example"))
			w.Clock.Tomorrow()
			got := whole(w.Posted(h, 1), mx)
			if strings.HasSuffix(tt.want, "code=") { // and then words
				got = got[:min(len(got), len(tt.want))]
			}
			if got != tt.want {
				t.Errorf("got\n%s\nwant\n%s\n%s", got, tt.want, h.Posts()[0].Report)
			}
		})
	}
}

// A session that does not get as far as STARTTLS says nothing about TLS.
func TestHostsThatAreNotReachedAreNotCounted(t *testing.T) {
	for _, tt := range []struct {
		name   string
		faults testnet.Faults
	}{
		{"refused connections", testnet.Faults{Down: true}},
		{"a greeting of 421", testnet.Faults{Replies: map[string]string{"greeting": "421 4.3.2 busy"}}},
		{"a greeting of 554", testnet.Faults{Replies: map[string]string{"greeting": "554 5.7.1 go away"}}},
		{"a connection that ends before the greeting", testnet.Faults{Drop: "greeting"}},
		{"EHLO is answered 421", testnet.Faults{Replies: map[string]string{"ehlo": "421 4.3.2 busy"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := e2e.NewWithKeys(t)
			mx1, mx2 := w.Host("mx1.a.example"), w.Host("mx2.a.example")
			w.SetFaults(mx1, tt.faults)
			w.Domain("a.example", testnet.Domain{MX: []string{mx1.Name, mx2.Name}, Policy: e2e.PolicyFor("enforce", "*.a.example")})
			w.Deliver("b@a.example")
			if r := w.ReportOn(w.Clock.Day(), "a.example"); len(r.Policies) != 1 || r.Policies[0].Summary.Successful != 1 || r.Policies[0].Summary.Failed != 0 {
				t.Errorf("%+v", r)
			}
		})
	}
}

// An older policy stays in force when the new one cannot be had; both are told.
func TestAFailedFetchBesideAnOlderPolicy(t *testing.T) {
	w := e2e.NewWithKeys(t)
	h, mx := w.ReportHost("reports.example"), w.Host("mx1.a.example")
	d := testnet.Domain{MX: []string{mx.Name}, TLSRPT: "https://reports.example/", Policy: e2e.PolicyFor("enforce", mx.Name)}
	w.Domain("a.example", d)
	w.Deliver("b@a.example")
	w.Stop() // the DNS cache forgets the old id
	d.Policy.ID = "2"
	w.Domain("a.example", d)
	w.SetPolicyFaults("a.example", testnet.PolicyFaults{Status: 500})
	w.Start("")
	w.Deliver("b@a.example")
	w.Clock.Tomorrow()
	const want = `sts ["version: STSv1" "mode: enforce" "mx: mx1.a.example" "max_age: 86400"] ["mx1.a.example"] +2 -0
sts [] [] +0 -1
  1 sts-policy-fetch-error code=`
	if got := whole(w.Posted(h, 1), mx); !strings.HasPrefix(got, want) {
		t.Errorf("got\n%s", got)
	}
}

// What was counted by the old policy stays with it.
func TestAPolicyThatChangesDuringTheDay(t *testing.T) {
	w := e2e.NewWithKeys(t)
	h, mx := w.ReportHost("reports.example"), w.Host("mx1.a.example")
	w.SetFaults(mx, testnet.Faults{Cert: testnet.CertSpec{Expired: true}})
	d := testnet.Domain{MX: []string{mx.Name}, TLSRPT: "https://reports.example/", Policy: e2e.PolicyFor("testing", mx.Name)}
	w.Domain("a.example", d)
	w.Deliver("b@a.example")
	w.Stop() // the DNS cache forgets the old id
	w.SetFaults(mx, testnet.Faults{})
	d.Policy.ID, d.Policy.Mode = "2", "enforce"
	w.Domain("a.example", d)
	w.Start("")
	w.Deliver("b@a.example")
	w.Clock.Tomorrow()
	const want = `sts ["version: STSv1" "mode: enforce" "mx: mx1.a.example" "max_age: 86400"] ["mx1.a.example"] +1 -0
sts ["version: STSv1" "mode: testing" "mx: mx1.a.example" "max_age: 86400"] ["mx1.a.example"] +0 -1
  1 certificate-expired code=expired host=mx1.a.example helo=mx1.a.example ip=MX from=127.0.0.1`
	if got := whole(w.Posted(h, 1), mx); got != want {
		t.Errorf("got\n%s", got)
	}
}

package relay_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

func TestHostsAreTriedInOrderAndOnesThatFailThePolicyArePassedOver(t *testing.T) {
	w := e2e.New(t, "")
	bad, other, good := w.Host("mx1.a.example"), w.Host("mx.other.example"), w.Host("mx2.a.example")
	w.SetFaults(bad, testnet.Faults{Cert: testnet.CertSpec{Expired: true}})
	w.Domain("a.example", testnet.Domain{MX: []string{bad.Name, other.Name, good.Name}, Policy: e2e.PolicyFor("enforce", "*.a.example")})
	w.Send("anna@sender.example", "kurt@a.example")
	w.Received(good, 1)
	if c := bad.Counts(); c.Connections != 1 || c.Mails != 0 {
		t.Errorf("bad host: %+v", c)
	}
	if c := other.Counts(); c.Connections != 0 {
		t.Errorf("the host that the policy does not name was contacted: %+v", c)
	}
	w.WaitUntilEmpty()
	report := w.Report("a.example")
	if p := report.Policies[0]; p.Summary.Successful != 1 || p.Summary.Failed != 2 {
		t.Errorf("counted: %+v", report)
	}
	for _, d := range report.Policies[0].Details {
		if d.ReceivingMXHostname == other.Name && (d.ResultType != tlsrpt.ValidationFailure || d.FailureReasonCode != "mta-sts-mx-mismatch" || d.ReceivingIP != "") {
			t.Errorf("passed over: %+v", d)
		}
	}
}

// Two domains share a host; the one that enforces never rides what the other
// may use.
func TestASessionOfALaxDomainIsNotUsedForAStrictOne(t *testing.T) {
	w := e2e.New(t, "")
	h := w.Host("mx.shared.example")
	w.SetFaults(h, testnet.Faults{NoStartTLS: true})
	w.Domain("lax.example", testnet.Domain{MX: []string{h.Name}})
	w.Domain("strict.example", testnet.Domain{MX: []string{h.Name}, Policy: e2e.PolicyFor("enforce", h.Name)})
	w.Send("anna@sender.example", "kurt@lax.example")
	w.Received(h, 1)
	w.WaitUntilEmpty() // its session is idle now
	_, gone := w.Attempted(w.Send("anna@sender.example", "kurt@strict.example"))
	if c := h.Counts(); gone || c.Mails != 1 {
		t.Errorf("gone %t, %+v", gone, c)
	}
}

func TestAVerifiedSessionServesBothDomainsAndIsCountedForEach(t *testing.T) {
	w := e2e.New(t, "")
	h := w.Host("mx.shared.example")
	for _, d := range []string{"a.example", "b.example"} {
		w.Domain(d, testnet.Domain{MX: []string{h.Name}, Policy: e2e.PolicyFor("enforce", h.Name)})
	}
	for i, to := range []string{"x@a.example", "x@b.example", "y@a.example", "z@a.example"} {
		w.Send("anna@sender.example", to)
		w.Received(h, i+1)
		w.WaitUntilEmpty()
	}
	if c := h.Counts(); c.Connections != 1 {
		t.Errorf("%d connections", c.Connections)
	}
	for _, d := range []string{"a.example", "b.example"} {
		if s := w.Report(d).Policies[0].Summary; s.Successful != 1 || s.Failed != 0 {
			t.Errorf("%s: %+v", d, s)
		}
	}
}

func TestAPolicyThatChangedWithoutItsIDIsFetchedBeforeMailWaits(t *testing.T) {
	w := e2e.New(t, "")
	old, fresh := w.Host("mx1.a.example"), w.Host("mx2.a.example")
	w.Domain("a.example", testnet.Domain{MX: []string{old.Name}, Policy: e2e.PolicyFor("enforce", old.Name)})
	w.Send("anna@sender.example", "kurt@a.example")
	w.Received(old, 1)
	w.WaitUntilEmpty()
	w.Stop()
	w.Domain("a.example", testnet.Domain{MX: []string{fresh.Name}})
	if err := w.SetPolicy("a.example", e2e.PolicyFor("enforce", fresh.Name)); err != nil { // the id stays 1
		t.Fatal(err)
	}
	w.Start("")
	w.Send("anna@sender.example", "kurt@a.example")
	w.Received(fresh, 1)
}

func TestThePolicyCacheOutlivesTheProcessAndThePolicyHost(t *testing.T) {
	w := e2e.New(t, "")
	h := w.Host("mx.a.example")
	w.Domain("a.example", testnet.Domain{MX: []string{h.Name}, Policy: e2e.PolicyFor("enforce", h.Name)})
	w.Send("anna@sender.example", "kurt@a.example")
	w.Received(h, 1)
	w.Stop()
	site, err := w.PolicyHost("a.example")
	if err != nil {
		t.Fatal(err)
	}
	if err := site.Set(testnet.PolicyFaults{Down: true}); err != nil {
		t.Fatal(err)
	}
	w.DNS.Remove("_mta-sts.a.example", "TXT")
	w.SetFaults(h, testnet.Faults{NoStartTLS: true})
	w.Start("")
	m, gone := w.Attempted(w.Send("anna@sender.example", "kurt@a.example"))
	if gone || !strings.Contains(m.States[0].LastError, "MTA-STS, mode enforce") {
		t.Errorf("gone %t, %+v", gone, m.States)
	}
}

func TestAFailedFirstFetchIsCountedAndMailGoesOn(t *testing.T) {
	w := e2e.New(t, "")
	h := w.Host("mx.a.example")
	w.Domain("a.example", testnet.Domain{MX: []string{h.Name}, Policy: e2e.PolicyFor("enforce", h.Name)})
	site, err := w.PolicyHost("a.example")
	if err != nil {
		t.Fatal(err)
	}
	if err := site.Set(testnet.PolicyFaults{Cert: testnet.CertSpec{Expired: true}}); err != nil {
		t.Fatal(err)
	}
	w.Send("anna@sender.example", "kurt@a.example")
	w.Received(h, 1)
	w.WaitUntilEmpty()
	found := false
	for _, p := range w.Report("a.example").Policies {
		for _, d := range p.Details {
			found = found || d.ResultType == tlsrpt.STSWebPKIInvalid && p.Policy.Type == tlsrpt.PolicySTS
		}
	}
	if !found {
		t.Errorf("not counted: %+v", w.Report("a.example"))
	}
}

func TestWhileNobodyKnowsWhetherThereIsAPolicyMailWaitsForTwoAttempts(t *testing.T) {
	w := e2e.New(t, e2e.RetrySoon)
	h := w.Host("mx.a.example")
	w.Domain("a.example", testnet.Domain{MX: []string{h.Name}})
	w.DNS.Fail("_mta-sts.a.example", "TXT", testnet.ServFail)
	w.DNS.Fail("mta-sts.a.example", "A", testnet.ServFail)
	m, gone := w.Attempted(w.Send("anna@sender.example", "kurt@a.example"))
	if gone || m.States[0].ReasonCode != "sts-fetch" {
		t.Fatalf("gone %t, %+v", gone, m.States)
	}
	w.Received(h, 1)
	// That is the domain's, not each message's.
	w.Edit(`retry = ["1s"]`, `retry = ["1h"]`)
	w.Reload()
	w.Deliver("two@a.example", "three@a.example")
}

// Where a domain has no record since it does not exist, or takes no mail, a refresh of its
// policy says that: the name is mostly mistyped.
func TestARefreshOfAPolicySaysThatThereIsNoSuchDomain(t *testing.T) {
	w := e2e.New(t, actingConfig(t))
	h := w.Host("mx.plain.example")
	w.Domain("plain.example", testnet.Domain{MX: []string{h.Name}})
	for _, record := range []string{`nohost.example. 60 IN TXT "x"`, "null.example. 60 IN MX 0 .", "nowhere.example. 60 IN MX 10 gone.example."} {
		if err := w.DNS.Add(record); err != nil {
			t.Fatal(err)
		}
	}
	for domain, want := range map[string]string{
		"plain.example":   "no MTA-STS record",
		"nosuch.example":  "no MTA-STS record: the domain nosuch.example does not exist",
		"nohost.example":  "no MTA-STS record: nohost.example has no mail host: there is neither an MX record nor an address",
		"null.example":    "no MTA-STS record: the domain null.example takes no mail: it has a null MX",
		"nowhere.example": "no MTA-STS record: nowhere.example has no mail host: gone.example does not exist",
	} {
		if err := w.Admin().Do(t.Context(), http.MethodPost, "/v1/policies/"+domain+"/refresh", nil, nil); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", domain, err, want)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+w.Relay.HTTPAddr().String()+"/policies/refresh", strings.NewReader("domain=nosuch.example"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept-Language", "de")
	if status, _, body := fetch(w, acting(w), req); status != http.StatusBadGateway || !strings.Contains(body, "<p>kein MTA-STS-Record: die Domain nosuch.example existiert nicht</p>") {
		t.Errorf("%d %s", status, body)
	}
}

package relay_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// retrySoon lets a test see a second attempt.
const retrySoon = "retry = [\"1s\"]\n"

func (w *world) wait(h *testnet.Host, n int) []testnet.Message {
	w.t.Helper()
	got, err := h.Wait(w.context(), n)
	if err != nil {
		w.t.Fatal(err)
	}
	return got
}

// empty waits until the queue is empty and the results are written: they wait
// some milliseconds for others to share a commit with.
func (w *world) empty() {
	w.t.Helper()
	w.waitFor("an empty queue", func(q *queue.Queue) bool { return q.Counts().Messages == 0 })
	if err := w.relay.Queue().Add(nil, nil); err != nil {
		w.t.Error(err)
	}
}

func (w *world) set(h *testnet.Host, f testnet.Faults) {
	w.t.Helper()
	if err := h.Set(f); err != nil {
		w.t.Fatal(err)
	}
}

func TestTheMessageArrivesAsItWasSentBelowOneReceivedLine(t *testing.T) {
	w := newWorld(t, "")
	h := w.host("mx.a.example")
	w.domain("a.example", testnet.Domain{MX: []string{h.Name}, Policy: policyFor("enforce", h.Name)})
	var body strings.Builder
	body.WriteString("From: anna@sender.example\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@sender.example>\r\n\r\n")
	for i := range 20_000 { // several chunks of the store
		fmt.Fprintf(&body, ".line %d\r\n..\r\n", i)
	}
	id, err := sendMail(w.addr, "anna@sender.example", body.String(), "kurt@a.example", `"odd name"@a.example`)
	if err != nil {
		t.Fatal(err)
	}
	m := w.wait(h, 1)[0]
	head, rest, _ := bytes.Cut(m.Data, []byte("From: "))
	if string(rest) != strings.TrimPrefix(body.String(), "From: ") {
		t.Errorf("the content has changed: %d octets instead of %d", len(rest), body.Len()-6)
	}
	if got := string(head); strings.Count(got, "Received: ") != 1 || !strings.Contains(got, "by relay.test.example with ESMTP id "+id) || strings.Contains(got, "for <") {
		t.Errorf("trace: %q", got)
	}
	if got := strings.Join(m.Recipients, " "); got != `kurt@a.example "odd name"@a.example` {
		t.Errorf("recipients: %s", got)
	}
	if m.Hello != "relay.test.example" || !m.TLS {
		t.Errorf("EHLO %q, TLS %t", m.Hello, m.TLS)
	}
}

func TestHostsAreTriedInOrderAndOnesThatFailThePolicyArePassedOver(t *testing.T) {
	w := newWorld(t, "")
	bad, other, good := w.host("mx1.a.example"), w.host("mx.other.example"), w.host("mx2.a.example")
	w.set(bad, testnet.Faults{Cert: testnet.CertSpec{Expired: true}})
	w.domain("a.example", testnet.Domain{MX: []string{bad.Name, other.Name, good.Name}, Policy: policyFor("enforce", "*.a.example")})
	w.send("anna@sender.example", "kurt@a.example")
	w.wait(good, 1)
	if c := bad.Counts(); c.Connections != 1 || c.Mails != 0 {
		t.Errorf("bad host: %+v", c)
	}
	if c := other.Counts(); c.Connections != 0 {
		t.Errorf("the host that the policy does not name was contacted: %+v", c)
	}
	w.empty()
	report := w.report("a.example")
	if p := report.Policies[0]; p.Summary.Successful != 1 || p.Summary.Failed != 2 {
		t.Errorf("counted: %+v", report)
	}
	for _, d := range report.Policies[0].Details {
		if d.ReceivingMXHostname == other.Name && (d.ResultType != tlsrpt.ValidationFailure || d.FailureReasonCode != "mta-sts-mx-mismatch" || d.ReceivingIP != "") {
			t.Errorf("passed over: %+v", d)
		}
	}
}

// report is the report of a domain as it stands.
func (w *world) report(domain string) (out *tlsrpt.Report) {
	w.t.Helper()
	err := w.relay.Reports(w.t.Context(), time.Now().UTC().Format(tlsrpt.DayFormat), func(r *tlsrpt.Report) bool {
		if r.Policies[0].Policy.Domain == domain {
			out = r
		}
		return true
	})
	if err != nil || out == nil {
		w.t.Fatalf("no report of %s: %v", domain, err)
	}
	return out
}

func TestEveryRecipientHasItsOwnResult(t *testing.T) {
	w := newWorld(t, retrySoon)
	h, back := w.host("mx.a.example"), w.host("mx.sender.example")
	w.domain("sender.example", testnet.Domain{MX: []string{back.Name}})
	w.set(h, testnet.Faults{Recipients: map[string]string{"gone@a.example": "550 5.1.1 no such user", "later@a.example": "450 4.2.1 greylisted"}})
	w.domain("a.example", testnet.Domain{MX: []string{h.Name}})
	id := w.send("anna@sender.example", "kurt@a.example", "gone@a.example", "later@a.example")
	w.wait(h, 1)
	m, gone := w.attempted(id)
	if gone {
		t.Fatal("the message has left the queue")
	}
	for i, want := range []queue.State{queue.Delivered, queue.Bounced, queue.Queued} {
		if s := m.States[i]; s.State != want || s.Attempts < 1 {
			t.Errorf("%s: %+v", m.Recipients[i].Address, s)
		}
	}
	notice := string(w.wait(back, 1)[0].Data)
	for _, want := range []string{"report-type=delivery-status", "Final-Recipient: rfc822; gone@a.example", "Action: failed", "Status: 5.1.1", "Diagnostic-Code: smtp; 550 5.1.1 no such user", "Remote-MTA: dns; mx.a.example", "Auto-Submitted: auto-replied", "Subject: test"} {
		if !strings.Contains(notice, want) {
			t.Errorf("the notice lacks %q:\n%s", want, notice)
		}
	}
	for _, not := range []string{"kurt@a.example", "later@a.example", "Hello"} {
		if strings.Contains(notice, not) {
			t.Errorf("the notice speaks of %q", not)
		}
	}
	w.set(h, testnet.Faults{})
	h.Cut()
	if got := w.wait(h, 2)[1]; strings.Join(got.Recipients, ",") != "later@a.example" {
		t.Errorf("second attempt: %v", got.Recipients)
	}
	w.empty()
}

func TestAPermanentFailureOfANullSenderIsOnlyLogged(t *testing.T) {
	w := newWorld(t, "")
	w.send("", "kurt@nowhere.example")
	w.empty()
}

func TestDomainsWithoutHosts(t *testing.T) {
	w := newWorld(t, "")
	back := w.host("mx.sender.example")
	w.domain("sender.example", testnet.Domain{MX: []string{back.Name}})
	if err := w.DNS.Add("null.example. 60 IN MX 0 ."); err != nil {
		t.Fatal(err)
	}
	for n, tt := range []struct{ to, status string }{{"a@null.example", "5.1.10"}, {"a@nowhere.example", "5.1.2"}} {
		w.send("anna@sender.example", tt.to)
		if got := string(w.wait(back, n+1)[n].Data); !strings.Contains(got, "Status: "+tt.status) {
			t.Errorf("%s: %s", tt.to, got)
		}
	}
	w.DNS.Fail("dead.example", "MX", testnet.ServFail)
	m, gone := w.attempted(w.send("anna@sender.example", "a@dead.example"))
	if gone || !strings.HasPrefix(m.States[0].LastError, "4.4.3 ") || m.States[0].ReasonCode != "dns" {
		t.Errorf("SERVFAIL: gone %t, %+v", gone, m.States)
	}
	implicit := w.host("implicit.example")
	w.send("anna@sender.example", "a@implicit.example")
	if m := w.wait(implicit, 1)[0]; m.SNI != "implicit.example" {
		t.Errorf("SNI %q", m.SNI)
	}
}

// An attacker who shuts a host must not make mail bounce: what is said before
// MAIL is about the host, and is temporary.
func TestRefusalsBeforeMailAreTemporaryAndTheNextHostIsTried(t *testing.T) {
	for name, f := range map[string]testnet.Faults{
		"down": {Down: true}, "554 greeting": {Replies: map[string]string{"greeting": "554 no mail here"}},
		"421 greeting": {Replies: map[string]string{"greeting": "421 busy"}}, "drop at the greeting": {Drop: "greeting"},
		"EHLO and HELO 550": {Replies: map[string]string{"ehlo": "550 go away", "helo": "550 go away"}}, "421 at MAIL": {Replies: map[string]string{"mail": "421 4.3.2 later"}},
		"drop at MAIL": {Drop: "mail"}, "421 at DATA": {Replies: map[string]string{"data": "421 4.3.2 later"}},
		"garbage for a greeting": {Replies: map[string]string{"greeting": "hello"}}, "endless greeting": {Replies: map[string]string{"greeting": "220 " + strings.Repeat("x", 100_000)}},
		"10,000 lines": {Replies: map[string]string{"greeting": strings.Repeat("220-x\n", 10_000) + "220 x"}}, "NULs": {Replies: map[string]string{"ehlo": "\x00\x00"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "")
			first, second := w.host("mx1.a.example"), w.host("mx2.a.example")
			w.set(first, f)
			w.domain("a.example", testnet.Domain{MX: []string{first.Name}})
			m, gone := w.attempted(w.send("anna@sender.example", "kurt@a.example"))
			if gone || !strings.HasPrefix(m.States[0].LastError, "4.") {
				t.Fatalf("alone: gone %t, %+v", gone, m.States)
			}
			w.domain("b.example", testnet.Domain{MX: []string{first.Name, second.Name}})
			w.send("anna@sender.example", "kurt@b.example")
			w.wait(second, 1)
		})
	}
}

func TestAnAnswerThatNeverComesIsADuplicateRatherThanALoss(t *testing.T) {
	w := newWorld(t, retrySoon)
	h := w.host("mx.a.example")
	w.set(h, testnet.Faults{Drop: "dot"})
	w.domain("a.example", testnet.Domain{MX: []string{h.Name}})
	m, gone := w.attempted(w.send("anna@sender.example", "kurt@a.example"))
	if gone || m.States[0].ReasonCode != "unknown-result" {
		t.Fatalf("gone %t, %+v", gone, m.States)
	}
	w.set(h, testnet.Faults{})
	if n := len(w.wait(h, 2)); n != 2 {
		t.Errorf("%d messages", n)
	}
}

// Two domains share a host; the one that enforces never rides what the other
// may use.
func TestASessionOfALaxDomainIsNotUsedForAStrictOne(t *testing.T) {
	w := newWorld(t, "")
	h := w.host("mx.shared.example")
	w.set(h, testnet.Faults{NoStartTLS: true})
	w.domain("lax.example", testnet.Domain{MX: []string{h.Name}})
	w.domain("strict.example", testnet.Domain{MX: []string{h.Name}, Policy: policyFor("enforce", h.Name)})
	w.send("anna@sender.example", "kurt@lax.example")
	w.wait(h, 1)
	w.empty() // its session is idle now
	_, gone := w.attempted(w.send("anna@sender.example", "kurt@strict.example"))
	if c := h.Counts(); gone || c.Mails != 1 {
		t.Errorf("gone %t, %+v", gone, c)
	}
}

func TestAVerifiedSessionServesBothDomainsAndIsCountedForEach(t *testing.T) {
	w := newWorld(t, "")
	h := w.host("mx.shared.example")
	for _, d := range []string{"a.example", "b.example"} {
		w.domain(d, testnet.Domain{MX: []string{h.Name}, Policy: policyFor("enforce", h.Name)})
	}
	for i, to := range []string{"x@a.example", "x@b.example", "y@a.example", "z@a.example"} {
		w.send("anna@sender.example", to)
		w.wait(h, i+1)
		w.empty()
	}
	if c := h.Counts(); c.Connections != 1 {
		t.Errorf("%d connections", c.Connections)
	}
	for _, d := range []string{"a.example", "b.example"} {
		if s := w.report(d).Policies[0].Summary; s.Successful != 1 || s.Failed != 0 {
			t.Errorf("%s: %+v", d, s)
		}
	}
}

func TestAPolicyThatChangedWithoutItsIDIsFetchedBeforeMailWaits(t *testing.T) {
	w := newWorld(t, "")
	old, fresh := w.host("mx1.a.example"), w.host("mx2.a.example")
	w.domain("a.example", testnet.Domain{MX: []string{old.Name}, Policy: policyFor("enforce", old.Name)})
	w.send("anna@sender.example", "kurt@a.example")
	w.wait(old, 1)
	w.empty()
	w.stop()
	w.domain("a.example", testnet.Domain{MX: []string{fresh.Name}})
	if err := w.SetPolicy("a.example", policyFor("enforce", fresh.Name)); err != nil { // the id stays 1
		t.Fatal(err)
	}
	w.start("")
	w.send("anna@sender.example", "kurt@a.example")
	w.wait(fresh, 1)
}

func TestThePolicyCacheOutlivesTheProcessAndThePolicyHost(t *testing.T) {
	w := newWorld(t, "")
	h := w.host("mx.a.example")
	w.domain("a.example", testnet.Domain{MX: []string{h.Name}, Policy: policyFor("enforce", h.Name)})
	w.send("anna@sender.example", "kurt@a.example")
	w.wait(h, 1)
	w.stop()
	site, err := w.PolicyHost("a.example")
	if err != nil {
		t.Fatal(err)
	}
	if err := site.Set(testnet.PolicyFaults{Down: true}); err != nil {
		t.Fatal(err)
	}
	w.DNS.Remove("_mta-sts.a.example", "TXT")
	w.set(h, testnet.Faults{NoStartTLS: true})
	w.start("")
	m, gone := w.attempted(w.send("anna@sender.example", "kurt@a.example"))
	if gone || !strings.Contains(m.States[0].LastError, "MTA-STS, mode enforce") {
		t.Errorf("gone %t, %+v", gone, m.States)
	}
}

func TestAFailedFirstFetchIsCountedAndMailGoesOn(t *testing.T) {
	w := newWorld(t, "")
	h := w.host("mx.a.example")
	w.domain("a.example", testnet.Domain{MX: []string{h.Name}, Policy: policyFor("enforce", h.Name)})
	site, err := w.PolicyHost("a.example")
	if err != nil {
		t.Fatal(err)
	}
	if err := site.Set(testnet.PolicyFaults{Cert: testnet.CertSpec{Expired: true}}); err != nil {
		t.Fatal(err)
	}
	w.send("anna@sender.example", "kurt@a.example")
	w.wait(h, 1)
	w.empty()
	found := false
	for _, p := range w.report("a.example").Policies {
		for _, d := range p.Details {
			found = found || d.ResultType == tlsrpt.STSWebPKIInvalid && p.Policy.Type == tlsrpt.PolicySTS
		}
	}
	if !found {
		t.Errorf("not counted: %+v", w.report("a.example"))
	}
}

func TestWhileNobodyKnowsWhetherThereIsAPolicyMailWaitsForTwoAttempts(t *testing.T) {
	w := newWorld(t, retrySoon)
	h := w.host("mx.a.example")
	w.domain("a.example", testnet.Domain{MX: []string{h.Name}})
	w.DNS.Fail("_mta-sts.a.example", "TXT", testnet.ServFail)
	w.DNS.Fail("mta-sts.a.example", "A", testnet.ServFail)
	m, gone := w.attempted(w.send("anna@sender.example", "kurt@a.example"))
	if gone || m.States[0].ReasonCode != "sts-fetch" {
		t.Fatalf("gone %t, %+v", gone, m.States)
	}
	w.wait(h, 1)
	// That is the domain's, not each message's.
	w.edit(`retry = ["1s"]`, `retry = ["1h"]`)
	w.reload()
	w.deliver("two@a.example", "three@a.example")
}

func TestPlaintextCanBeRefusedAltogether(t *testing.T) {
	w := newWorld(t, "plaintext = \"refuse\"\n")
	h := w.host("mx.a.example")
	w.set(h, testnet.Faults{NoStartTLS: true})
	w.domain("a.example", testnet.Domain{MX: []string{h.Name}})
	m, gone := w.attempted(w.send("anna@sender.example", "kurt@a.example"))
	if gone || h.Counts().Mails > 0 || m.States[0].ReasonCode != "rule" || !strings.Contains(m.States[0].LastError, "delivery.plaintext") {
		t.Errorf("gone %t, %+v", gone, m.States)
	}
}

func TestPrivateAddressesAreRefusedByDefault(t *testing.T) {
	w := newWorld(t, "")
	w.stop()
	h := w.host("mx.a.example")
	w.domain("a.example", testnet.Domain{MX: []string{h.Name}})
	for i, ip := range []string{"10.0.0.1", "169.254.169.254", "192.168.0.1"} {
		if err := w.DNS.Add(fmt.Sprintf("p%d.example. 60 IN A %s", i, ip)); err != nil {
			t.Fatal(err)
		}
	}
	w.public = true
	w.start("")
	for _, d := range []string{"a.example", "p0.example", "p1.example", "p2.example", "[127.0.0.1]", "[10.0.0.1]"} {
		m, gone := w.attempted(w.send("anna@sender.example", "kurt@"+d))
		if gone || !strings.Contains(m.States[0].LastError, "private addresses") {
			t.Errorf("%s: gone %t, %+v", d, gone, m.States)
		}
	}
	if c := h.Counts(); c.Connections > 0 {
		t.Errorf("the host was contacted: %+v", c)
	}
}

func TestMailThatExpiresIsGivenUpWithItsReason(t *testing.T) {
	w := newWorld(t, "retry = [\"1s\"]\nexpire = \"2s\"\n")
	h, back := w.host("mx.a.example"), w.host("mx.sender.example")
	w.domain("sender.example", testnet.Domain{MX: []string{back.Name}})
	w.set(h, testnet.Faults{NoStartTLS: true})
	w.domain("a.example", testnet.Domain{MX: []string{h.Name}, Policy: policyFor("enforce", h.Name)})
	asked := w.DNS.Asked("_mta-sts.a.example", "TXT")
	w.send("anna@sender.example", "kurt@a.example")
	notice := string(w.wait(back, 1)[0].Data)
	if !strings.Contains(notice, "Status: 5.4.7") || !strings.Contains(notice, "starttls-not-supported") {
		t.Errorf("notice:\n%s", notice)
	}
	if h.Counts().Mails > 0 {
		t.Error("mail was sent")
	}
	if n := w.DNS.Asked("_mta-sts.a.example", "TXT") - asked; n < 2 {
		t.Errorf("the record was looked up %d times: not afresh before the message was given up", n)
	}
	w.empty()
}

func TestASlowHostDelaysNoOtherDomain(t *testing.T) {
	w := newWorld(t, "concurrency_per_host = 2\n")
	slow, good := w.host("mx.slow.example"), w.host("mx.good.example")
	w.set(slow, testnet.Faults{Hang: "mail"})
	w.domain("slow.example", testnet.Domain{MX: []string{slow.Name}})
	w.domain("good.example", testnet.Domain{MX: []string{good.Name}})
	for range 50 {
		w.send("anna@sender.example", "kurt@slow.example")
	}
	start := time.Now()
	w.send("anna@sender.example", "kurt@good.example")
	w.wait(good, 1)
	if d := time.Since(start); d > 2*time.Second {
		t.Errorf("it took %s", d)
	}
	slow.Cut()
	w.set(slow, testnet.Faults{Down: true})
}

func TestStopUnderLoadLosesNothingAndSendsNothingTwice(t *testing.T) {
	w := newWorld(t, retrySoon)
	h := w.host("mx.a.example")
	w.domain("a.example", testnet.Domain{MX: []string{h.Name}, Policy: policyFor("enforce", h.Name)})
	var mu sync.Mutex
	accepted := make(map[string]bool)
	var senders sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for range 8 {
		senders.Go(func() {
			for ctx.Err() == nil {
				id, err := sendMail(w.addr, "anna@sender.example", "Subject: x\r\n\r\nhello\r\n", "kurt@a.example")
				if err != nil {
					return // it is stopping
				}
				mu.Lock()
				accepted[id] = true
				mu.Unlock()
			}
		})
	}
	w.wait(h, 200)
	w.stop()
	cancel()
	senders.Wait()
	w.start(retrySoon)
	w.wait(h, len(accepted))
	w.empty()
	seen := make(map[string]int)
	for _, m := range h.Messages() {
		_, rest, _ := bytes.Cut(m.Data, []byte(" id "))
		seen[string(rest[:26])]++
	}
	for id := range accepted {
		if seen[id] != 1 {
			t.Errorf("%s arrived %d times", id, seen[id])
		}
	}
	t.Logf("%d messages", len(accepted))
}

func TestReloadTakesOverWhatIsRightAndNothingThatIsWrong(t *testing.T) {
	w := newWorld(t, "")
	if _, err := sendMail(w.addr, "a@sender.example", "x", "b@a.example"); err != nil {
		t.Fatal(err)
	}
	w.configure("[limits]\nrecipients = \"many\"\n")
	if err := w.relay.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "limits") {
		t.Errorf("a wrong file was taken over: %v", err)
	}
	if _, err := sendMail(w.addr, "a@sender.example", "x", "b@a.example"); err != nil {
		t.Errorf("after a refused reload: %v", err)
	}
	w.listen = "allow = [\"192.0.2.1\"]\n"
	w.configure("")
	if err := w.relay.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := sendMail(w.addr, "a@sender.example", "x", "b@a.example"); err == nil || !strings.Contains(err.Error(), "may not send mail through this relay") {
		t.Errorf("the new allow list is not in force: %v", err)
	}
}

package relay_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
)

func TestASlowHostDelaysNoOtherDomain(t *testing.T) {
	w := e2e.New(t, "concurrency_per_host = 2\n")
	slow, good := w.Host("mx.slow.example"), w.Host("mx.good.example")
	w.SetFaults(slow, testnet.Faults{Hang: "mail"})
	w.Domain("slow.example", testnet.Domain{MX: []string{slow.Name}})
	w.Domain("good.example", testnet.Domain{MX: []string{good.Name}})
	for range 50 {
		w.Send("anna@sender.example", "kurt@slow.example")
	}
	start := time.Now()
	w.Send("anna@sender.example", "kurt@good.example")
	w.Received(good, 1)
	if d := time.Since(start); d > 15*time.Second {
		t.Errorf("it took %s", d)
	}
	slow.Cut()
	w.SetFaults(slow, testnet.Faults{Down: true})
}

// The report that tells of a policy which holds mail does not wait behind that
// mail, and neither does a message whose sender does without (RFC 8689, 3).
func TestWhatAPolicyDoesNotBindPassesWhatItHolds(t *testing.T) {
	w := e2e.NewWithKeys(t, "ed25519")
	mx := w.Host("mx.a.example")
	w.SetFaults(mx, testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}})
	w.Domain("a.example", testnet.Domain{MX: []string{mx.Name}, TLSRPT: "mailto:tls@a.example", Policy: e2e.PolicyFor("enforce", mx.Name)})
	m, gone := w.Attempted(w.Send("anna@sender.example", "kurt@a.example"))
	if gone || m.States[0].ReasonCode != "tls-cert" {
		t.Fatalf("gone %t, %+v", gone, m.States)
	}
	for range 5 {
		w.Send("anna@sender.example", "kurt@a.example") // they wait with it
	}
	if _, err := e2e.SendMail(w.Addr, "anna@sender.example", "TLS-Required: No\r\nSubject: x\r\n\r\nx\r\n", "kurt@a.example"); err != nil {
		t.Fatal(err)
	}
	if got := w.Received(mx, 1)[0]; !strings.Contains(string(got.Data), "TLS-Required: No") {
		t.Errorf("%s", got.Data)
	}
	w.Clock.Tomorrow()
	if got := w.Received(mx, 2)[1]; got.Recipients[0] != "tls@a.example" {
		t.Errorf("%v", got.Recipients)
	}
	w.WaitFor("the report to be sent", func(q *queue.Queue) bool { return q.Counts().Messages == 6 })
	if n := mx.Counts().Messages; n != 2 {
		t.Errorf("%d messages", n)
	}
}

// A message that is given up leaves the reason for which its domain rests as it was:
// others wait for that, not for its age.
func TestADomainDoesNotRestForTheAgeOfAMessage(t *testing.T) {
	w := e2e.New(t, "retry = [\"1s\"]\nexpire = \"1s\"\n")
	mx, back := w.Host("mx.a.example"), w.Host("mx.sender.example")
	w.SetFaults(mx, testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}})
	w.Domain("a.example", testnet.Domain{MX: []string{mx.Name}, Policy: e2e.PolicyFor("enforce", mx.Name)})
	w.Domain("sender.example", testnet.Domain{MX: []string{back.Name}})
	w.Attempted(w.Send("anna@sender.example", "kurt@a.example"))
	w.Send("anna@sender.example", "held@a.example")
	if n, err := w.Relay.Queue().Hold(t.Context(), queue.Filter{To: "held@a.example"}, "so that the domain is not forgotten"); n != 1 || err != nil {
		t.Fatalf("%d are held, %v", n, err)
	}
	w.Received(back, 1) // the first one was given up
	w.Send("anna@sender.example", "kurt@a.example")
	if why := waitingForA(w)[1].Waits[0].Backoff.Code; why != "tls-cert" {
		t.Errorf("it waits for %q", why)
	}
	if _, err := e2e.SendMail(w.Addr, "anna@sender.example", "TLS-Required: No\r\nSubject: x\r\n\r\nx\r\n", "kurt@a.example"); err != nil {
		t.Fatal(err)
	}
	w.Received(mx, 1)
}

// One host of the domains has a bad certificate, the other one is good and slow:
// what does not find a place there soon tries again before long, and every
// session to the first one is counted.
func TestMailWaitsForABusyHostAndItsSessionsAreCounted(t *testing.T) {
	w := e2e.New(t, "concurrency_per_host = 1\n")
	bad, good := w.Host("mx1.busy.example"), w.Host("mx2.busy.example")
	w.SetFaults(bad, testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}})
	w.SetFaults(good, testnet.Faults{Delay: 20 * time.Millisecond})
	const n = 12
	domain := func(i int) string { return fmt.Sprintf("d%d.example", i) }
	for i := range n {
		w.Domain(domain(i), testnet.Domain{MX: []string{bad.Name, good.Name}, Policy: e2e.PolicyFor("enforce", "*.busy.example")})
	}
	for i := range n {
		w.Send("anna@sender.example", "kurt@"+domain(i))
	}
	w.Received(good, n) // the first retry would be after a minute
	w.WaitUntilEmpty()
	var failed int64
	for i := range n {
		for _, p := range w.Report(domain(i)).Policies {
			failed += p.Summary.Failed
		}
	}
	if sessions := bad.Counts().Handshakes; failed != sessions || sessions < n {
		t.Errorf("%d sessions to the bad host, %d counted", sessions, failed)
	}
}

// A host that the policy does not name is counted once for each attempt: a claim
// that is given back, because another host is busy, is none.
func TestAHostThatIsPassedOverIsCountedOnceAnAttempt(t *testing.T) {
	w := e2e.New(t, "concurrency_per_host = 1\n")
	other, good := w.Host("mx1.other.example"), w.Host("mx2.busy.example")
	w.SetFaults(good, testnet.Faults{Delay: 20 * time.Millisecond})
	const n = 12
	domain := func(i int) string { return fmt.Sprintf("d%d.example", i) }
	for i := range n {
		w.Domain(domain(i), testnet.Domain{MX: []string{other.Name, good.Name}, Policy: e2e.PolicyFor("enforce", "*.busy.example")})
	}
	for i := range n {
		w.Send("anna@sender.example", "kurt@"+domain(i))
	}
	w.Received(good, n)
	w.WaitUntilEmpty()
	var failed int64
	for i := range n {
		for _, p := range w.Report(domain(i)).Policies {
			failed += p.Summary.Failed
		}
	}
	if failed != n {
		t.Errorf("%d attempts passed the host over, %d are counted", n, failed)
	}
}

// What a stranger publishes is kept with each recipient only as far as it tells
// something.
func TestAHostOfVeryManyAddresses(t *testing.T) {
	w := e2e.New(t, "retry = [\"1h\"]\n")
	w.Domain("many.example", testnet.Domain{MX: []string{"mx.many.example"}})
	for i := range 250 {
		if err := w.DNS.Add(fmt.Sprintf("mx.many.example. 60 IN A 127.77.%d.%d", i/250, i%250+1)); err != nil {
			t.Fatal(err)
		}
	}
	w.DNS.Fail("mx.many.example", "A", testnet.Truncate)
	m, gone := w.Attempted(w.Send("anna@sender.example", "kurt@many.example"))
	if gone {
		t.Fatal("the message has left the queue")
	}
	if n := len(m.States[0].LastError); n > 2000 {
		t.Errorf("the reason has %d octets", n)
	}
}

// The owner of a domain decides how many hosts it has. An attempt does not try
// them all, and what it counts of them can always be written with its result. An
// answer of thousands is not read at all.
func TestADomainOfVeryManyHosts(t *testing.T) {
	for _, tt := range []struct {
		hosts int
		why   string
	}{{250, "sts-mx"}, {2000, "dns"}} {
		w := e2e.New(t, "retry = [\"1h\"]\n")
		domain := strings.Repeat("abcdefghi.", 23) + "example"
		var mx []string
		for i := range tt.hosts {
			mx = append(mx, fmt.Sprintf("m%d.x", i))
		}
		w.Domain(domain, testnet.Domain{MX: mx, Policy: e2e.PolicyFor("enforce", "mx.elsewhere.example")})
		w.DNS.Fail(domain, "MX", testnet.Truncate) // so that it is asked over TCP
		m, gone := w.Attempted(w.Send("anna@sender.example", "kurt@"+domain))
		if gone || m.States[0].ReasonCode != tt.why {
			t.Errorf("%d hosts: gone: %t, it waits for %q: %q", tt.hosts, gone, m.States[0].ReasonCode, m.States[0].LastError)
		}
		asked := 0
		for _, h := range mx {
			asked += w.DNS.Asked(h, "A")
		}
		if asked > 50 {
			t.Errorf("the addresses of %d hosts were asked for", asked)
		}
	}
}

// Very many silent hosts do not keep mail from those that answer.
func TestSilentHostsLeaveRoomForOthers(t *testing.T) {
	w := e2e.New(t, "concurrency = 9\n")
	good := w.Host("mx1.good.example")
	w.Domain("good.example", testnet.Domain{MX: []string{good.Name}})
	w.Send("", "kurt@good.example")
	w.Received(good, 1)
	w.WaitUntilEmpty()
	silent := w.Host("mx.silent.example")
	w.SetFaults(silent, testnet.Faults{Hang: "greeting"})
	for i := range 30 {
		name := fmt.Sprintf("s%d.silent.example", i)
		h := w.Host("mx." + name) // an address of its own
		w.SetFaults(h, testnet.Faults{Hang: "greeting"})
		w.Domain(name, testnet.Domain{MX: []string{h.Name}})
		w.Send("", "kurt@"+name)
	}
	w.WaitFor("silence", func(q *queue.Queue) bool { return q.Active() == 6 && q.PlacesShort() })
	start := time.Now()
	for i := range 3 {
		w.Send("", "kurt@good.example")
		w.Received(good, i+2)
	}
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("good mail took %s", took)
	}
}

// However many names lead to one silent address: what finds it full holds no place,
// and mail for a new domain goes at once.
func TestOneSilentAddressHoldsFewPlaces(t *testing.T) {
	w := e2e.New(t, "concurrency = 12\nconcurrency_per_host = 3\n")
	silent := w.Host("mx.silent.example")
	w.SetFaults(silent, testnet.Faults{Hang: "greeting"})
	for i := range 40 {
		name := fmt.Sprintf("s%d.silent.example", i)
		if err := w.DNS.Add(fmt.Sprintf("mx.%s. 60 IN A %s", name, silent.IP)); err != nil {
			t.Fatal(err)
		}
		w.Domain(name, testnet.Domain{MX: []string{"mx." + name}})
		w.Send("", "kurt@"+name)
	}
	w.WaitFor("silence", func(*queue.Queue) bool { return silent.Counts().Hung == 3 })
	good := w.Host("mx1.good.example")
	w.Domain("good.example", testnet.Domain{MX: []string{good.Name}})
	start := time.Now()
	w.Send("", "kurt@good.example")
	w.Received(good, 1)
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("mail for a new domain took %s", took)
	}
	if n := silent.Counts().Connections; n != 3 {
		t.Errorf("%d sessions at one address, 3 are allowed", n)
	}
}

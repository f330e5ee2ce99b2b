package relay_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
)

// A rule named "*" sends everything to a smart host, but for domains with a rule of
// their own, and for the mail of senders that have one.
func TestARouteForEverything(t *testing.T) {
	w := e2e.New(t, `
[[domain]]
name = "*"
route = "smart.provider.example:25"
tls = "verify"
[[domain]]
name = "*"
senders = ["other.example", ".other.example"]
route = "mx.other.example:25"
[[domain]]
name = "direct.example"
`)
	smart, other, direct, never := w.Host("smart.provider.example"), w.Host("mx.other.example"), w.Host("mx.direct.example"), w.Host("mx.a.example")
	w.Domain("direct.example", testnet.Domain{MX: []string{direct.Name}})
	w.Domain("a.example", testnet.Domain{MX: []string{never.Name}})
	for _, m := range []struct {
		from, to string
		host     *testnet.Host
	}{
		{"anna@sender.example", "kurt@a.example", smart},
		{"anna@sender.example", "kurt@does-not-exist.example", smart}, // the smart host knows better
		{"anna@other.example", "kurt@a.example", other},
		{"anna@sub.other.example", "kurt@a.example", other},
		{"anna@sender.example", "kurt@direct.example", direct},
		{"anna@other.example", "kurt@direct.example", direct},
		{"", "kurt@a.example", smart},
	} {
		before := len(m.host.Messages())
		if s, gone := w.Attempted(w.Send(m.from, m.to)); !gone || len(m.host.Messages()) != before+1 {
			t.Errorf("%+v: gone %t, %+v", m, gone, s.States)
		}
	}
	if c := never.Counts(); c.Connections > 0 {
		t.Error("the MX host was contacted")
	}
}

// A smart host that is down for the mail of one sender keeps no other mail of the
// domain.
func TestARouteThatIsDownKeepsNoOtherSendersMail(t *testing.T) {
	w := e2e.New(t, "[[domain]]\nname = \"*\"\nsenders = [\"ill.example\"]\nroute = \"smart.ill.example:25\"\n")
	ill, mx := w.Host("smart.ill.example"), w.Host("mx.a.example")
	w.SetFaults(ill, testnet.Faults{Down: true})
	w.Domain("a.example", testnet.Domain{MX: []string{mx.Name}})
	if m, gone := w.Attempted(w.Send("anna@ill.example", "kurt@a.example")); gone || m.States[0].ReasonCode != "connect" {
		t.Fatalf("gone %t, %+v", gone, m.States)
	}
	if _, gone := w.Attempted(w.Send("anna@well.example", "kurt@a.example")); !gone {
		t.Error("the mail of another sender waits")
	}
}

// Where no MX host can be used, mail goes by the fallback route, unless something binds
// it to those hosts.
func TestTheFallbackRoute(t *testing.T) {
	down, selfSigned := testnet.Faults{Down: true}, testnet.Faults{Cert: testnet.CertSpec{SelfSigned: true}}
	refused := testnet.Faults{Replies: map[string]string{"greeting": "554 5.7.1 your address is listed"}}
	greylisted := testnet.Faults{Replies: map[string]string{"rcpt": "451 4.7.1 come again"}}
	for i, tt := range []struct {
		name          string
		mode, mx      string // of the policy; the faults of the MX host
		faults        testnet.Faults
		smart         testnet.Faults
		keys          string
		dane, nowhere bool
		goes          bool
		why           string
	}{
		{name: "down", faults: down, goes: true},
		{name: "refused at the greeting", faults: refused, goes: true},
		{name: "a host that answers", faults: greylisted, why: "come again"},
		{name: "testing binds nothing", mode: "testing", faults: down, goes: true},
		{name: "an enforced policy", mode: "enforce", faults: down, why: "the domain's MTA-STS policy is in mode enforce"},
		{name: "an enforced policy, all", mode: "enforce", faults: down, keys: `fallback = "all"`, goes: true},
		{name: "an enforced policy, overridden", mode: "enforce", faults: down, keys: "tls = \"encrypt\"\noverride_policy = true", goes: true},
		{name: "a policy that is not met", mode: "enforce", faults: selfSigned, keys: `fallback = "all"`, why: "which no other way mends"},
		{name: "TLSA records", dane: true, faults: down, why: "has TLSA records"},
		{name: "TLSA records, all", dane: true, faults: down, keys: `fallback = "all"`, goes: true},
		{name: "a rule that is not met", faults: selfSigned, keys: `tls = "verify"`, why: "which no other way mends"},
		{name: "the fallback is not verified", faults: down, smart: selfSigned, why: "and the fallback route: "},
		{name: "the fallback need not be verified", faults: down, smart: selfSigned, keys: `tls = "encrypt"`, goes: true},
		{name: "the fallback has no TLS", faults: down, smart: testnet.Faults{NoStartTLS: true}, why: "does not offer STARTTLS"},
		{name: "the fallback is down", faults: down, smart: down, why: "and the fallback route: "},
		{name: "no such domain", nowhere: true, why: "has no mail host"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := fmt.Sprintf("d%d.example", i)
			keys := tt.keys
			if !strings.Contains(keys, "fallback") {
				keys += "\nfallback = \"unbound\""
			}
			w := e2e.New(t, fmt.Sprintf("[[domain]]\nname = %q\nroute = \"smart.provider.example\"\n%s\n", d, keys))
			mx, smart := w.Host("mx."+d), w.Host("smart.provider.example")
			w.SetFaults(smart, tt.smart)
			if tt.dane {
				w.SecureHost(mx, w.TLSA(mx, 3, 1, 1))
				w.DNS.Secure(d, true)
			}
			w.SetFaults(mx, tt.faults)
			domain := testnet.Domain{MX: []string{mx.Name}}
			if tt.mode != "" {
				domain.Policy = e2e.PolicyFor(tt.mode, mx.Name)
			}
			if !tt.nowhere {
				w.Domain(d, domain)
			}
			m, gone := w.Attempted(w.Send("", "kurt@"+d))
			if got := len(smart.Messages()) == 1; got != tt.goes || gone != tt.goes {
				t.Fatalf("by the fallback route %t, gone %t, %+v", got, gone, m.States)
			}
			if !gone && !strings.Contains(m.States[0].LastError, tt.why) {
				t.Errorf("it waits since %q, want %q", m.States[0].LastError, tt.why)
			}
			if mx.Counts().Mails > 0 && tt.name != "a host that answers" {
				t.Error("the MX host was offered mail")
			}
		})
	}
}

// After the fallback route took mail, the hosts that failed are not tried again for a
// while: each try may take minutes.
func TestHostsThatFailedRestWhileTheFallbackTakesMail(t *testing.T) {
	w := e2e.New(t, e2e.RetrySoon+"[[domain]]\nname = \"*\"\nroute = \"smart.provider.example\"\nfallback = \"unbound\"\n")
	mx, smart := w.Host("mx.a.example"), w.Host("smart.provider.example")
	w.SetFaults(smart, testnet.Faults{Recipients: map[string]string{"late@a.example": "451 4.3.2 not now"}})
	refused := map[string]string{"greeting": "554 5.7.1 no"}
	w.SetFaults(mx, testnet.Faults{Replies: refused})
	w.Domain("a.example", testnet.Domain{MX: []string{mx.Name}})
	for range 3 {
		if m, gone := w.Attempted(w.Send("anna@sender.example", "kurt@a.example")); !gone {
			t.Fatalf("%+v", m.States)
		}
	}
	if n := mx.Counts().Connections; len(smart.Messages()) != 3 || n == 0 || n > 2 {
		t.Errorf("%d messages by the fallback route, %d connections to the MX host", len(smart.Messages()), n)
	}
	// Once that route fails too, the hosts have their turn again.
	w.SetFaults(mx, testnet.Faults{})
	if _, gone := w.Attempted(w.Send("anna@sender.example", "late@a.example")); gone {
		t.Error("one more went by the fallback route")
	}
	w.WaitUntilEmpty()
	if len(mx.Messages()) != 1 {
		t.Errorf("the MX host has %d messages", len(mx.Messages()))
	}
}

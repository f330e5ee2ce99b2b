package relay_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
)

func TestDomainsWithoutHosts(t *testing.T) {
	w := e2e.New(t, "")
	back := w.Host("mx.sender.example")
	w.Domain("sender.example", testnet.Domain{MX: []string{back.Name}})
	if err := w.DNS.Add("null.example. 60 IN MX 0 ."); err != nil {
		t.Fatal(err)
	}
	for n, tt := range []struct{ to, status string }{{"a@null.example", "5.1.10"}, {"a@nowhere.example", "5.1.2"}} {
		w.Send("anna@sender.example", tt.to)
		if got := string(w.Received(back, n+1)[n].Data); !strings.Contains(got, "Status: "+tt.status) {
			t.Errorf("%s: %s", tt.to, got)
		}
	}
	w.DNS.Fail("dead.example", "MX", testnet.ServFail)
	m, gone := w.Attempted(w.Send("anna@sender.example", "a@dead.example"))
	if gone || !strings.HasPrefix(m.States[0].LastError, "4.4.3 ") || m.States[0].ReasonCode != "dns" {
		t.Errorf("SERVFAIL: gone %t, %+v", gone, m.States)
	}
	implicit := w.Host("implicit.example")
	w.Send("anna@sender.example", "a@implicit.example")
	if m := w.Received(implicit, 1)[0]; m.SNI != "implicit.example" {
		t.Errorf("SNI %q", m.SNI)
	}
}

// dualStack is a domain whose host has an address of each family; what they
// lead to may differ.
func dualStack(w *e2e.World, domain string, faults6, faults4 testnet.Faults) (over6, over4 *testnet.Host) {
	w.T.Helper()
	over4, over6 = w.Host("mx1."+domain), w.Host("six."+domain)
	if err := over6.Answer("mx1."+domain, "fd00::6"); err != nil {
		w.T.Fatal(err)
	}
	for h, f := range map[*testnet.Host]testnet.Faults{over6: faults6, over4: faults4} {
		if err := h.Set(f); err != nil {
			w.T.Fatal(err)
		}
	}
	w.Domain(domain, testnet.Domain{MX: []string{"mx1." + domain}})
	return over6, over4
}

// Some hosts refuse IPv6 senders without a reverse name that they take over
// IPv4.
func TestARefusalOverOneFamilyIsTriedOverTheOther(t *testing.T) {
	refuses := testnet.Faults{Replies: map[string]string{"rcpt": "550 5.7.1 your address has no reverse name"}}
	refusesMessage := testnet.Faults{Replies: map[string]string{"dot": "550 5.7.1 [fd00::6] has no reverse name"}}
	noUser := testnet.Faults{Replies: map[string]string{"rcpt": "550 5.1.1 no such user"}}
	down := testnet.Faults{Down: true}
	for _, tt := range []struct {
		name         string
		over6, over4 testnet.Faults
		want6, want4 int64 // MAIL commands
		delivered    bool
	}{
		{"refused over IPv6 only", refuses, testnet.Faults{}, 1, 1, true},
		{"the message refused over IPv6 only", refusesMessage, testnet.Faults{}, 1, 1, true},
		{"refused over both", refuses, refuses, 1, 1, false},
		{"refused over IPv6, IPv4 down", refuses, down, 1, 0, false},
		{"no such user", noUser, testnet.Faults{}, 1, 0, false},
		{"IPv6 down", down, testnet.Faults{}, 0, 1, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := e2e.New(t, "")
			over6, over4 := dualStack(w, "dual.example", tt.over6, tt.over4)
			id := w.Send("", "kurt@dual.example") // no notice
			if _, gone := w.Attempted(id); !gone {
				t.Error("the message is still in the queue")
			}
			if n6, n4 := over6.Counts().Mails, over4.Counts().Mails; n6 != tt.want6 || n4 != tt.want4 {
				t.Errorf("%d MAIL commands over IPv6, %d over IPv4", n6, n4)
			}
			if n := over6.Counts().Messages + over4.Counts().Messages; (n == 1) != tt.delivered {
				t.Errorf("%d messages came in", n)
			}
		})
	}
}

func TestTheFamilyOfAddresses(t *testing.T) {
	for family, want6 := range map[string]bool{"ipv4": false, "ipv6": true} {
		w := e2e.New(t, "ip_family = \""+family+"\"\n")
		over6, over4 := dualStack(w, "dual.example", testnet.Faults{}, testnet.Faults{})
		if _, gone := w.Attempted(w.Send("anna@sender.example", "kurt@dual.example")); !gone {
			t.Fatal("not delivered")
		}
		if got := over6.Counts().Messages == 1; got != want6 || over4.Counts().Messages == 1 == got {
			t.Errorf("%s: delivered over IPv6 %t", family, got)
		}
		only4 := w.Host("mx1.four.example")
		w.Domain("four.example", testnet.Domain{MX: []string{only4.Name}})
		m, gone := w.Attempted(w.Send("anna@sender.example", "kurt@four.example"))
		if gone == want6 || want6 && !strings.Contains(m.States[0].LastError, "ip_family") {
			t.Errorf("%s: a host with IPv4 only: gone %t, %+v", family, gone, m.States)
		}
	}
}

// What one attempt does not come to gets its turn in the next ones: addresses beyond
// the eighth, hosts beyond the thirtieth. dead are records of hosts that are down.
func TestWhatAnAttemptLeavesGetsItsTurn(t *testing.T) {
	const dead = "127.255.255.%d"
	for _, tt := range []struct {
		name     string
		records  func(good string) []string
		attempts int // the last of them delivers
	}{
		{"the ninth address of a host", func(good string) []string {
			rr := []string{"d.example. 60 IN MX 10 mx.d.example."}
			for i := range 8 {
				rr = append(rr, fmt.Sprintf("mx.d.example. 60 IN A "+dead, i+1))
			}
			return append(rr, "mx.d.example. 60 IN A "+good)
		}, 2},
		{"the host behind one of twelve addresses", func(good string) []string {
			rr := []string{"d.example. 60 IN MX 10 mx.d.example.", "d.example. 60 IN MX 20 good.d.example.", "good.d.example. 60 IN A " + good}
			for i := range 12 {
				rr = append(rr, fmt.Sprintf("mx.d.example. 60 IN A "+dead, i+1))
			}
			return rr
		}, 2},
		{"the last of eleven hosts", func(good string) []string { return manyHosts(11, dead, good) }, 2},
		{"the last of 31 hosts", func(good string) []string { return manyHosts(31, dead, good) }, 4},
		{"the last of 31 hosts, of which no other has an address", func(good string) []string { return manyHosts(31, "", good) }, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, log := e2e.NewLogged(t, "retry = [\"1s\"]\n")
			attempts := func() int {
				w.WaitUntilEmpty()
				return strings.Count(log.String(), `"msg":"attempt"`)
			}
			h := w.Host("real.example")
			w.AddRecords(tt.records(h.IP)...)
			w.DNS.Fail("d.example", "MX", testnet.Truncate)
			id := w.Send("anna@sender.example", "kurt@d.example")
			w.Received(h, 1)
			w.WaitUntilGone(id)
			if n := attempts(); n != tt.attempts {
				t.Errorf("%d attempts", n)
			}
			// The next one begins where that one ended.
			w.WaitUntilGone(w.Send("anna@sender.example", "olga@d.example"))
			if n := attempts(); n != tt.attempts+1 {
				t.Errorf("%d attempts with the second message", n)
			}
		})
	}
}

// manyHosts are the records of a domain whose last host is good; the others have an
// address by dead, or none.
func manyHosts(n int, dead, good string) (rr []string) {
	for i := range n {
		name := fmt.Sprintf("mx%d.d.example", i)
		rr = append(rr, fmt.Sprintf("d.example. 60 IN MX %d %s.", i, name))
		switch {
		case i == n-1:
			rr = append(rr, name+". 60 IN A "+good)
		case dead != "":
			rr = append(rr, fmt.Sprintf("%s. 60 IN A "+dead, name, i+1))
		}
	}
	return rr
}

// A host that the policy does not name costs nothing, and those that it names are
// tried wherever they stand.
func TestAPolicyMayNameTheLastOfManyHosts(t *testing.T) {
	w := e2e.New(t, "retry = [\"1h\"]\n")
	h := w.Host("mx39.d.example")
	w.DNS.Remove(h.Name, "A")
	w.AddRecords(manyHosts(40, "127.255.255.%d", h.IP)...)
	w.DNS.Fail("d.example", "MX", testnet.Truncate)
	if err := w.SetPolicy("d.example", e2e.PolicyFor("enforce", h.Name)); err != nil {
		t.Fatal(err)
	}
	w.WaitUntilGone(w.Send("anna@sender.example", "kurt@d.example"))
	if c := h.Counts(); c.Messages != 1 {
		t.Errorf("%+v", c)
	}
	if n := w.DNS.Asked("mx0.d.example", "A"); n != 0 {
		t.Errorf("the addresses of a host that gets nothing were asked for")
	}
}

// What a host cannot or will not take is asked of the next one, where the reply
// speaks of that host alone.
func TestWhatOneHostDoesNotTakeIsAskedOfTheNext(t *testing.T) {
	all := e2e.New(t, "retry = [\"1h\"]\n")
	mail := func(reply string) testnet.Faults { return testnet.Faults{Replies: map[string]string{"mail": reply}} }
	for i, tt := range []struct {
		name  string
		first testnet.Faults
		next  bool   // the second one gets it
		final string // what it is given up with; "": it waits
	}{
		{"SIZE", testnet.Faults{Without: []string{"SIZE"}, With: []string{"SIZE 100"}}, true, "5.3.4"},
		{"SIZE at MAIL", mail("552 5.3.4 message size exceeds the limit"), true, "5.3.4"},
		{"size at MAIL in an old reply", mail("552 too large"), true, "5.0.0"},
		{"policy at MAIL", mail("554 5.7.1 your address is blocked"), true, "5.7.1"},
		{"policy at MAIL in an old reply", mail("550 go away"), true, "5.0.0"},
		{"parameters at MAIL", mail("555 5.5.4 unknown parameter"), true, "5.5.4"},
		{"no room at MAIL", mail("452 4.3.1 disk full"), true, ""},
		{"later at MAIL", mail("451 4.7.1 later"), true, ""},
		{"the sender at MAIL", mail("550 5.1.8 no such sender domain"), false, "5.1.8"},
		{"the system behind the content", testnet.Faults{Replies: map[string]string{"dot": "552 5.3.4 too large"}}, true, "5.3.4"},
		{"the content", testnet.Faults{Replies: map[string]string{"dot": "554 5.7.1 spam"}}, false, "5.7.1"},
		{"the recipient", testnet.Faults{Replies: map[string]string{"rcpt": "550 5.1.1 no such user"}}, false, "5.1.1"},
		{"the recipient by policy", testnet.Faults{Replies: map[string]string{"rcpt": "550 5.7.1 not from you"}}, false, "5.7.1"},
		{"the greeting", testnet.Faults{Replies: map[string]string{"greeting": "554 5.7.1 blocked"}}, true, ""},
		{"EHLO and HELO", testnet.Faults{Replies: map[string]string{"ehlo": "550 5.7.1 no", "helo": "550 5.7.1 no"}}, true, ""},
	} {
		for j, second := range []string{"good", "the same", "down"} {
			t.Run(tt.name+"/"+second, func(t *testing.T) {
				t.Parallel()
				w := all.In(t)
				domain, sender := fmt.Sprintf("d%d-%d.example", i, j), fmt.Sprintf("sender%d-%d.example", i, j)
				back := w.Host("mx." + sender)
				w.Domain(sender, testnet.Domain{MX: []string{back.Name}})
				a, b := w.Host("mx1."+domain), w.Host("mx2."+domain)
				w.Domain(domain, testnet.Domain{MX: []string{a.Name, b.Name}})
				w.SetFaults(a, tt.first)
				switch second {
				case "the same":
					w.SetFaults(b, tt.first)
				case "down":
					w.SetFaults(b, testnet.Faults{Down: true})
				}
				id := w.Send("anna@"+sender, "kurt@"+domain)
				if second == "good" && tt.next {
					w.WaitUntilGone(id)
					if c := b.Counts(); c.Messages != 1 || back.Counts().Messages != 0 {
						t.Errorf("%+v", c)
					}
					return
				}
				if tt.final == "" {
					w.Deferred(id)
					return
				}
				w.WaitUntilGone(id)
				if got := string(w.Received(back, 1)[0].Data); !strings.Contains(got, "Status: "+tt.final) {
					t.Errorf("%s", got)
				}
				if c := b.Counts(); !tt.next && c.Connections > 0 {
					t.Errorf("the second host was asked: %+v", c)
				}
			})
		}
	}
}

// Without SMTPUTF8 at the first host, the second one is asked.
func TestSMTPUTF8IsAskedOfTheNextHost(t *testing.T) {
	w := e2e.New(t, "retry = [\"1h\"]\n")
	a, b := w.Host("mx1.d.example"), w.Host("mx2.d.example")
	w.Domain("d.example", testnet.Domain{MX: []string{a.Name, b.Name}})
	w.SetFaults(a, testnet.Faults{Without: []string{"SMTPUTF8"}})
	err := w.Dialogue("250 EHLO test", "250 MAIL FROM:<anna@sender.example> SMTPUTF8", "250 RCPT TO:<grüße@d.example>", "354 DATA", "250 Subject: test\r\n\r\nhello\r\n.")
	if err != nil {
		t.Fatal(err)
	}
	w.Received(b, 1)
	w.WaitUntilEmpty()
	if c := a.Counts(); c.Messages != 0 || c.Mails != 0 {
		t.Errorf("%+v", c)
	}
}

// The neighbours of all that: what is found wherever it stands.
func TestHostsInUnusualPlaces(t *testing.T) {
	for _, tt := range []struct {
		name    string
		records func(good, refusing string) []string
		why     string // "": it is delivered
	}{
		{"two addresses of which one refuses", func(good, refusing string) []string {
			return []string{"d.example. 60 IN MX 10 mx.d.example.", "mx.d.example. 60 IN A " + refusing, "mx.d.example. 60 IN A " + good}
		}, ""},
		{"equal preference", func(good, refusing string) []string {
			return []string{"d.example. 60 IN MX 10 mx1.d.example.", "d.example. 60 IN MX 10 mx2.d.example.", "mx1.d.example. 60 IN A " + refusing, "mx2.d.example. 60 IN A " + good}
		}, ""},
		{"the same host twice", func(good, _ string) []string {
			return []string{"d.example. 60 IN MX 10 mx.d.example.", "d.example. 60 IN MX 20 mx.d.example.", "mx.d.example. 60 IN A " + good}
		}, ""},
		{"an alias", func(good, _ string) []string {
			return []string{"d.example. 60 IN MX 10 mx.d.example.", "mx.d.example. 60 IN CNAME other.example.", "other.example. 60 IN A " + good}
		}, ""},
		{"an address before a host", func(good, _ string) []string {
			return []string{"d.example. 60 IN MX 10 192.0.2.1.", "d.example. 60 IN MX 20 mx.d.example.", "mx.d.example. 60 IN A " + good}
		}, ""},
		{"a null MX beside a host", func(good, _ string) []string {
			return []string{"d.example. 60 IN MX 0 .", "d.example. 60 IN MX 20 mx.d.example.", "mx.d.example. 60 IN A " + good}
		}, ""},
		{"no MX and an address", func(good, _ string) []string { return []string{"d.example. 60 IN A " + good} }, ""},
		{"only this relay", func(string, string) []string {
			return []string{"d.example. 60 IN MX 10 relay.test.example.", "relay.test.example. 60 IN A 127.0.0.1"}
		}, "5.4.6"},
		{"this relay first", func(good, _ string) []string {
			return []string{"d.example. 60 IN MX 10 relay.test.example.", "d.example. 60 IN MX 20 mx.d.example.", "mx.d.example. 60 IN A " + good}
		}, "5.4.6"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := e2e.New(t, "retry = [\"1h\"]\n")
			back, good, bad := w.Host("mx.sender.example"), w.Host("good.example"), w.Host("bad.example")
			w.Domain("sender.example", testnet.Domain{MX: []string{back.Name}})
			w.SetFaults(bad, testnet.Faults{Replies: map[string]string{"greeting": "554 5.7.1 blocked"}})
			w.AddRecords(tt.records(good.IP, bad.IP)...)
			w.WaitUntilGone(w.Send("anna@sender.example", "kurt@d.example"))
			if tt.why == "" {
				if c := good.Counts(); c.Messages != 1 {
					t.Errorf("%+v", c)
				}
			} else if got := string(w.Received(back, 1)[0].Data); !strings.Contains(got, "Status: "+tt.why) {
				t.Errorf("%s", got)
			}
		})
	}
}

// homelessStates are domains whose records lead to no host that has an address, and
// the beginning of what is said of them; and domains that are no such case.
var homelessStates = []struct {
	name    string
	records []string
	fails   string // "name type" of a lookup without an answer
	says    string // "" where it is no such case
}{
	{"neither MX nor address", []string{`d.example. 60 IN TXT "x"`}, "", "d.example has no mail host: there is neither an MX record nor an address"},
	{"an address", []string{"d.example. 60 IN MX 10 192.0.2.1."}, "", "d.example has no mail host: the MX record holds the address 192.0.2.1 instead of the name of a host"},
	{"an address of the other family", []string{"d.example. 60 IN MX 10 2001:db8::1."}, "", "d.example has no mail host: the MX record holds the address 2001:db8::1 instead"},
	{"an address in brackets", []string{"d.example. 60 IN MX 10 [192.0.2.1]."}, "", "d.example has no mail host: the MX record holds the address [192.0.2.1] instead"},
	{"an address in one label", []string{`d.example. 60 IN MX 10 192\.0\.2\.1.`}, "", "d.example has no mail host: the MX record holds the address"},
	{"no such name", []string{"d.example. 60 IN MX 10 mx.d.example."}, "", "d.example has no mail host: mx.d.example does not exist"},
	{"a name without address", []string{"d.example. 60 IN MX 10 mx.d.example.", `mx.d.example. 60 IN TXT "x"`}, "", "d.example has no mail host: mx.d.example has no address"},
	{"an alias of nothing", []string{"d.example. 60 IN MX 10 mx.d.example.", "mx.d.example. 60 IN CNAME gone.d.example."}, "", "d.example has no mail host: mx.d.example does not exist"},
	{"several", []string{"d.example. 60 IN MX 10 mx.d.example.", "d.example. 60 IN MX 10 192.0.2.1.", "d.example. 60 IN MX 0 ."}, "", "d.example has no mail host: the MX record holds the address 192.0.2.1 instead of the name of a host, mx.d.example does not exist"},
	{"this relay behind no host", []string{"d.example. 60 IN MX 10 mx.d.example.", "d.example. 60 IN MX 20 relay.test.example.", "relay.test.example. 60 IN A 127.0.0.1"}, "", "d.example has no mail host: mx.d.example does not exist"},
	{"one host has an address", []string{"d.example. 60 IN MX 10 mx.d.example.", "d.example. 60 IN MX 20 down.d.example.", "down.d.example. 60 IN A 127.255.255.254"}, "", ""},
	{"one host is not known of", []string{"d.example. 60 IN MX 10 mx.d.example.", "d.example. 60 IN MX 20 other.d.example."}, "other.d.example A", ""},
	{"the address is not known of", []string{`d.example. 60 IN TXT "x"`}, "d.example AAAA", ""},
	{"a private address", []string{"d.example. 60 IN MX 10 mx.d.example.", "mx.d.example. 60 IN A 10.0.0.1"}, "", ""},
}

// A domain that has no host at all is looked at twice, a quarter of an hour apart;
// then its mail is given up.
func TestADomainWithoutAHostIsGivenUpAfterASecondLook(t *testing.T) {
	for _, tt := range homelessStates {
		for _, mode := range []string{"", "enforce"} {
			t.Run(tt.name+mode, func(t *testing.T) {
				t.Parallel()
				w, back := newHomelessWorld(t)
				w.AddRecords(tt.records...)
				if mode != "" && tt.name != "one host is not known of" {
					if err := w.SetPolicy("d.example", e2e.PolicyFor(mode, "mx.elsewhere.example")); err != nil {
						t.Fatal(err)
					}
				}
				if name, qtype, ok := strings.Cut(tt.fails, " "); ok {
					w.DNS.Fail(name, qtype, testnet.ServFail)
				}
				id := w.Send("anna@sender.example", "kurt@d.example")
				s := w.Deferred(id)
				if (s.ReasonCode == "dns-no-host") != (tt.says != "") || !strings.HasPrefix(s.LastError, "4.4.4 "+tt.says) && tt.says != "" {
					t.Fatalf("first: %+v", s)
				}
				m, _ := w.Attempted(id)
				if left := time.Until(m.NextAttemptAt); tt.says != "" && (left < 14*time.Minute || left > 15*time.Minute) {
					t.Errorf("the next attempt is in %s", left)
				}
				w.RetryAfter(10 * time.Minute)
				if s := w.WaitForAttempts(id, 2); tt.says != "" && !strings.Contains(s.LastError, "in 5m0s") {
					t.Errorf("after ten minutes: %+v", s)
				}
				w.RetryAfter(5 * time.Minute)
				if tt.says == "" {
					w.WaitForAttempts(id, 3)
					return
				}
				w.WaitUntilGone(id)
				if got := string(w.Received(back, 1)[0].Data); !strings.Contains(got, "Status: 5.4.4") || !strings.Contains(got, "has no mail server") {
					t.Errorf("%s", got)
				}
				// Another message within the hour needs no third look.
				w.RetryAfter(10 * time.Minute)
				w.WaitUntilGone(w.Send("anna@sender.example", "olga@d.example"))
			})
		}
	}
}

// The second look goes past the cache, and a host that it finds gets the mail at
// once.
func TestTheSecondLookFindsAHost(t *testing.T) {
	for _, records := range [][]string{
		{"d.example. 86400 IN MX 10 192.0.2.1."},
		{"d.example. 86400 IN MX 10 mx.other.example.", "mx.other.example. 86400 IN CNAME gone.example."},
	} {
		w, _ := newHomelessWorld(t)
		w.AddRecords(records...)
		id := w.Send("anna@sender.example", "kurt@d.example")
		w.Deferred(id)
		h := w.Host("mx.d.example")
		w.Domain("d.example", testnet.Domain{MX: []string{h.Name}})
		w.RetryAfter(15 * time.Minute)
		w.Received(h, 1)
		w.WaitUntilGone(id)
	}
}

// newHomelessWorld is a world with a clock, and the host that gets the notices.
func newHomelessWorld(t *testing.T) (w *e2e.World, back *testnet.Host) {
	t.Helper()
	w = e2e.NewStopped(t)
	w.Clock = e2e.NewClock()
	back = w.Host("mx.sender.example")
	w.Domain("sender.example", testnet.Domain{MX: []string{back.Name}})
	w.Start("retry = [\"1h\"]\n")
	return w, back
}

// An MX that is this relay, by name: only hosts that are preferred to it count
// (RFC 5321, 5.1).
func TestThisRelayAsAnMXHost(t *testing.T) {
	const us = "relay.test.example"
	for _, tt := range []struct {
		name    string
		mx      []string
		down    bool
		arrives int64
		gone    bool
	}{
		{"alone", []string{us}, false, 0, true},
		{"best", []string{us, "mx.loop.example"}, false, 0, true},
		{"backup", []string{"mx.loop.example", us}, false, 1, true},
		{"backup of a host that is down", []string{"mx.loop.example", us}, true, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := e2e.New(t, "")
			h := w.Host("mx.loop.example")
			if err := h.Set(testnet.Faults{Down: tt.down}); err != nil {
				t.Fatal(err)
			}
			if err := w.DNS.Add(us + ". 60 IN A 127.0.0.1"); err != nil {
				t.Fatal(err)
			}
			w.Domain("loop.example", testnet.Domain{MX: tt.mx})
			_, gone := w.Attempted(w.Send("", "kurt@loop.example"))
			if gone != tt.gone || h.Counts().Messages != tt.arrives {
				t.Errorf("gone %t, %d arrived", gone, h.Counts().Messages)
			}
		})
	}
}

func TestSeveralNullMXRecordsAreOne(t *testing.T) {
	w := e2e.New(t, "")
	back := w.Host("mx.sender.example")
	w.Domain("sender.example", testnet.Domain{MX: []string{back.Name}})
	if err := w.DNS.Add("n.example. 60 IN MX 0 .", "n.example. 60 IN MX 10 ."); err != nil {
		t.Fatal(err)
	}
	w.Send("anna@sender.example", "kurt@n.example")
	if text := string(w.Received(back, 1)[0].Data); !strings.Contains(text, "Status: 5.1.10") {
		t.Error(text)
	}
}

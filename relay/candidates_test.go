package relay_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

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
			w, log := newLoggedWorld(t, "retry = [\"1s\"]\n")
			attempts := func() int {
				w.empty()
				return strings.Count(log.String(), `"msg":"attempt"`)
			}
			h := w.host("real.example")
			w.records(tt.records(h.IP))
			w.DNS.Fail("d.example", "MX", testnet.Truncate)
			id := w.send("anna@sender.example", "kurt@d.example")
			w.wait(h, 1)
			w.gone(id)
			if n := attempts(); n != tt.attempts {
				t.Errorf("%d attempts", n)
			}
			// The next one begins where that one ended.
			w.gone(w.send("anna@sender.example", "olga@d.example"))
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
	w := newWorld(t, "retry = [\"1h\"]\n")
	h := w.host("mx39.d.example")
	w.DNS.Remove(h.Name, "A")
	w.records(manyHosts(40, "127.255.255.%d", h.IP))
	w.DNS.Fail("d.example", "MX", testnet.Truncate)
	if err := w.SetPolicy("d.example", policyFor("enforce", h.Name)); err != nil {
		t.Fatal(err)
	}
	w.gone(w.send("anna@sender.example", "kurt@d.example"))
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
	mail := func(reply string) testnet.Faults { return testnet.Faults{Replies: map[string]string{"mail": reply}} }
	for _, tt := range []struct {
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
		for _, second := range []string{"good", "the same", "down"} {
			t.Run(tt.name+"/"+second, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, "retry = [\"1h\"]\n")
				back := w.host("mx.sender.example")
				w.domain("sender.example", testnet.Domain{MX: []string{back.Name}})
				a, b := w.host("mx1.d.example"), w.host("mx2.d.example")
				w.domain("d.example", testnet.Domain{MX: []string{a.Name, b.Name}})
				w.set(a, tt.first)
				switch second {
				case "the same":
					w.set(b, tt.first)
				case "down":
					w.set(b, testnet.Faults{Down: true})
				}
				id := w.send("anna@sender.example", "kurt@d.example")
				if second == "good" && tt.next {
					w.gone(id)
					if c := b.Counts(); c.Messages != 1 || back.Counts().Messages != 0 {
						t.Errorf("%+v", c)
					}
					return
				}
				if tt.final == "" {
					w.waits(id)
					return
				}
				w.gone(id)
				if got := string(w.wait(back, 1)[0].Data); !strings.Contains(got, "Status: "+tt.final) {
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
	w := newWorld(t, "retry = [\"1h\"]\n")
	a, b := w.host("mx1.d.example"), w.host("mx2.d.example")
	w.domain("d.example", testnet.Domain{MX: []string{a.Name, b.Name}})
	w.set(a, testnet.Faults{Without: []string{"SMTPUTF8"}})
	err := w.dialogue([]step{{"EHLO test", 250}, {"MAIL FROM:<anna@sender.example> SMTPUTF8", 250}, {"RCPT TO:<grüße@d.example>", 250}, {"DATA", 354}, {"Subject: test\r\n\r\nhello\r\n.", 250}})
	if err != nil {
		t.Fatal(err)
	}
	w.wait(b, 1)
	w.empty()
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
			w := newWorld(t, "retry = [\"1h\"]\n")
			back, good, bad := w.host("mx.sender.example"), w.host("good.example"), w.host("bad.example")
			w.domain("sender.example", testnet.Domain{MX: []string{back.Name}})
			w.set(bad, testnet.Faults{Replies: map[string]string{"greeting": "554 5.7.1 blocked"}})
			w.records(tt.records(good.IP, bad.IP))
			w.gone(w.send("anna@sender.example", "kurt@d.example"))
			if tt.why == "" {
				if c := good.Counts(); c.Messages != 1 {
					t.Errorf("%+v", c)
				}
			} else if got := string(w.wait(back, 1)[0].Data); !strings.Contains(got, "Status: "+tt.why) {
				t.Errorf("%s", got)
			}
		})
	}
}

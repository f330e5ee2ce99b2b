package outbound

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/dnsclient"
	"github.com/stsrelay/stsrelay/internal/testnet"
)

func resolver(t *testing.T, records ...string) (*dnsclient.Client, *testnet.Net) {
	t.Helper()
	n, err := testnet.New(testnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	if err := n.DNS.Add(records...); err != nil {
		t.Fatal(err)
	}
	c, err := dnsclient.New(dnsclient.Options{Servers: []string{n.DNS.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, n
}

func TestFind(t *testing.T) {
	for _, tt := range []struct {
		name    string
		records []string
		hosts   string // names
		denied  string // status
		null    bool
		self    bool
	}{
		{"by preference", []string{"d.example. 60 IN MX 20 a.", "d.example. 60 IN MX 10 c.", "d.example. 60 IN MX 10 b."}, "b c a", "", false, false},
		{"each once", []string{"d.example. 60 IN MX 20 a.", "d.example. 60 IN MX 10 A.", "d.example. 60 IN MX 15 b."}, "a b", "", false, false},
		{"null MX", []string{"d.example. 60 IN MX 0 ."}, "", "5.1.10", false, false},
		{"two null MX", []string{"d.example. 60 IN MX 0 .", "d.example. 60 IN MX 10 ."}, "", "5.1.10", false, false},
		{"null MX beside a host", []string{"d.example. 60 IN MX 0 .", "d.example. 60 IN MX 10 a."}, "a", "", true, false},
		{"no MX", []string{`d.example. 60 IN TXT "x"`}, "d.example", "", false, false},
		{"no domain", nil, "", "5.1.2", false, false},
		{"this relay is the best", []string{"d.example. 60 IN MX 10 self.", "d.example. 60 IN MX 10 a.", "d.example. 60 IN MX 20 b."}, "", "5.4.6", false, true},
		{"this relay is among them", []string{"d.example. 60 IN MX 10 a.", "d.example. 60 IN MX 20 self.", "d.example. 60 IN MX 20 b."}, "a", "", false, true},
	} {
		c, _ := resolver(t, tt.records...)
		f := Finder{Resolver: c, Hostname: "self", IsSelf: func(host string, _ uint16, _ []netip.Addr) bool { return host == "self" }}
		p, err := f.Find(t.Context(), &Destination{Domain: "d.example"})
		var hosts []string
		for _, h := range p.Hosts {
			hosts = append(hosts, h.Name)
		}
		denied, _ := errors.AsType[*Denial](err)
		if strings.Join(hosts, " ") != tt.hosts || (denied != nil) != (tt.denied != "") || denied != nil && denied.Reason.Status(true, denied.Status) != tt.denied || p.NullBeside != tt.null || (p.Self != nil) != tt.self {
			t.Errorf("%s: %+v, %v", tt.name, p, err)
		}
	}
}

func TestAddresses(t *testing.T) {
	c, n := resolver(t, "a.example. 60 IN A 192.0.2.1", `text.example. 60 IN TXT "x"`, "localhost. 60 IN A 127.0.0.1", "mail.localhost. 60 IN A 127.0.0.1")
	n.DNS.Fail("broken.example", "A", testnet.ServFail)
	for _, tt := range []struct {
		host    string
		private bool
		none    bool
		err     bool
	}{
		{"a.example", false, false, false},
		{"text.example", false, true, true},
		{"gone.example", false, true, true},
		{"broken.example", false, false, true},
		{"192.0.2.1", true, true, true},
		{"[192.0.2.1]", true, true, true},
		{`192\.0\.2\.1`, true, true, true},
		{"[ipv6:2001:db8::1]", true, true, true},
		{"2001:db8::1", true, true, true},
		{"localhost", false, true, true},
		{"mail.localhost", false, true, true},
		{"localhost", true, false, false},
	} {
		f := Finder{Resolver: c}
		_, err := f.Lookup(t.Context(), tt.host, tt.private)
		if none, ok := errors.AsType[*NoAddress](err); ok != tt.none || (err != nil) != tt.err || ok && none.Host != tt.host {
			t.Errorf("%s: %v", tt.host, err)
		}
	}
	if n.DNS.Asked("192.0.2.1", "A") > 0 {
		t.Error("an address was looked up")
	}
}

func TestHomeless(t *testing.T) {
	c, _ := resolver(t, "a.example. 60 IN A 192.0.2.1")
	f := Finder{Resolver: c}
	plan := func(names ...string) *Plan {
		p := &Plan{From: FromMX, Domain: "d.example"}
		for _, name := range names {
			p.Hosts = append(p.Hosts, Host{Name: name})
		}
		return p
	}
	var many []string
	for i := range maxLookups {
		many = append(many, fmt.Sprintf("n%02d.example", i))
	}
	for _, tt := range []struct {
		plan *Plan
		want string
	}{
		{plan(), ""},
		{plan("a.example"), ""},
		{plan("gone.example", "a.example"), ""},
		{plan("gone.example"), "d.example has no mail host: gone.example does not exist"},
		{plan("192.0.2.1", "gone.example"), "d.example has no mail host: the MX record holds the address 192.0.2.1 instead of the name of a host, gone.example does not exist"},
		{&Plan{From: FromAddress, Domain: "d.example", Hosts: []Host{{Name: "d.example"}}, Implicit: true}, "d.example has no mail host: there is neither an MX record nor an address"},
		{plan(many...), "d.example has no mail host: n00.example does not exist, n01.example does not exist, n02.example does not exist, n03.example does not exist, n04.example does not exist and 35 more of the kind"},
		{plan(append(many, "one-more.example")...), ""},
	} {
		if got := f.Homeless(t.Context(), tt.plan, false).String(); got != tt.want {
			t.Errorf("%v: %q", tt.plan.Hosts, got)
		}
	}
}

// What was forgotten is asked anew.
func TestForget(t *testing.T) {
	c, n := resolver(t, "d.example. 3600 IN MX 10 a.example.", "a.example. 3600 IN A 192.0.2.1")
	f := Finder{Resolver: c}
	for want := range 3 {
		p, err := f.Find(t.Context(), &Destination{Domain: "d.example"})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := f.Lookup(t.Context(), "a.example", false); err != nil {
				t.Fatal(err)
			}
		}
		if mx, a := n.DNS.Asked("d.example", "MX"), n.DNS.Asked("a.example", "A"); mx != want+1 || a != want+1 {
			t.Errorf("asked %d and %d times, want %d", mx, a, want+1)
		}
		f.Forget(&p)
	}
}

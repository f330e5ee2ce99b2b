package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/relay"
)

// internet is a fake Internet and a configuration that lives in it.
func internet(t *testing.T, more string) (n *testnet.Net, file string) {
	t.Helper()
	n, err := testnet.New(testnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	dir := t.TempDir()
	file = filepath.Join(dir, "relay.toml")
	text := fmt.Sprintf("hostname = \"relay.example.com\"\ndata_dir = %q\n[dns]\nservers = [%q]\n[delivery]\nca_file = \"ca.pem\"\nprivate_addresses = \"allow\"\n%s", dir, n.DNS.Addr(), more)
	for name, content := range map[string]string{file: text, filepath.Join(dir, "ca.pem"): string(n.CA.PEM())} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return n, file
}

// enforcing adds a domain with one host and a policy for it.
func enforcing(t *testing.T, n *testnet.Net, domain string, f testnet.Faults) {
	t.Helper()
	h, err := n.AddHost("mx1." + domain)
	if err == nil {
		err = h.Set(f)
	}
	if err == nil {
		err = n.AddDomain(domain, testnet.Domain{MX: []string{h.Name}, Policy: testnet.Policy{ID: "1", Mode: "enforce", MX: []string{h.Name}, MaxAge: 604800}})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// checkCommand runs a command whose connections stay in the fake Internet.
func checkCommand(t *testing.T, n *testnet.Net, args ...string) result {
	t.Helper()
	var out, errOut bytes.Buffer
	a := newApp(strings.NewReader(""), &out, &errOut, nil)
	a.dial = n.DialContext
	status := a.run(append([]string{"check"}, args...))
	return result{status, out.String(), errOut.String()}
}

func TestCheckFromTheCommandLine(t *testing.T) {
	n, file := internet(t, "[[domain]]\nname = \".ruled.example\"\ntls = \"dane\"\n")
	enforcing(t, n, "good.example", testnet.Faults{})
	enforcing(t, n, "stripped.example", testnet.Faults{NoStartTLS: true})
	enforcing(t, n, "a.ruled.example", testnet.Faults{})
	for _, tt := range []struct {
		args   string
		status int
		out    string
		err    string
	}{
		{"good.example", 0, "MTA-STS (enforce)\n", ""},
		{"Good.Example.", 0, "good.example  checked", ""},
		{"someone@good.example", 0, "good.example  checked", ""},
		{"good.example --timeout 5s", 0, "Outcome\n  ok ", ""},
		{"stripped.example", 1, "Outcome\n  FAIL  mail waits", ""},
		{"a.ruled.example", 1, "[[domain]] .ruled.example\n  tls = \"dane\"", ""},
		{"nowhere.example", 1, "mail bounces at once", ""},
		{"", 2, "", "takes one domain"},
		{"a.example b.example", 2, "", "takes one domain"},
		{"a..b", 2, "", "is not a domain"},
		{"good.example --timeout 0s", 2, "", "--timeout must be longer"},
		{"good.example --timeout soon", 2, "", "invalid argument"},
		{"good.example --all-queued", 2, "", "not both"},
		{"--all-queued", 3, "", "the relay is not running"},
	} {
		r := checkCommand(t, n, append(strings.Fields(tt.args), "--config", file)...)
		if r.status != tt.status || !strings.Contains(r.out, tt.out) || !strings.Contains(r.err, tt.err) || tt.err == "" && r.err != "" {
			t.Errorf("%s: status %d, want %d\n%s%s", tt.args, r.status, tt.status, r.out, r.err)
		}
		if strings.Contains(r.out, "\x1b") {
			t.Errorf("%s: colours in what is no terminal", tt.args)
		}
	}
}

func TestCheckAsJSON(t *testing.T) {
	n, file := internet(t, "")
	enforcing(t, n, "expired.example", testnet.Faults{Cert: testnet.CertSpec{Expired: true}})
	r := checkCommand(t, n, "expired.example", "--json", "--config", file)
	var got struct {
		Domain  string
		Outcome struct {
			Goes         bool
			Action, Text string
		}
		Policy struct {
			Mode    string
			InForce bool `json:"in_force"`
		}
		Hosts []struct {
			Sessions []struct {
				Verdicts []struct {
					Source, Type string
					Binding, Met bool
				}
				Problems []struct{ Severity, Rule, Mend string }
			}
		}
	}
	unmarshal(t, r.out, &got)
	if r.status != 1 || got.Domain != "expired.example" || got.Outcome.Goes || got.Outcome.Action != "wait" || got.Policy.Mode != "enforce" || !got.Policy.InForce {
		t.Errorf("status %d, %+v", r.status, got)
	}
	s := got.Hosts[0].Sessions[0]
	if v := s.Verdicts[0]; v.Source != "MTA-STS" || v.Type != "certificate-expired" || !v.Binding || v.Met {
		t.Errorf("%+v", v)
	}
	if p := s.Problems[0]; p.Severity != "fault" || p.Rule != "RFC 8461, 4.2" || p.Mend == "" {
		t.Errorf("%+v", p)
	}
}

func TestCheckSeesTheRunningRelay(t *testing.T) {
	n, file := internet(t, "paused = true\n[[listen]]\naddress = \"127.0.0.1:0\"\n[limits]\nfree_space = \"64MiB\"\n")
	enforcing(t, n, "one.example", testnet.Faults{})
	enforcing(t, n, "two.example", testnet.Faults{StartTLSReply: "454 4.7.0 no"})
	running := started(t, file, relay.Options{Dial: n.DialContext, Roots: n.CA.Roots()})
	for _, to := range []string{"kurt@one.example", "kurt@two.example"} {
		sendInClear(t, running.Addrs()[0].String(), to)
	}
	r := checkCommand(t, n, "--all-queued", "--config", file)
	for _, want := range []string{"ok    one.example  1 message: mail goes to mx1.one.example", "FAIL  two.example  1 message: mail waits"} {
		if r.status != 1 || !strings.Contains(r.out, want) {
			t.Errorf("status %d, %q is not in:\n%s%s", r.status, want, r.out, r.err)
		}
	}
	var list []struct {
		Domain   string
		Messages int
		Outcome  struct{ Goes bool }
	}
	unmarshal(t, checkCommand(t, n, "--all-queued", "--json", "--config", file).out, &list)
	if len(list) != 2 || list[0].Messages != 1 || list[0].Outcome.Goes == list[1].Outcome.Goes {
		t.Errorf("%+v", list)
	}
	if r := command(t, "", "policy", "refresh", "two.example", "--config", file); r.status != 0 {
		t.Fatal(r.err)
	}
	if r := checkCommand(t, n, "two.example", "--config", file); !strings.Contains(r.out, "In the cache of the running relay\n  mode enforce, id 1, mx mx1.two.example, until ") {
		t.Errorf("the running relay's cache is not in:\n%s", r.out)
	}
	if r := checkCommand(t, n, "one.example", "--config", file); strings.Contains(r.out, "In the cache") {
		t.Errorf("a check has changed the running relay's cache:\n%s", r.out)
	}
	if r := command(t, "", "queue", "remove", "--domain", "two.example", "--config", file); r.status != 0 {
		t.Fatal(r.err)
	}
	if r := checkCommand(t, n, "--all-queued", "--config", file); r.status != 0 {
		t.Errorf("status %d:\n%s", r.status, r.out)
	}
	if r := command(t, "", "queue", "remove", "--all", "--config", file); r.status != 0 {
		t.Fatal(r.err)
	}
	if r := checkCommand(t, n, "--all-queued", "--config", file); r.status != 0 || !strings.Contains(r.out, "nothing is queued") {
		t.Errorf("status %d:\n%s", r.status, r.out)
	}
}

func TestCheckSelfFromTheCommandLine(t *testing.T) {
	n, file := internet(t, "")
	enforcing(t, n, "good.example", testnet.Faults{})
	r := checkCommand(t, n, "--self", "anna@good.example", "--config", file)
	if r.status != 1 || !strings.Contains(r.out, "FAIL  the name relay.example.com, which the relay greets with, has no address") ||
		!strings.Contains(r.out, "ok    port 25 is open to the outside: mx1.good.example") {
		t.Errorf("%+v", r)
	}
	if err := n.DNS.Add("relay.example.com. 60 IN A 192.0.2.1", "1.2.0.192.in-addr.arpa. 60 IN PTR relay.example.com."); err != nil {
		t.Fatal(err)
	}
	if r := checkCommand(t, n, "--self", "--json", "good.example", "--config", file); r.status != 0 || !strings.Contains(r.out, `"text": "example.com has no SPF record"`) {
		t.Errorf("%+v", r)
	}
}

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/relay"
	"github.com/stsrelay/stsrelay/relay/check"
)

// internet is a fake Internet and a configuration that lives in it.
func internet(t *testing.T, more string) (n *testnet.Net, file string) {
	t.Helper()
	return internetWith(t, testnet.Options{}, more)
}

// internetWith is internet with options.
func internetWith(t *testing.T, o testnet.Options, more string) (n *testnet.Net, file string) {
	t.Helper()
	n, err := testnet.New(o)
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
	enforcing(t, n, "open.example", testnet.Faults{})
	n.DNS.Remove("_mta-sts.open.example", "TXT")
	if err := n.DNS.Add("_mta-sts.open.example. 60 IN TXT \"v=STSv1\""); err != nil { // it has no id
		t.Fatal(err)
	}
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
		{"good.example stripped.example", 1, "Outcome\n  ok ", ""},
		{"--brief good.example stripped.example Good.example a.ruled.example", 1, "ok    good.example      MTA-STS enforce   deliver; note: there is no TLS-RPT record: nobody tells the domain's owner of failures\n" +
			"FAIL  stripped.example  MTA-STS enforce   wait; FAIL: mx1.stripped.example does not offer STARTTLS\n" +
			"FAIL  a.ruled.example   MTA-STS enforce+rule dane  wait; FAIL: mx1.a.ruled.example has no usable TLSA records in a signed zone\n", ""},
		{"--brief --strict good.example", 0, "ok    good.example", ""},
		{"--brief open.example", 0, "ok    open.example  none              deliver; FAIL: ", ""},
		{"--brief --strict open.example", 1, "ok    open.example", ""},
		{"--strict open.example", 1, "Outcome\n  ok ", ""},
		{"", 2, "", "takes domains"},
		{"good.example --file x", 1, "", "--file: open x"},
		{"--file - --all-queued", 2, "", "not both"},
		{"--self --brief", 2, "", "--self is about the relay itself"},
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

// The domains of a file are checked in its order, each once; one line of JSON for each.
func TestCheckDomainsOfAFile(t *testing.T) {
	n, file := internet(t, "")
	enforcing(t, n, "good.example", testnet.Faults{})
	enforcing(t, n, "stripped.example", testnet.Faults{NoStartTLS: true})
	list := filepath.Join(t.TempDir(), "domains")
	read := func(in string, args ...string) result {
		if err := os.WriteFile(list, []byte(in), 0o600); err != nil {
			t.Fatal(err)
		}
		return checkCommand(t, n, append([]string{"--config", file, "--file", list}, args...)...)
	}
	const domains = "\ufeff# partners\r\n\r\nstripped.example # the bank\r\nGOOD.example\nanna@good.example\n"
	r := read(domains, "--json", "--brief")
	var lines []check.Brief
	for d := json.NewDecoder(strings.NewReader(r.out)); ; {
		var b check.Brief
		err := d.Decode(&b)
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, b)
	}
	if r.status != 1 || len(lines) != 2 || strings.Count(r.out, "\n") != 2 || lines[0].Domain != "stripped.example" || lines[0].Outcome.Action != "wait" ||
		lines[0].Worst == nil || lines[0].Worst.Severity != check.Fault || lines[1].Domain != "good.example" || lines[1].Requirement != "MTA-STS enforce" {
		t.Errorf("status %d:\n%s", r.status, r.out)
	}
	if r := read("good.example\n", "--json"); r.status != 0 || strings.Count(r.out, "\n") != 1 || !strings.Contains(r.out, `"mta_sts_record":`) {
		t.Errorf("one domain of a file: status %d:\n%s", r.status, r.out)
	}
	if r := read("# none\n"); r.status != 2 || !strings.Contains(r.err, "names no domain") {
		t.Errorf("%+v", r)
	}
	if r := read("good.example\na..b\n"); r.status != 2 || r.out != "" || !strings.Contains(r.err, "line 2: ") {
		t.Errorf("%+v", r)
	}
	var out, errOut bytes.Buffer
	a := newApp(strings.NewReader("good.example\n"), &out, &errOut, nil)
	a.dial = n.DialContext
	if status := a.run([]string{"check", "--file", "-", "--brief", "--config", file}); status != 0 || !strings.HasPrefix(out.String(), "ok    good.example") {
		t.Errorf("status %d: %s%s", status, out.String(), errOut.String())
	}
}

// A check that meets nothing wrong itself says what the relay's own last attempt met.
func TestCheckSaysWhatTheRelaysOwnAttemptMet(t *testing.T) {
	n, file := internet(t, "[[listen]]\naddress = \"127.0.0.1:0\"\n[limits]\nfree_space = \"64MiB\"\n")
	enforcing(t, n, "full.example", testnet.Faults{Replies: map[string]string{"rcpt": "452 4.2.2 mailbox full"}})
	running := started(t, file, relay.Options{Dial: n.DialContext, Roots: n.CA.Roots()})
	sendInClear(t, running.Addrs()[0].String(), "kurt@full.example")
	if left(t, running.Queue()) {
		t.Fatal("it has left")
	}
	r := checkCommand(t, n, "full.example", "--config", file)
	page := strings.Join(strings.Fields(r.out), " ")
	for _, want := range []string{"In the queue of the running relay 1 message, the oldest for ", "; next attempt in ", "warn the last attempt at this mail met: ", "452 4.2.2 mailbox full", "; but mail of the running relay waits, whose last attempt met: "} {
		if r.status != 0 || !strings.Contains(page, want) {
			t.Errorf("status %d, %q is not in:\n%s", r.status, want, r.out)
		}
	}
	if r := checkCommand(t, n, "--brief", "full.example", "--config", file); !strings.Contains(r.out, "deliver; warn: the last attempt at this mail met: ") {
		t.Error(r.out)
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

// The check of a domain that this relay publishes compares what it serves with what others
// see: here an older policy that a server before the relay has kept.
func TestCheckOfADomainThatThisRelayPublishes(t *testing.T) {
	n, file := internet(t, "[[listen]]\naddress = \"127.0.0.1:0\"\n[limits]\nfree_space = \"64MiB\"\n"+
		"[publisher]\nhttps = \"127.0.0.1:0\"\ntls = \"proxy\"\n[[publish]]\ndomains = [\"own.example\"]\nmode = \"enforce\"\nmx = [\"mx1.own.example\"]\n")
	enforcing(t, n, "own.example", testnet.Faults{})
	if err := n.SetPolicy("own.example", testnet.Policy{ID: "OLD", Mode: "testing", MX: []string{"mx1.own.example"}, MaxAge: 86400}); err != nil {
		t.Fatal(err)
	}
	n.DNS.Remove("_mta-sts.own.example", "TXT")
	if err := n.DNS.Add("_mta-sts.own.example. 60 IN TXT \"v=STSv1; id=OLD\""); err != nil {
		t.Fatal(err)
	}
	started(t, file, relay.Options{Dial: n.DialContext, Roots: n.CA.Roots()})
	r := checkCommand(t, n, "own.example", "--config", file)
	page := strings.Join(strings.Fields(r.out), " ")
	for _, want := range []string{"Published by this relay ok mode enforce, id ", "; the running relay serves it", "FAIL another policy is fetched over its public name, id ", "FAIL _mta-sts.own.example says id=OLD, what is served is "} {
		if r.status != 0 || !strings.Contains(page, want) {
			t.Errorf("status %d, %q is not in:\n%s%s", r.status, want, r.out, r.err)
		}
	}
	if strings.Contains(page, "is in the DNS and not in the policy") {
		t.Errorf("a host of the policy counts as not covered:\n%s", r.out)
	}
}

func TestCheckSelfKnowsACertificateOfAnAuthority(t *testing.T) {
	for more, selfMade := range map[string]bool{"": true, "[tls]\nacme = true\n[acme]\nagree = true\n[publisher]\nhttps = \"127.0.0.1:0\"\n": false} {
		n, file := internet(t, more)
		enforcing(t, n, "good.example", testnet.Faults{})
		r := checkCommand(t, n, "--self", "good.example", "--config", file)
		if strings.Contains(r.out, "the relay's own certificate is self-made") != selfMade || !strings.Contains(r.out, "port 25 is open") {
			t.Errorf("%q: %+v", more, r)
		}
	}
}

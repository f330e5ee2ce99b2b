package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/config"
)

var setupFlags = []string{"--hostname", "relay.example.com", "--allow", "10.0.0.0/24", "--domain", "example.com", "--no-check"}

// Without a terminal the flags say all, nothing is overwritten, and the configuration is
// one with which a relay starts.
func TestSetupByFlags(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	args := append([]string{"setup", "--dir", dir, "--listen", "127.0.0.1:2525"}, setupFlags...)
	file := filepath.Join(dir, "stsrelay.toml")
	for i, name := range []string{file, file + ".new"} {
		r := command(t, "", args...)
		if r.status != 0 || !strings.Contains(r.out, "Written: "+name) || strings.Contains(r.out, "New-SendConnector") {
			t.Fatalf("setup %d: %+v", i, r)
		}
		if c, warnings, err := config.Load(name, nil); err != nil || len(warnings) > 0 || c.Notices.Operator != "postmaster@example.com" {
			t.Errorf("%v, %v, %+v", err, warnings, c)
		}
	}
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(dir, "dkim-stsrelay.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if r := command(t, "", append(args, "--exchange")...); r.status != 1 || !strings.Contains(r.err, "nothing is overwritten") {
		t.Errorf("a third time: %+v", r)
	}
	after, _ := os.ReadFile(file)
	keyAfter, _ := os.ReadFile(filepath.Join(dir, "dkim-stsrelay.pem"))
	if string(before) != string(after) || string(key) != string(keyAfter) {
		t.Error("a file was changed")
	}
}

func TestSetupRefusesWhatCannotBeMeant(t *testing.T) {
	for flag, tt := range map[string]struct{ value, want string }{
		"--hostname":   {"relay", "must be a full name"},
		"--allow":      {"0.0.0.0/0", "a great part of the Internet"},
		"--domain":     {"a b", "--domain: "},
		"--postmaster": {"nobody", "--postmaster: "},
		"--listen":     {"25", "--listen: "},
	} {
		dir := t.TempDir()
		r := command(t, "", append(append([]string{"setup", "--dir", dir}, setupFlags...), flag, tt.value)...)
		if left, _ := os.ReadDir(dir); r.status != 2 || !strings.Contains(r.err, tt.want) || len(left) > 0 {
			t.Errorf("%s %s: %+v, %d files", flag, tt.value, r, len(left))
		}
	}
	if r := command(t, "", "setup", "--dir", t.TempDir(), "--domain", "example.com"); r.status != 2 || !strings.Contains(r.err, "--hostname is missing, and there is no terminal") {
		t.Errorf("%+v", r)
	}
}

// Names are printed and written as they stand in the DNS, however they were typed.
func TestSetupWritesNamesAsTheDNSHasThem(t *testing.T) {
	dir := t.TempDir()
	r := command(t, "", "setup", "--dir", dir, "--hostname", "Relay.Example.com.", "--allow", "10.0.0.0/24", "--domain", "Bücher.example", "--exchange", "--no-check")
	if r.status != 0 {
		t.Fatalf("%+v", r)
	}
	for _, want := range []string{
		"stsrelay._domainkey.xn--bcher-kva.example. IN TXT ", "\nxn--bcher-kva.example. IN TXT \"v=spf1 a:relay.example.com -all\"\n",
		"_dmarc.xn--bcher-kva.example. IN TXT \"v=DMARC1; p=none; rua=mailto:postmaster@xn--bcher-kva.example\"\n", "-SmartHosts \"relay.example.com\" ",
	} {
		if !strings.Contains(r.out, want) {
			t.Errorf("no %q in\n%s", want, r.out)
		}
	}
	c, _, err := config.Load(filepath.Join(dir, "stsrelay.toml"), nil)
	if err != nil || c.Hostname != "relay.example.com" || c.TLSRPT.Sender != "tls-reports@xn--bcher-kva.example" {
		t.Errorf("%v, %q, %q", err, c.Hostname, c.TLSRPT.Sender)
	}
	c.TLSRPT.Sender = "tls-reports@Bücher.example"
	if got := senderDomains(c); len(got) != 1 || got[0] != "xn--bcher-kva.example" {
		t.Errorf("%q: a domain is one, however it is written", got)
	}
}

// A flag that would have no effect is refused: what it names would not be written.
func TestSetupTakesNoConfiguration(t *testing.T) {
	dir := t.TempDir()
	r := command(t, "", append([]string{"setup", "--dir", dir, "--config", filepath.Join(dir, "relay.toml")}, setupFlags...)...)
	if left, _ := os.ReadDir(dir); r.status != 2 || !strings.Contains(r.err, "named by --dir") || len(left) > 0 {
		t.Errorf("%+v, %d files", r, len(left))
	}
}

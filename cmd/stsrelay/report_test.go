package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

func TestReportSetupFromNothingToPublished(t *testing.T) {
	n, err := testnet.New(testnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	if err := n.DNS.Add("example.com. 60 IN A 192.0.2.1"); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "relay.toml")
	base := fmt.Sprintf("hostname = \"relay.example.com\"\n[dns]\nservers = [%q]\n", n.DNS.Addr())
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(base)
	setup := func(args ...string) result {
		t.Helper()
		return command(t, "", append([]string{"report", "setup", "--config", file}, args...)...)
	}
	if r := command(t, "", "config", "check", "--config", file); r.status != 0 || !strings.Contains(r.err, "report setup") {
		t.Errorf("config check does not warn: %+v", r)
	}
	r := setup()
	keyFile := filepath.Join(dir, "dkim-tlsrpt.pem")
	if r.status != 1 || !strings.Contains(r.out, "[[dkim]]") || !strings.Contains(r.out, `tlsrpt._domainkey.example.com. IN TXT "v=DKIM1; k=rsa; s=tlsrpt; p=`) || !strings.Contains(r.out, "not published yet") {
		t.Errorf("%+v", r)
	}
	if info, err := os.Stat(keyFile); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v", info, err)
	}
	before, _ := os.ReadFile(keyFile)
	setup() // again: the key stays
	if after, _ := os.ReadFile(keyFile); string(after) != string(before) {
		t.Error("the key was replaced")
	}
	_, record, _ := strings.Cut(r.out, "tlsrpt._domainkey.example.com. IN TXT ")
	record, _, _ = strings.Cut(record, "\n")
	if err := n.DNS.Add("tlsrpt._domainkey.example.com. 60 IN TXT " + record); err != nil {
		t.Fatalf("what is printed is no record: %v", err)
	}
	_, table, _ := strings.Cut(r.out, "[[dkim]]")
	table, _, _ = strings.Cut(table, "\n\n")
	write(base + "[[dkim]]" + table + "\n")
	var got struct {
		Ready bool
		Keys  []map[string]any
	}
	r = setup("--json")
	unmarshal(t, r.out, &got)
	if r.status != 0 || !got.Ready || len(got.Keys) != 1 || got.Keys[0]["published"] != true {
		t.Errorf("%+v", r)
	}
	if r := command(t, "", "config", "check", "--config", file); r.status != 0 || strings.Contains(r.err, "report setup") {
		t.Errorf("config check still warns: %+v", r)
	}
	n.DNS.Remove("tlsrpt._domainkey.example.com", "TXT")
	if err := n.DNS.Add(`tlsrpt._domainkey.example.com. 60 IN TXT "v=DKIM1; k=rsa; p=AAAA"`); err != nil {
		t.Fatal(err)
	}
	if r := setup(); r.status != 1 || !strings.Contains(r.out, "another key") {
		t.Errorf("%+v", r)
	}
	if r := setup("--type", "dsa", "--config", "/dev/null"); r.status != 2 {
		t.Errorf("%+v", r)
	}
}

func TestReportsFromTheCommandLine(t *testing.T) {
	file, _ := operated(t)
	for _, tt := range []struct {
		args   string
		status int
		out    string
		err    string
	}{
		{"report list", 0, "nothing was counted", ""},
		{"report list --json", 0, "[]", ""},
		{"report preview", 0, "[]", ""},
		{"report preview --domain none.example", 1, "", "nothing was counted for none.example"},
		{"report preview --date tomorrow", 2, "", "not a date such as"},
		{"report list --domain bad..domain", 2, "", "not a domain"},
		{"report send", 0, "nothing was counted", ""},
		{"report send --json", 0, "[]", ""},
		{"report send --domain none.example --date 2026-11-23", 1, "", "nothing was counted for none.example on 2026-11-23"},
		{"report", 2, "setup", "needs a command"},
	} {
		r := command(t, "", append(strings.Fields(tt.args), "--config", file)...)
		if r.status != tt.status || !strings.Contains(r.out, tt.out) || !strings.Contains(r.err, tt.err) {
			t.Errorf("%s: status %d\n%s%s", tt.args, r.status, r.out, r.err)
		}
	}
}

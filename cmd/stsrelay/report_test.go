package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/relay"
	"github.com/stsrelay/stsrelay/tlsrpt"
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
	if r.status != 1 || !strings.Contains(r.out, "[[dkim]]") || !strings.Contains(r.out, `tlsrpt._domainkey.example.com. IN TXT "v=DKIM1; k=rsa; s=tlsrpt:email; p=`) || !strings.Contains(r.out, "not published yet") {
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
	// A record of before works at those who know RFC 8460 alone.
	n.DNS.Remove("tlsrpt._domainkey.example.com", "TXT")
	if err := n.DNS.Add("tlsrpt._domainkey.example.com. 60 IN TXT " + strings.Replace(record, "s=tlsrpt:email", "s=tlsrpt", 1)); err != nil {
		t.Fatal(err)
	}
	if r := setup(); r.status != 0 || !strings.Contains(r.out, "WARNING: the key tlsrpt._domainkey.example.com is published, but it says s=tlsrpt alone") || !strings.Contains(r.out, "s=tlsrpt:email") {
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

// The command line lists, previews and sends reports of what was counted.
func TestCountedReportsFromTheCommandLine(t *testing.T) {
	n, err := testnet.New(testnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	mx, err := n.AddHost("mx.a.example")
	if err != nil {
		t.Fatal(err)
	}
	h, err := n.AddReportHost("reports.example")
	if err != nil {
		t.Fatal(err)
	}
	if err := mx.Set(testnet.Faults{NoStartTLS: true}); err != nil {
		t.Fatal(err)
	}
	for d, rua := range map[string]string{"a.example": "https://reports.example/a", "b.example": "https://reports.example/b", "none.example": ""} {
		if err := n.AddDomain(d, testnet.Domain{MX: []string{mx.Name}, TLSRPT: rua}); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "relay.toml")
	text := fmt.Sprintf("hostname = \"relay.example.com\"\ndata_dir = %q\n[[listen]]\naddress = \"127.0.0.1:0\"\n[limits]\nfree_space = \"64MiB\"\n[delivery]\nprivate_addresses = \"allow\"\n[dns]\nservers = [%q]\n", filepath.Join(dir, "data"), n.DNS.Addr())
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := started(t, file, relay.Options{Version: "1.2.3", Dial: n.DialContext, Roots: n.CA.Roots()})
	for _, to := range []string{"kurt@a.example", "kurt@b.example", "kurt@none.example"} {
		sendInClear(t, r.Addrs()[0].String(), to)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := mx.Wait(ctx, 3); err != nil {
		t.Fatal(err)
	}
	report := func(args string) result {
		t.Helper()
		return command(t, "", append(strings.Fields("report "+args), "--config", file)...)
	}
	var list []tlsrpt.Status
	for len(list) < 3 { // the counts come with the results of the deliveries
		unmarshal(t, report("list --json").out, &list)
		if ctx.Err() != nil {
			t.Fatalf("%+v", list)
		}
	}
	today := list[0].Day
	if list[0].Domain != "a.example" || list[0].State != tlsrpt.Counting || list[0].Sessions != 1 || list[0].Failures != 1 || list[0].NextAt == nil {
		t.Errorf("%+v", list[0])
	}
	if r := report("list --domain A.Example"); r.status != 0 || strings.Count(r.out, "\n") != 2 || !strings.Contains(r.out, "a.example") || !strings.Contains(r.out, "counting") {
		t.Errorf("list: %+v", r)
	}
	if r := report("list --date 2020-01-01"); r.status != 0 || !strings.Contains(r.out, "nothing was counted") {
		t.Errorf("list of another day: %+v", r)
	}
	preview := report("preview --domain a.example")
	if _, err := testnet.ReadTLSReport([]byte(preview.out)); err != nil {
		t.Errorf("preview: %v in %+v", err, preview)
	}
	var all []json.RawMessage
	if unmarshal(t, report("preview --date "+today).out, &all); len(all) != 3 {
		t.Errorf("%d reports", len(all))
	}
	h.Answer(testnet.Answer{Status: 200}, testnet.Answer{Status: 410})
	sent := report("send --json --date " + today)
	var after []tlsrpt.Status
	unmarshal(t, sent.out, &after)
	if sent.status != 1 || !strings.Contains(sent.err, "1 report could not be sent") || len(after) != 3 ||
		after[0].State != tlsrpt.Sent || after[1].State != tlsrpt.Failed || after[2].State != tlsrpt.Skipped {
		t.Errorf("send: %+v", sent)
	}
	if posts := h.Posts(); len(posts) != 2 || !sameJSON(t, posts[0].Report, preview.out) {
		t.Errorf("%d posts; preview\n%s", len(posts), preview.out)
	}
	h.Answer(testnet.Answer{Status: 500})
	if r := report("send --date " + today); r.status != 1 || !strings.Contains(r.err, "1 report could not be sent yet; the relay tries again by itself") {
		t.Errorf("send to a receiver that is down: %+v", r)
	}
	if r := report("send --date " + today); r.status != 0 || !strings.Contains(r.out, "sent") || !strings.Contains(r.out, "publishes no TLS-RPT record") {
		t.Errorf("send again: %+v", r)
	}
	if posts := h.Posts(); len(posts) != 4 || posts[3].Path != "POST /b" {
		t.Errorf("what was accepted was sent again: %+v", posts)
	}
}

func sameJSON(t *testing.T, a []byte, b string) bool {
	t.Helper()
	var x, y bytes.Buffer
	if err := errors.Join(json.Compact(&x, a), json.Compact(&y, []byte(b))); err != nil {
		t.Fatal(err)
	}
	return x.String() == y.String()
}

func TestReportCommandsWhereReportsAreSwitchedOff(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "relay.toml")
	text := fmt.Sprintf("hostname = \"relay.example.com\"\ndata_dir = %q\n[[listen]]\naddress = \"127.0.0.1:0\"\n[limits]\nfree_space = \"64MiB\"\n[dns]\nservers = [\"127.0.0.1:1\"]\n[tlsrpt]\nenabled = false\n", filepath.Join(dir, "data"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	started(t, file, relay.Options{Version: "1.2.3"})
	for _, args := range []string{"list", "list --json", "preview", "send"} {
		r := command(t, "", append(strings.Fields("report "+args), "--config", file)...)
		if r.status != 1 || r.out != "" || !strings.Contains(r.err, "TLS reports are switched off (tlsrpt.enabled)") {
			t.Errorf("%s: %+v", args, r)
		}
	}
	if r := command(t, "", "config", "check", "--config", file); r.status != 0 || strings.Contains(r.err, "report setup") {
		t.Errorf("config check asks for a key that nobody needs: %+v", r)
	}
}

func TestReportSetupMakesAnEd25519Key(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "relay.toml")
	if err := os.WriteFile(file, []byte("hostname = \"relay.example.com\"\n[dns]\nservers = [\"127.0.0.1:1\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := command(t, "", "report", "setup", "--config", file, "--json", "--type", "ed25519", "--selector", "second")
	var got struct {
		Ready  bool
		Sender string
		Keys   []map[string]any
	}
	unmarshal(t, r.out, &got)
	if r.status != 1 || got.Ready || got.Sender != "postmaster@example.com" || len(got.Keys) != 1 {
		t.Fatalf("%+v", r)
	}
	k := got.Keys[0]
	if record := fmt.Sprint(k["record"]); !strings.HasPrefix(record, "v=DKIM1; k=ed25519; s=tlsrpt:email; p=") || k["record_name"] != "second._domainkey.example.com" || !strings.Contains(fmt.Sprint(k["problem"]), "cannot be told now") {
		t.Errorf("%+v", k)
	}
}

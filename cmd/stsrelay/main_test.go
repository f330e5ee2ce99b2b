package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/smtp"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/relay"
)

// result is what a command left behind.
type result struct {
	status   int
	out, err string
}

func command(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	var out, errOut bytes.Buffer
	status := run(args, strings.NewReader(stdin), &out, &errOut, []string{"STSRELAY_HOSTNAME=relay.example.com"})
	if strings.Contains(errOut.String(), "goroutine ") {
		t.Errorf("%v printed a stack trace", args)
	}
	return result{status, out.String(), errOut.String()}
}

func TestExitStatusAndWords(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("bad.toml", []byte("[delivery]\nplaintext = \"maybe\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("good.toml", []byte("hostname = \"relay.example.com\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("long.toml", []byte("admin.socket = \"/tmp/"+strings.Repeat("x", 103)+"\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args   string
		status int
		out    string // part of standard output
		err    string // part of standard error
	}{
		{"version", 0, "stsrelay dev", ""},
		{"version --json", 0, `"version": "dev"`, ""},
		{"help", 0, "Available Commands", ""},
		{"help queue", 0, "summary", ""},
		{"help queue list", 0, "--older-than", ""},
		{"help nosuch", 2, "", `there is no command "nosuch"`},
		{"help queue nosuch", 2, "", `there is no command "queue nosuch"`},
		{"completion bash", 0, "bash completion", ""},
		{"completion nosh", 2, "", `there is no command "nosh" below "completion"`},
		{"frob", 2, "", `there is no command "frob"`},
		{"queue", 2, "Available Commands", "needs a command"},
		{"queue frob", 2, "", `there is no command "frob" below "queue"`},
		{"queue show", 2, "", "takes one ID"},
		{"queue retry", 2, "", "say which messages"},
		{"queue list --state bogus", 2, "", "must be queued, active or held"},
		{"queue retry --all --domain a.example", 2, "", "--all is all messages; with IDs or a filter it is a contradiction"},
		{"queue remove --all --older-than 2h --yes", 2, "", "contradiction"},
		{"queue hold --all 01KAR7M3", 2, "", "contradiction"},
		{"queue remove --older-than -5m", 2, "", "must be a time such as 30m, 2h or 5d"},
		{"queue remove --older-than 0s", 2, "", "must be a time"},
		{"queue list --limit 0", 2, "", "at least 1"},
		{"queue list --older-than 2d --config good.toml", 3, "", "not running"},
		{"config check --json --config bad.toml", 1, "\"problems\": [\n    \"bad.toml:2: delivery.plaintext", ""},
		{"config check --json --config good.toml", 0, `"problems": []`, ""},
		{"config print --json --config good.toml", 0, `"sender_domains": []`, ""},
		{"check --self --all-queued", 2, "", "not both"},
		{"check --self bad..domain --config good.toml", 2, "", "not a domain"},
		{"status --frob", 2, "", "unknown flag: --frob"},
		{"status extra", 2, "", "one argument too many"},
		{"--config good.toml status", 3, "", "the relay is not running"},
		{"status --config good.toml", 3, "", "start it with: stsrelay serve"},
		{"queue list --config good.toml --json", 3, "", "not running"},
		{"config check --config good.toml", 0, "good.toml: ok", ""},
		{"config check --config bad.toml", 1, "", `bad.toml:2: delivery.plaintext = "maybe": must be "allow" or "refuse"`},
		{"serve --config bad.toml", 1, "", `bad.toml:2: delivery.plaintext`},
		{"status --config bad.toml", 3, "", `warning: bad.toml:2: delivery.plaintext`},
		{"status --config nowhere.toml", 1, "", "nowhere.toml"},
		{"status --config long.toml", 3, "", "is too long for a socket"},
		{"config check --config long.toml", 1, "", "long.toml:1: admin.socket"},
		{"config check --config nowhere.toml", 1, "", "nowhere.toml"},
		{"config print --config good.toml", 0, `plaintext = 'allow'`, ""},
		{"config print --config good.toml --json", 0, `"expire": "120h"`, ""},
	} {
		r := command(t, "", strings.Fields(tt.args)...)
		if r.status != tt.status || !strings.Contains(r.out, tt.out) || !strings.Contains(r.err, tt.err) {
			t.Errorf("%s: status %d, want %d\n%s%s", tt.args, r.status, tt.status, r.out, r.err)
		}
	}
}

func TestUserHash(t *testing.T) {
	r := command(t, "secret\n", "user", "hash")
	if r.status != 0 || bcrypt.CompareHashAndPassword([]byte(strings.TrimSpace(r.out)), []byte("secret")) != nil {
		t.Errorf("%+v", r)
	}
	if r = command(t, "\n", "user", "hash"); r.status != 1 {
		t.Errorf("an empty password: %+v", r)
	}
}

// operated is a relay that delivers nothing, with two messages in its queue.
func operated(t *testing.T) (file string, ids []string) {
	t.Helper()
	dir := t.TempDir()
	file = filepath.Join(dir, "relay.toml")
	text := fmt.Sprintf("hostname = \"relay.example.com\"\ndata_dir = %q\n[[listen]]\naddress = \"127.0.0.1:0\"\n[limits]\nfree_space = \"64MiB\"\n[delivery]\npaused = true\n[dns]\nservers = [\"127.0.0.1:1\"]\n", filepath.Join(dir, "data"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := started(t, file, relay.Options{Version: "1.2.3"})
	for _, to := range []string{"kurt@one.example", "kurt@two.example"} {
		if err := smtp.SendMail(r.Addrs()[0].String(), nil, "anna@example.com", []string{to}, []byte("Subject: for "+to+"\r\n\r\nhello\r\n")); err != nil &&
			!strings.Contains(err.Error(), "certificate") { // SendMail wants to verify ours
			t.Fatal(err)
		} else if err != nil {
			sendInClear(t, r.Addrs()[0].String(), to)
		}
	}
	var list []struct{ ID string }
	unmarshal(t, command(t, "", "queue", "list", "--json", "--config", file).out, &list)
	for _, m := range list {
		ids = append(ids, m.ID)
	}
	return file, ids
}

// started is a relay that runs by a configuration until the test ends.
func started(t *testing.T, file string, o relay.Options) *relay.Relay {
	t.Helper()
	o.Load = func() (*config.Config, error) {
		c, _, err := config.Load(file, nil)
		return c, err
	}
	var err error
	if o.Config, err = o.Load(); err != nil {
		t.Fatal(err)
	}
	r, err := relay.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done, ready := make(chan error, 1), make(chan struct{})
	go func() { done <- r.Run(ctx, func() { close(ready) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-ready
	return r
}

func sendInClear(t *testing.T, addr, to string) {
	t.Helper()
	c, err := smtp.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Mail("anna@example.com"); err != nil {
		t.Fatal(err)
	}
	if err := c.Rcpt(to); err != nil {
		t.Fatal(err)
	}
	w, err := c.Data()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(w, "Subject: for %s\r\n\r\nhello\r\n", to)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func unmarshal(t *testing.T, text string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
}

func keys(t *testing.T, object any) []string {
	t.Helper()
	var out []string
	for k := range object.(map[string]any) {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func TestTheQueueFromTheCommandLine(t *testing.T) {
	file, ids := operated(t)
	if len(ids) != 2 {
		t.Fatalf("%v", ids)
	}
	do := func(args ...string) result { t.Helper(); return command(t, "", append(args, "--config", file)...) }
	touched := func(want int, args ...string) {
		t.Helper()
		var got struct{ Touched int }
		r := do(append(args, "--json")...)
		unmarshal(t, r.out, &got)
		if got.Touched != want || r.status != 0 {
			t.Errorf("%v: %d touched, want %d, status %d %s", args, got.Touched, want, r.status, r.err)
		}
	}
	state := func(id string) string {
		t.Helper()
		var m struct{ State string }
		unmarshal(t, do("queue", "show", id, "--json").out, &m)
		return m.State
	}

	var list []any
	unmarshal(t, do("queue", "list", "--json").out, &list)
	m := list[0].(map[string]any)
	for _, k := range []string{"id", "state", "from", "size", "received_at", "client", "next_attempt_at", "attempts", "recipients"} {
		if _, ok := m[k]; !ok {
			t.Errorf("a message has no %s: %v", k, keys(t, m))
		}
	}
	rcpt := m["recipients"].([]any)[0]
	for _, k := range []string{"address", "state", "attempts", "last_reply", "last_error", "tls"} {
		if _, ok := rcpt.(map[string]any)[k]; !ok {
			t.Errorf("a recipient has no %s: %v", k, keys(t, rcpt))
		}
	}
	var sum []map[string]any
	unmarshal(t, do("queue", "summary", "--json").out, &sum)
	if len(sum) != 2 || sum[0]["messages"] != 1.0 || sum[0]["domain"] != "one.example" {
		t.Errorf("summary %v", sum)
	}
	for _, k := range []string{"recipients", "oldest_at", "next_attempt_at", "last_error"} {
		if _, ok := sum[0][k]; !ok {
			t.Errorf("the summary has no %s", k)
		}
	}
	for args, want := range map[string]string{
		"queue list":                        "kurt@one.example",
		"queue list --domain two.example":   ids[1],
		"queue show " + ids[0]:              "client    ",
		"queue show " + ids[0] + " --json":  `"state": "queued"`,
		"queue cat " + ids[1]:               "Subject: for kurt@two.example",
		"queue summary":                     "two.example",
		"status":                            "stsrelay 1.2.3 on relay.example.com",
		"status --json":                     `"messages": 2`,
		"policy list --json":                "[]",
		"policy list":                       "no policies are cached",
		"queue list --domain three.example": "no messages",
		"report preview --json":             "[]",
	} {
		if r := do(strings.Fields(args)...); r.status != 0 || !strings.Contains(r.out, want) {
			t.Errorf("%s: %+v", args, r)
		}
	}
	for _, args := range [][]string{{"queue", "list"}, {"queue", "show", ids[0]}, {"queue", "summary"}, {"queue", "retry", ids[0]}} {
		if r := do(args...); !strings.Contains(r.out, "delivery is paused: nothing is tried before stsrelay queue resume") {
			t.Errorf("%v: %s", args, r.out)
		}
	}
	var limited []any
	unmarshal(t, do("queue", "list", "--limit", "1", "--json").out, &limited)
	if len(limited) != 1 {
		t.Errorf("--limit 1 lists %d", len(limited))
	}

	touched(1, "queue", "hold", ids[0])
	if s := state(ids[0]); s != "held" {
		t.Errorf("state %s", s)
	}
	touched(0, "queue", "retry", ids[0])
	touched(1, "queue", "retry", "--all")
	touched(1, "queue", "release", "--domain", "one.example")
	touched(0, "queue", "hold", "--domain", "three.example")
	touched(2, "queue", "retry", "--from", "anna@example.com")
	if s := state(ids[0]); s != "queued" {
		t.Errorf("state %s", s)
	}
	const unknown = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
	for _, args := range [][]string{{"queue", "show", unknown}, {"queue", "cat", unknown}, {"queue", "retry", unknown}, {"queue", "remove", unknown}, {"policy", "show", "a.example"}, {"policy", "remove", "a.example"}, {"policy", "refresh", "a.example"}} {
		if r := do(args...); r.status != 1 || r.err == "" {
			t.Errorf("%v: %+v", args, r)
		}
	}
	if r := do("queue", "remove", unknown, ids[0]); r.status != 1 || !strings.Contains(r.out, "1 message touched") || !strings.Contains(r.err, unknown) {
		t.Errorf("%+v", r)
	}
	if r := do("queue", "bounce", "--all", "--dry-run"); r.out != "bounce: 1 message would be touched\n" || r.status != 0 {
		t.Errorf("%+v", r)
	}
	touched(1, "queue", "remove", "--all", "--dry-run")
	touched(1, "queue", "bounce", "--domain", "two.example", "--reason", "no such company")
	unmarshal(t, do("queue", "list", "--json").out, &list)
	notice := list[0].(map[string]any)
	if len(list) != 1 || notice["from"] != "" {
		t.Fatalf("after the bounce: %v", list)
	}
	if r := do("queue", "cat", notice["id"].(string)); !strings.Contains(r.out, "gave the message up") || !strings.Contains(r.out, "Action: failed") {
		t.Errorf("notice:\n%s", r.out)
	}
	touched(1, "queue", "remove", "--all")
	if r := do("queue", "resume"); r.status != 0 || !strings.Contains(do("status").out, "delivering") {
		t.Errorf("%+v", r)
	}
	if r := do("queue", "list"); strings.Contains(r.out, "paused") {
		t.Error(r.out)
	}
	if r := do("queue", "pause"); r.status != 0 || !strings.Contains(do("status").out, "paused") {
		t.Errorf("%+v", r)
	}
	if r := do("reload"); r.status != 0 || r.out != "reloaded\n" {
		t.Errorf("%+v", r)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, bytes.Replace(text, []byte("relay.example.com"), []byte("other.example.com"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := do("reload"); r.status != 0 || r.out != "reloaded\nwith the next start only: hostname\n" {
		t.Errorf("%+v", r)
	}
	var reloaded map[string]any
	unmarshal(t, do("reload", "--json").out, &reloaded)
	if got := fmt.Sprint(reloaded); got != "map[reloaded:true restart:[hostname]]" {
		t.Error(got)
	}
}

func TestARelayWhoseConfigurationBecameWrongIsStillReached(t *testing.T) {
	file, ids := operated(t)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, more, warning string }{
		{"a bad value", "[log]\nlevel = \"loud\"\n", `log.level = "loud"`},
		{"no TOML", "[log]\nlevel = [\n\n", "relay.toml:13: column"},
	} {
		if err := os.WriteFile(file, append(text, tt.more...), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"status"}, {"queue", "show", ids[0]}, {"queue", "pause"}} {
			if r := command(t, "", append(args, "--config", file)...); r.status != 0 || r.out == "" || !strings.Contains(r.err, "warning: ") || !strings.Contains(r.err, tt.warning) {
				t.Errorf("%s: %v: %+v", tt.name, args, r)
			}
		}
		if r := command(t, "", "reload", "--config", file); r.status != 1 || !strings.Contains(r.err, "stsrelay: ") {
			t.Errorf("%s: %+v", tt.name, r)
		}
	}
}

func TestWhatIsNoMessageAndNoDomainIsToldFromTheCommandLine(t *testing.T) {
	file, ids := operated(t)
	for _, tt := range []struct {
		args   []string
		status int
		out    string
		err    string
	}{
		{[]string{"queue", "show", "export"}, 1, "", `"export": no such message`},
		{[]string{"queue", "cat", "../policies"}, 1, "", `"../policies": no such message`},
		{[]string{"queue", "show", ""}, 1, "", `"": no such message`},
		{[]string{"queue", "show", ids[0][:2]}, 1, "", "several messages"},
		{[]string{"queue", "remove", ids[0][:2]}, 1, "0 messages touched", "several messages have an ID that begins so: " + ids[0][:2]},
		{[]string{"queue", "hold", ids[0][:2], "01ARZ3NDEKTSV4RRFFQ69G5FAV"}, 1, "0 messages touched", "not in the queue: 01ARZ"},
		{[]string{"queue", "list", "--domain", "ONE.example."}, 0, ids[0], ""},
		{[]string{"queue", "list", "--domain", "a b"}, 2, "", "is not a domain"},
		{[]string{"policy", "refresh", "bad domain"}, 2, "", `"bad domain" is not a domain`},
		{[]string{"policy", "show", "Ö.example."}, 1, "", "no policy of xn--nda.example is cached"},
		{[]string{"policy", "remove", "a/b"}, 2, "", "is not a domain"},
		{[]string{"policy", "list"}, 0, "no policies are cached", ""},
		{[]string{"report", "preview", "--domain", "Ö.example."}, 1, "", "nothing was counted for xn--nda.example"},
	} {
		r := command(t, "", append(tt.args, "--config", file)...)
		if r.status != tt.status || !strings.Contains(r.out, tt.out) || !strings.Contains(r.err, tt.err) {
			t.Errorf("%q: %+v", tt.args, r)
		}
	}
}

func TestASecondRelayOnTheSameDataSaysSo(t *testing.T) {
	file, _ := operated(t)
	r := command(t, "", "serve", "--config", file)
	if r.status != 1 || !strings.Contains(r.err, "in use by another process") {
		t.Errorf("%+v", r)
	}
}

func TestDemo(t *testing.T) {
	r := command(t, "", "demo")
	if r.status != 0 || strings.Count(r.out, "✓") < 8 || !strings.Contains(r.out, "All of it happened") {
		t.Errorf("%+v", r)
	}
}

func TestDemoAsJSON(t *testing.T) {
	r := command(t, "", "demo", "--json")
	var got struct {
		OK     bool
		Scenes []struct {
			Title          string
			Results, Notes []string
		}
	}
	unmarshal(t, r.out, &got)
	if r.status != 0 || !got.OK || len(got.Scenes) != 7 || len(got.Scenes[1].Results) != 1 || !strings.Contains(strings.Join(got.Scenes[1].Notes, "\n"), "STARTTLS") {
		t.Errorf("%+v", r)
	}
}

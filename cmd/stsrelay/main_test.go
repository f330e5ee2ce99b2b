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

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/relay"
)

// result is the exit status and the output of a command.
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
		{"version", 0, "go1.", ""},
		{"version --json", 0, `"platform": "linux/`, ""},
		{"status --json --config good.toml", 3, `"running": false`, "not running"},
		{"help", 0, "Available Commands", ""},
		{"help queue", 0, "summary", ""},
		{"help queue list", 0, "--older-than", ""},
		{"help nosuch", 2, "", `there is no command "nosuch"`},
		{"help queue nosuch", 2, "", `there is no command "queue nosuch"`},
		{"completion bash", 0, "bash completion", ""},
		{"completion powershell", 0, "Register-ArgumentCompleter -CommandName 'stsrelay'", ""},
		{"completion nosh", 2, "", `there is no command "nosh" below "completion"`},
		{"frob", 2, "", `there is no command "frob"`},
		{"queue", 2, "Available Commands", "needs a command"},
		{"queue frob", 2, "", `there is no command "frob" below "queue"`},
		{"queue lsit", 2, "", "below \"queue\"\nstsrelay: did you mean: stsrelay queue list (List the messages that wait, oldest first)\nTry: stsrelay help queue\n"},
		{"queue trash restroe", 2, "", "did you mean: stsrelay queue trash restore ("},
		{"statsu", 2, "", "did you mean: stsrelay status (Show how the running relay is)\nTry: stsrelay help\n"},
		{"retry 01", 2, "", "did you mean: stsrelay queue retry ("},
		{"help queue lsit", 2, "", "did you mean: stsrelay queue list ("},
		{"queue list --domian a.example", 2, "", "unknown flag: --domian\nstsrelay: did you mean: --domain (with recipients of this domain)\nTry: stsrelay help queue list\n"},
		{"queue list --jsno", 2, "", "did you mean: --json ("},
		{"queue list --al", 2, "", "unknown flag: --al\nTry: stsrelay help queue list\n"},
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
		{"check --self --all-queued", 2, "", "--self is about the relay itself"},
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

// operated returns a relay that delivers nothing, with two messages in its queue.
func operated(t *testing.T) (file string, ids []string) {
	t.Helper()
	return operatedWith(t, relay.Options{Version: "1.2.3"})
}

// operatedWith is operated with other options.
func operatedWith(t *testing.T, o relay.Options) (file string, ids []string) {
	t.Helper()
	dir := t.TempDir()
	file = filepath.Join(dir, "relay.toml")
	text := fmt.Sprintf("hostname = \"relay.example.com\"\ndata_dir = %q\n[[listen]]\naddress = \"127.0.0.1:0\"\n[limits]\nfree_space = \"64MiB\"\n[delivery]\npaused = true\n[dns]\nservers = [\"127.0.0.1:1\"]\n", filepath.Join(dir, "data"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := started(t, file, o)
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

// started returns a relay that runs with a configuration until the test ends.
func started(t *testing.T, file string, o relay.Options) *relay.Relay {
	t.Helper()
	r, stop := begun(t, file, o)
	t.Cleanup(stop)
	return r
}

// begun returns a relay that runs with a configuration until stop is called.
func begun(t *testing.T, file string, o relay.Options) (r *relay.Relay, stop func()) {
	t.Helper()
	o.Load = func() (*config.Config, error) {
		c, _, err := config.Load(file, nil)
		return c, err
	}
	var err error
	if o.Config, err = o.Load(); err != nil {
		t.Fatal(err)
	}
	if r, err = relay.New(o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done, ready := make(chan error, 1), make(chan struct{})
	go func() { done <- r.Run(ctx, func() { close(ready) }) }()
	<-ready
	return r, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
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

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay"
)

// docker exec, ssh and cron have no terminal. There a command that ends more than one
// message needs --yes.
func TestNobodyEndsManyMessagesByAccident(t *testing.T) {
	file, ids := operated(t)
	for _, action := range []string{"remove", "bounce"} {
		for _, which := range [][]string{{"--all"}, {"--from", "anna@example.com"}, {ids[0], ids[1]}} {
			args := append(append([]string{"queue", action}, which...), "--config", file)
			r := command(t, "", args...)
			if r.status != 2 || r.out != "" || !strings.Contains(r.err, action+" would end 2 messages") || !strings.Contains(r.err, "--yes") {
				t.Errorf("%v: %+v", args, r)
			}
			if r := command(t, "", append(args, "--json")...); r.status != 2 || r.out != "" {
				t.Errorf("%v --json: %+v", args, r)
			}
		}
		if r := command(t, "", "queue", action, "--domain", "three.example", "--config", file); r.status != 0 {
			t.Errorf("nothing to %s: %+v", action, r)
		}
	}
	if r := command(t, "", "status", "--config", file); !strings.Contains(r.out, "queue     2 messages") {
		t.Errorf("%+v", r)
	}
	if r := command(t, "", "queue", "remove", ids[0], "--config", file); r.status != 0 { // one that was named
		t.Errorf("%+v", r)
	}
	if r := command(t, "", "queue", "remove", "--all", "--yes", "--config", file); r.status != 0 || !strings.Contains(r.out, "1 message touched") {
		t.Errorf("%+v", r)
	}
}

// Control characters of strangers do not reach the operator's terminal.
func TestWhatStrangersSaidIsMadePrintable(t *testing.T) {
	first, _ := operated(t)
	other := filepath.Join(t.TempDir(), "relay.toml")
	text, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, bytes.ReplaceAll(text, []byte(filepath.Dir(first)), []byte(filepath.Dir(other))), 0o600); err != nil {
		t.Fatal(err)
	}
	const hostile = "x\u202e\u009b31m@one.example" // the SMTP server refuses it today; an older queue may hold it
	messages := []queue.NewMessage{{Body: []byte("x"), Envelope: queue.Envelope{From: hostile, Recipients: []queue.Recipient{{Address: hostile, Domain: "one.example"}}}}}
	if err := started(t, other, relay.Options{}).Queue().Add(messages, nil); err != nil {
		t.Fatal(err)
	}
	file, ids := other, []string{messages[0].Envelope.ID.String()}
	for _, args := range [][]string{{"queue", "list"}, {"queue", "show", ids[0]}, {"queue", "list", "--json"}, {"queue", "show", ids[0], "--json"}} {
		r := command(t, "", append(args, "--config", file)...)
		if strings.ContainsAny(r.out, "\u202e\u009b") || !strings.Contains(r.out, `\u202e\u009b31m`) {
			t.Errorf("%v: %q", args, r.out)
		}
	}
}

func TestOnlyAYesIsOne(t *testing.T) {
	for answer, want := range map[string]bool{"y\n": true, "Yes\r\n": true, "n\n": false, "\n": false, "": false, "y": false, "yesterday\n": false} {
		var asked strings.Builder
		a := &app{in: strings.NewReader(answer), err: &asked}
		if got := a.confirm("Go on? "); got != want || asked.String() != "Go on? " || a.interactive() {
			t.Errorf("%q: %v, asked %q", answer, got, asked.String())
		}
	}
}

func TestWhatWasRemovedIsRestoredFromTheCommandLine(t *testing.T) {
	file, ids := operated(t)
	do := func(args ...string) result { t.Helper(); return command(t, "", append(args, "--config", file)...) }
	expect := func(r result, status int, out, err string) {
		t.Helper()
		if r.status != status || !strings.Contains(r.out, out) || !strings.Contains(r.err, err) {
			t.Errorf("%+v, want %d, %q, %q", r, status, out, err)
		}
	}
	expect(do("queue", "trash", "list"), 0, "the trash is empty", "")
	expect(do("queue", "trash", "list", "--json"), 0, "[]", "")
	expect(do("queue", "remove", "--all", "--yes"), 0, "queue trash restore", "")
	expect(do("queue", "trash", "list"), 0, "kurt@two.example", "")
	var list []map[string]any
	unmarshal(t, do("queue", "trash", "list", "--json").out, &list)
	if len(list) != 2 || list[0]["id"] != ids[0] || list[0]["active"] != false {
		t.Errorf("%v", list)
	}
	expect(do("queue", "trash", "restore", ids[0], "01ARZ3NDEKTSV4RRFFQ69G5FAV"), 1, "1 message back", "not in the trash: 01ARZ3NDEKTSV4RRFFQ69G5FAV")
	expect(do("queue", "cat", ids[0]), 0, "hello", "")
	expect(do("queue", "trash", "restore"), 2, "", "say which messages")
	expect(do("queue", "trash", "restore", "--all", ids[1]), 2, "", "say which messages")
	expect(do("queue", "trash", "restore", "--all", "--json"), 0, ids[1], "")
	expect(do("queue", "remove", ids[1]), 0, "1 message touched", "")
	expect(do("queue", "trash", "empty"), 2, "", "--yes")
	expect(do("queue", "trash", "empty", "--yes"), 0, "1 message deleted", "")
	expect(do("queue", "trash", "restore", ids[1]), 1, "", "not in the trash")
	expect(do("status"), 0, "queue     1 message ", "")
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
	for _, k := range []string{"id", "state", "from", "size", "received_at", "client", "next_attempt_at", "gives_up_at", "attempts", "recipients"} {
		if _, ok := m[k]; !ok {
			t.Errorf("a message has no %s: %v", k, keys(t, m))
		}
	}
	rcpt := m["recipients"].([]any)[0]
	for _, k := range []string{"address", "state", "attempts", "last_reply", "last_error", "tls", "last_attempt_at", "next_attempt_at"} {
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

func TestUndoTakesBackWhatWasRemovedAndBounced(t *testing.T) {
	file, ids := operatedWith(t, relay.Options{Version: "1.2.3", BounceDelay: time.Hour})
	r := command(t, "", "queue", "bounce", ids[0], "--config", file)
	if r.status != 0 || !strings.Contains(r.out, "the notices are sent in 3600 s; until then stsrelay queue undo stops that") {
		t.Errorf("bounce: %+v", r)
	}
	command(t, "", "queue", "remove", ids[1], "--config", file)
	r = command(t, "", "queue", "undo", "--config", file)
	if r.status != 0 || !strings.Contains(r.out, "undo: 1 message not bounced, 1 message back in the queue") {
		t.Errorf("undo: %+v", r)
	}
	for _, id := range ids {
		if r := command(t, "", "queue", "show", id, "--config", file); r.status != 0 || !strings.Contains(r.out, "queued") {
			t.Errorf("%s afterwards: %+v", id, r)
		}
	}
	r = command(t, "", "queue", "undo", "--config", file)
	if r.status != 0 || !strings.Contains(r.out, "undo: nothing was removed or bounced in the last 10m") {
		t.Errorf("a second undo: %+v", r)
	}
	if r := command(t, "", "queue", "undo", "--within", "-1s", "--config", file); r.status != exitUsage {
		t.Errorf("a negative time: %+v", r)
	}
}

func TestAFilterThatSelectsNothingSaysSo(t *testing.T) {
	file, _ := operated(t)
	for args, want := range map[string]int{
		"queue retry --domain other.example":                   exitDone,
		"queue retry --domain other.example --strict":          exitFailed,
		"queue retry --domain one.example --strict":            exitDone,
		"queue bounce --domain other.example --strict":         exitFailed,
		"queue bounce --domain other.example --dry-run":        exitDone,
		"queue remove --domain one.example --strict --dry-run": exitDone,
	} {
		r := command(t, "", append(strings.Fields(args), "--config", file)...)
		if none := strings.Contains(args, "other"); r.status != want || strings.Contains(r.out, "no message is selected") != none {
			t.Errorf("%s: %+v", args, r)
		}
	}
}

func TestMessagesAreSelectedByTheCodeOfTheirReason(t *testing.T) {
	file, _ := operated(t)
	for args, want := range map[string]result{
		"queue list --why connect":  {out: "no messages"},
		"queue retry --why connect": {out: "no message is selected"},
		"queue list --why bogus":    {status: 2, err: `why "bogus" is no code of a reason`},
		"history --proof bogus":     {status: 2, err: "bogus"},
	} {
		if r := command(t, "", append(strings.Fields(args), "--config", file)...); r.status != want.status || !strings.Contains(r.out, want.out) || !strings.Contains(r.err, want.err) {
			t.Errorf("%s: %+v", args, r)
		}
	}
	if r := command(t, "", "__complete", "queue", "list", "--why", "gree"); !strings.Contains(r.out, "greeting\tThe host refuses") {
		t.Errorf("the codes are not completed: %+v", r)
	}
}

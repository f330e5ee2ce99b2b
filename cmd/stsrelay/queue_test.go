package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay"
)

// docker exec, ssh and cron have no terminal: what ends more than one message needs
// --yes there.
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

// What strangers said cannot make the operator's terminal do something.
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
	const hostile = "x\u202e\u009b31m@one.example" // the door refuses it today; an older queue may hold it
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

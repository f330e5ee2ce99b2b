package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/stsrelay/stsrelay/internal/await"
)

// What a newcomer does beside `stsrelay demo --keep`, from another process: check its
// domains, and open its page.
func TestPlayingWithTheDemo(t *testing.T) {
	out, in := io.Pipe()
	defer out.Close()
	demo := startProgramTo(t, t.TempDir(), in, io.Discard, "demo", "--keep", "--json")
	var kept demoShown
	if err := json.NewDecoder(out).Decode(&kept); err != nil || !kept.OK {
		t.Fatalf("%v: %+v", err, kept)
	}
	for domain, want := range map[string]string{
		"bank.example":    "Outcome ok mail goes to mx1.bank.example [127.",
		"shop.example":    "not verified: the certificate of mx1.shop.example is self-signed",
		"plain.example":   "Outcome ok mail goes to mx1.plain.example [127.",
		"nowhere.example": "Outcome FAIL mail bounces at once",
	} {
		r := command(t, "", "check", domain, "--config", kept.Config)
		page := strings.Join(strings.Fields(r.out), " ")
		if (r.status == 0) != (domain != "nowhere.example") || r.err != "" || !strings.Contains(page, want) {
			t.Errorf("check %s: status %d, %q is not in:\n%s%s", domain, r.status, want, r.out, r.err)
		}
		if domain == "bank.example" && !strings.Contains(page, "verified by MTA-STS (enforce)") {
			t.Error(r.out)
		}
	}
	var self bytes.Buffer // not by command, whose environment has another hostname
	if status := run([]string{"check", "--self", "--config", kept.Config}, strings.NewReader(""), &self, &self, nil); status != 0 ||
		!strings.Contains(self.String(), "relay.demo.example has the address 127.0.0.1, which leads back to it") ||
		strings.Contains(self.String(), "FAIL") || strings.Contains(self.String(), "warn") {
		t.Errorf("check --self: status %d\n%s", status, &self)
	}
	// A message that bounced has left the queue, and its notice came after it.
	do := func(args ...string) result { return command(t, "", append(args, "--config", kept.Config)...) }
	mailedAt(t, kept.Relay, "anna@demo.example", "kurt@nowhere.example", "<lost@demo.example>")
	var id string
	await.Until(t, "the notice of a bounce", func() bool {
		_, id, _ = strings.Cut(do("history", "--to", "kurt@nowhere.example", "--json").out, `"queue_id":`)
		_, id, _ = strings.Cut(id, `"`)
		id, _, _ = strings.Cut(id, `"`)
		return id != "" && strings.Contains(do("history", "show", id).out, "  notice ")
	})
	if r := do("queue", "show", id); !strings.Contains(r.err, id+" has left the queue: bounced at ") || !strings.Contains(r.err, "to kurt@nowhere.example;") {
		t.Errorf("queue show of a bounced message: %+v", r)
	}
	do("queue", "pause")
	mailedAt(t, kept.Relay, "anna@demo.example", "kurt@plain.example", "<undone@demo.example>")
	if r := do("queue", "bounce", "--domain", "plain.example", "--yes"); !strings.Contains(r.out, "the notices are sent in 60 s") {
		t.Errorf("bounce: %+v", r)
	}
	if r := do("queue", "undo"); !strings.Contains(r.out, "undo: 1 message not bounced") {
		t.Errorf("undo: %+v", r)
	}
	res, err := http.Get(kept.Page)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK || !strings.Contains(string(body), "relay.demo.example") {
		t.Errorf("the page: %d, %v\n%s", res.StatusCode, err, body)
	}
	if err := demo.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := demo.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

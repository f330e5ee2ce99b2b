package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/stsrelay/stsrelay/internal/dkim"
	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/badger"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay"
	"github.com/stsrelay/stsrelay/relay/operator"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// previews returns the reports of today as they would be sent.
func previews(t *testing.T, w *e2e.World) string {
	t.Helper()
	var out bytes.Buffer
	if err := w.Relay.Operator().PreviewReports(t.Context(), w.Clock.Day(), "", func(r *tlsrpt.Report) bool {
		return json.NewEncoder(&out).Encode(r) == nil
	}); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// A relay that is restored on an empty machine sends the reports that the lost one would have
// sent, knows the policies, and holds the mail.
func TestARestoredRelaySendsTheSameReports(t *testing.T) {
	w := e2e.NewWithClock(t)
	keys := t.TempDir()
	toml := strings.ReplaceAll(w.PublishKeys("ed25519"), w.Dir, keys)
	moveFile(t, filepath.Join(w.Dir, "s0.pem"), filepath.Join(keys, "s0.pem"))
	w.Start("retry = [\"1h\"]\n" + toml)
	h, mx := w.ReportHost("reports.example"), w.Host("mx1.a.example")
	w.SetFaults(mx, testnet.Faults{Recipients: map[string]string{"waits@a.example": "450 4.2.1 not now"}})
	w.Domain("a.example", testnet.Domain{MX: []string{mx.Name}, TLSRPT: "https://reports.example/in", Policy: e2e.PolicyFor("enforce", mx.Name)})
	w.Deliver("b@a.example")
	id := w.Send("s@test.example", "waits@a.example")
	w.Deferred(id)
	before, policies := previews(t, w), w.Relay.Operator().Policies()
	if !strings.Contains(before, "a.example") || len(policies) != 1 {
		t.Fatalf("there is nothing to back up: %s, %v", before, policies)
	}

	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	file, secret := filepath.Join(out, "relay.age"), filepath.Join(out, "key.txt")
	if err := os.WriteFile(secret, []byte(identity.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(w.Dir, "stsrelay.toml")
	if r := command(t, "", "--config", config, "backup", "--queue", "--history", "--recipient", identity.Recipient().String(), file); r.status != 0 {
		t.Fatalf("backup: %+v", r)
	}
	w.Stop()
	if err := os.RemoveAll(keys); err != nil {
		t.Fatal(err)
	}

	if r := command(t, "", "restore", "--check", file); r.status != 1 || !strings.Contains(r.err, "encrypted") {
		t.Errorf("without a key: %+v", r)
	}
	if r := command(t, "", "restore", "--identity", secret, file); r.status != 1 || !strings.Contains(r.err, "is not empty") {
		t.Errorf("into the old folder: %+v", r)
	}
	data := filepath.Join(t.TempDir(), "data")
	if r := command(t, "", "restore", "--queue", "--identity", secret, "--data-dir", data, file); r.status != 0 ||
		!strings.Contains(r.out, "1 message restored, all held") || !strings.Contains(r.out, "written: "+filepath.Join(keys, "s0.pem")) {
		t.Fatalf("restore: %+v", r)
	}
	w.Dir = data
	w.Start("retry = [\"1h\"]\n" + toml)
	if after := previews(t, w); after != before {
		t.Errorf("the reports were\n%sand are\n%s", before, after)
	}
	if after := w.Relay.Operator().Policies(); len(after) != 1 || after[0].ID != policies[0].ID || !after[0].FetchedAt.Equal(*policies[0].FetchedAt) {
		t.Errorf("the policies were %+v and are %+v", policies, after)
	}
	if err := w.Relay.Operator().Messages(t.Context(), operator.Selection{All: true}, -1, func(m *operator.Message) bool {
		if m.ID != id || m.State != "held" {
			t.Errorf("a message: %+v", m)
		}
		return true
	}); err != nil || w.Relay.Queue().Counts() != (queue.Counts{Messages: 1, Recipients: 1, Held: 1}) {
		t.Errorf("the queue: %v, %+v", err, w.Relay.Queue().Counts())
	}
	w.Clock.Tomorrow()
	if got := e2e.ShortReport(w.Posted(h, 1)); got != "sts a.example +2 -0" && got != "sts a.example +1 -0" {
		t.Errorf("the report says %s", got)
	}
}

func moveFile(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// A backup that is torn or changed at any place is refused, and nothing is written.
func TestATornBackupIsRefused(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	config := filepath.Join(dir, "stsrelay.toml")
	if err := os.WriteFile(config, []byte("hostname = \"relay.example.com\"\ndata_dir = \"data\"\n[[dkim]]\ndomain = \"example.com\"\nselector = \"s\"\nkey_file = \"key.pem\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := dkim.Generate("ed25519")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "key.pem"), key, 0o600); err != nil {
		t.Fatal(err)
	}
	st, err := badger.Open(badger.Options{Dir: relay.StoreDir(filepath.Join(dir, "data"))})
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(store.Put(t.Context(), st, []byte("p/a.example"), bytes.Repeat([]byte("policy "), 100)), st.Close())
	if err != nil {
		t.Fatal(err)
	}
	file, phrase := filepath.Join(out, "plain"), filepath.Join(out, "phrase")
	if err := os.WriteFile(phrase, []byte("correct horse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := command(t, "", "--config", config, "backup", file); r.status != 0 || !strings.Contains(r.out, "2 files") {
		t.Fatalf("%+v", r)
	}
	if r := command(t, "", "restore", "--check", file); r.status != 0 || !strings.Contains(r.out, "whole") {
		t.Fatalf("%+v", r)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	spoiled := filepath.Join(out, "spoiled")
	target := filepath.Join(out, "target")
	try := func(what string, data []byte) {
		t.Helper()
		if err := os.WriteFile(spoiled, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if r := command(t, "", "restore", "--data-dir", target, "--keep-files", spoiled); r.status != 1 {
			t.Errorf("%s: %+v", what, r)
		}
		if _, err := os.Stat(target); err == nil {
			t.Fatalf("%s: something was written", what)
		}
	}
	for i := 1; i < 16; i++ {
		try("cut", whole[:len(whole)*i/16])
		changed := bytes.Clone(whole)
		changed[12+(len(whole)-13)*i/16] ^= 0x10 // behind the head of gzip, of which not every octet counts
		try("changed", changed)
	}
	try("empty", nil)
	if r := command(t, "", "restore", "--data-dir", target, file); r.status != 0 {
		t.Errorf("the whole one: %+v", r)
	}
	if r := command(t, "", "--config", config, "backup", "--passphrase-file", phrase, file+".age"); r.status != 0 {
		t.Fatalf("%+v", r)
	}
	if r := command(t, "", "restore", "--check", "--passphrase-file", phrase, file+".age"); r.status != 0 {
		t.Errorf("%+v", r)
	}
	if err := os.WriteFile(phrase, []byte("wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := command(t, "", "restore", "--check", "--passphrase-file", phrase, file+".age"); r.status != 1 || !strings.Contains(r.err, "another passphrase") {
		t.Errorf("%+v", r)
	}
}

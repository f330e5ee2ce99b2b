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

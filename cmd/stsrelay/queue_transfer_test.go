package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestExportAndImportFromTheCommandLine(t *testing.T) {
	file, ids := operated(t)
	do := func(in string, args ...string) result {
		t.Helper()
		return command(t, in, append(args, "--config", file)...)
	}
	backup := filepath.Join(t.TempDir(), "queue.export")
	expect := func(r result, status int, out, err string) {
		t.Helper()
		if r.status != status || !strings.Contains(r.out, out) || !strings.Contains(r.err, err) {
			t.Errorf("status %d, want %d\n%s%s", r.status, status, r.out, r.err)
		}
	}
	expect(do("", "queue", "export", backup), 0, "exported 2 messages", "")
	expect(do("", "queue", "export", backup), 1, "", "there already")
	expect(do("", "queue", "export", filepath.Join(backup, "x")), 1, "", "not a directory")
	// A file with the name under which an unfinished export is written is left alone.
	other, link := filepath.Join(t.TempDir(), "precious"), filepath.Join(t.TempDir(), "linked")
	if err := errors.Join(os.WriteFile(other, []byte("precious"), 0o600), os.Symlink(other, link+".part")); err != nil {
		t.Fatal(err)
	}
	expect(do("", "queue", "export", link), 1, "", "linked.part is there already")
	if data, err := os.ReadFile(other); err != nil || string(data) != "precious" {
		t.Errorf("%q, %v", data, err)
	}
	if _, err := os.Lstat(link + ".part"); err != nil {
		t.Error(err)
	}
	if st, err := os.Stat(backup); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", st, err)
	}
	expect(do("", "queue", "import", backup), 0, "imported 0 messages, 0 B; 2 in the queue already, 0 damaged", "")
	expect(do("", "queue", "remove", ids[0]), 0, "1 message touched", "")
	stream := do("", "queue", "export", "-")
	expect(stream, 0, "stsrelay-queue-export 1\n", "exported 1 message")
	expect(do("", "queue", "import", "--hold", backup), 0, "imported 1 message", "")
	expect(do("", "queue", "show", ids[0]), 0, "imported on hold", "")
	expect(do("", "queue", "cat", ids[0]), 0, "hello", "")
	expect(do("", "queue", "remove", "--all", "--yes"), 0, "2 messages touched", "")
	expect(do(stream.out, "queue", "import", "-", "--json"), 0, `"messages": 1`, "")

	data, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		data     string
		out, err string
	}{
		"cut":     {string(data[:len(data)-10]), "imported 1 message", "cut off at octet"},
		"changed": {strings.Replace(string(data), "hello", "hallo", 1), "", "not what was exported"},
		"mail":    {"Subject: no export at all\r\n\r\nhello", "", "not a queue export"},
	} {
		damaged := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(damaged, []byte(c.data), 0o600); err != nil {
			t.Fatal(err)
		}
		expect(do("", "queue", "import", damaged), 1, c.out, c.err)
		expect(command(t, "", "queue", "import", "--check", damaged), 1, "", c.err)
	}
	expect(command(t, "", "queue", "import", "--check", backup), 0, "whole: 2 messages", "")
	expect(do("", "queue", "import", filepath.Join(backup, "none")), 1, "", "not a directory")
}

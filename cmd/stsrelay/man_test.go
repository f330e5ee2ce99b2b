package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// Each command has a man page with its text, and two runs write the same.
func TestEachCommandHasAManPage(t *testing.T) {
	one, two := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two")
	for _, dir := range []string{one, two} {
		if status := run([]string{"man", dir}, strings.NewReader(""), io.Discard, io.Discard, []string{"SOURCE_DATE_EPOCH=1700000000"}); status != 0 {
			t.Fatalf("status %d", status)
		}
	}
	n := 0
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		for _, below := range c.Commands() {
			visit(below)
		}
		if !c.IsAvailableCommand() || c.IsAdditionalHelpTopicCommand() || c.Name() == "help" {
			return
		}
		n++
		name := strings.ReplaceAll(c.CommandPath(), " ", "-") + ".1"
		page, err := os.ReadFile(filepath.Join(one, name))
		if err != nil {
			t.Error(err)
			return
		}
		if other, _ := os.ReadFile(filepath.Join(two, name)); string(other) != string(page) {
			t.Errorf("%s differs from run to run", name)
		}
		if !strings.Contains(string(page), ".SH NAME") || !strings.Contains(string(page), "Nov 2023") || !strings.Contains(string(page), strings.Fields(c.Short)[0]) {
			t.Errorf("%s:\n%s", name, page)
		}
	}
	visit(newApp(strings.NewReader(""), io.Discard, io.Discard, nil).command())
	if n < 40 {
		t.Errorf("%d commands", n)
	}
	if r := command(t, "", "man"); r.status != exitUsage {
		t.Errorf("without a folder: %+v", r)
	}
}

func TestCompletionsForEachShell(t *testing.T) {
	for shell, want := range map[string]string{"bash": "__start_stsrelay", "zsh": "#compdef stsrelay", "fish": "complete -c stsrelay", "powershell": "Register-ArgumentCompleter"} {
		if r := command(t, "", "completion", shell); r.status != 0 || !strings.Contains(r.out, want) {
			t.Errorf("%s: %d, %q", shell, r.status, r.out[:min(len(r.out), 200)])
		}
	}
	if r := command(t, "", "__complete", "queue", "re"); !strings.Contains(r.out, "release") || !strings.Contains(r.out, "retry") {
		t.Errorf("queue re…: %+v", r)
	}
}

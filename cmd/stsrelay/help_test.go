package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// What --help of each command prints fits into a terminal of 80 columns.
func TestHelpFitsIntoTheTerminal(t *testing.T) {
	n := 0
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		for _, below := range c.Commands() {
			visit(below)
		}
		n++
		var out bytes.Buffer
		path := strings.Fields(c.CommandPath())[1:]
		if status := run(append(path, "--help"), strings.NewReader(""), &out, io.Discard, nil); status != 0 {
			t.Errorf("%s --help: status %d", c.CommandPath(), status)
		}
		if !strings.Contains(out.String(), "Flags:\n") {
			t.Errorf("%s --help shows no flags:\n%s", c.CommandPath(), &out)
		}
		if strings.Contains(c.CommandPath(), " completion ") {
			return // the text is cobra's
		}
		for line := range strings.Lines(out.String()) {
			if line = strings.TrimRight(line, " \n"); utf8.RuneCountInString(line) > 80 && !strings.HasPrefix(line, "Use ") {
				t.Errorf("%s --help: %s", c.CommandPath(), line)
			}
		}
	}
	visit(newApp(strings.NewReader(""), io.Discard, io.Discard, nil).command())
	if n < 40 {
		t.Errorf("%d commands", n)
	}
}

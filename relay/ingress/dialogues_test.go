package ingress

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The files in testdata/dialogues are sessions of clients: "-> " and a line that the
// client sends, "<- " and the beginning of the reply that it gets, "<- EOF" where the
// server ends the session, "# " and why.
func TestDialogues(t *testing.T) {
	files, err := filepath.Glob("testdata/dialogues/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c := newServer(t, func(o *Options) { o.Listeners[0].Auth = true }).dial()
			number := 0
			for line := range strings.Lines(string(text)) {
				number++
				line = strings.TrimSuffix(line, "\n")
				if said, ok := strings.CutPrefix(line, "-> "); ok {
					c.send(said + "\r\n")
				} else if want, ok := strings.CutPrefix(line, "<- "); ok {
					if got := c.reply(); !strings.HasPrefix(got, want) {
						t.Fatalf("%s:%d: reply %q, want %q", file, number, got, want)
					}
				} else if !strings.HasPrefix(line, "# ") {
					t.Fatalf("%s:%d: %q is neither sent, nor a reply, nor a comment", file, number, line)
				}
			}
		})
	}
}

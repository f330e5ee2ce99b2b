package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The pieces of configuration in the documentation have only keys and values
// that there are.
func TestTheConfigurationOfTheImage(t *testing.T) {
	c, _, err := Load("container.toml", []string{"STSRELAY_DATA_DIR=/var/lib/stsrelay", "STSRELAY_HOSTNAME=relay.example.com", "STSRELAY_LISTEN_0_ALLOW=10.0.0.0/24"})
	if err != nil {
		t.Fatal(err)
	}
	if l := c.Listen; len(l) != 1 || l[0].Address != ":25" || l[0].TLS != "starttls" || len(l[0].Allow) != 1 || c.DataDir != "/var/lib/stsrelay" {
		t.Errorf("%+v, data in %s", l, c.DataDir)
	}
}

func TestTheConfigurationInTheDocumentation(t *testing.T) {
	files, err := filepath.Glob("../docs/*.md")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	texts := make(map[string]string)
	for _, f := range append(files, "../README.md") {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		texts[f] = string(data)
	}
	n := 0
	for f, text := range texts {
		for i, block := range strings.Split(text, "```toml\n")[1:] {
			block, _, _ = strings.Cut(block, "```")
			block = strings.ReplaceAll(block, "$2a$10$...", "$2a$10$x7mEkgkM9mk0TM5SvBogieM7PNz35caEwWyje3GVThEHlkaLiEM7e")
			_, _, err := loadText(t, block)
			n++
			if err == nil {
				continue
			}
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.Contains(line, "no such file") { // certificates of the reader's own
					t.Errorf("%s, block %d: %s\n%s", f, i+1, line, block)
				}
			}
		}
	}
	if n < 4 {
		t.Errorf("%d blocks only", n)
	}
}

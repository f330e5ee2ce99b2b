package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is printed by --changed is short, and a configuration of it is the same one.
func TestWhatHasChangedIsTheSameConfiguration(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "stsrelay.toml")
	text := `hostname = "relay.example.com"
[[listen]]
address = "127.0.0.1:2526"
[[listen]]
address = "127.0.0.1:2527"
allow = ["10.0.0.0/24"]
[delivery]
expire = "48h"
retry = ["1m"]
[limits]
blocked_recipients = ["NoReply@Example.com"]
[dns]
servers = ["127.0.0.1:53"]
[[domain]]
name = "*"
route = "smtp.provider.example"
[[rewrite]]
from = "host.localdomain"
to = "example.com"
`
	first := write(t, file, text)
	var out bytes.Buffer
	if err := first.PrintChanged(&out); err != nil {
		t.Fatal(err)
	}
	for _, absent := range []string{"min_tls", "message_size", "ipv", "log", "override", "[sts]", "match", "senders"} {
		if strings.Contains(out.String(), absent) {
			t.Errorf("%s stands there:\n%s", absent, out.String())
		}
	}
	second := write(t, file, out.String())
	var a, b bytes.Buffer
	if err := errors.Join(first.PrintJSON(&a), second.PrintJSON(&b)); err != nil || a.String() != b.String() {
		t.Errorf("it is another one (%v):\n%s\n%s\n%s", err, out.String(), a.String(), b.String())
	}
}

func write(t *testing.T, file, text string) *Config {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, _, err := Load(file, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return c
}

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// config check refuses every configuration with which a relay does not start, with the
// same error.
func TestConfigCheckRefusesWhatServeRefuses(t *testing.T) {
	keys, err := filepath.Abs("../../internal/dkim/testdata")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	for name, content := range map[string]string{"empty": "\n", "text": "no certificate\n"} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const base = "hostname = \"relay.example.com\"\ndata_dir = \"data\"\n"
	for _, tt := range []struct{ name, file, check, serve string }{
		{"a DKIM key that is too short", "[[dkim]]\ndomain = \"a.example\"\nselector = \"s\"\nkey_file = \"" + keys + "/rsa768.pem\"\n", "relay.toml:6: dkim[0].key_file = ", ""},
		{"a DKIM key for mail", "[[dkim]]\ndomain = \"a.example\"\nselector = \"s\"\nsign = [\"mail\"]\nkey_file = \"" + keys + "/rsa1023.pem\"\n", "relay.toml:7: dkim[0].key_file = ", ""},
		{"a password that is empty", "[[domain]]\nname = \"a.example\"\nroute = \"b.example\"\nuser = \"u\"\npassword_file = \"empty\"\n", "relay.toml:7: domain[0].password_file = ", ""},
		{"a folder for a password", "[[domain]]\nname = \"a.example\"\nroute = \"b.example\"\nuser = \"u\"\npassword_file = \".\"\n", "relay.toml:7: domain[0].password_file = ", ""},
		{"a token that is empty", "[admin]\nhttp = \"127.0.0.1:0\"\ntoken_file = \"empty\"\n", "relay.toml:5: admin.token_file = ", ""},
		{"authorities that are none", "[delivery]\nca_file = \"text\"\n", "relay.toml:4: delivery.ca_file = ", ""},
		{"an address of another machine", "[delivery]\nsource_ip = [\"192.0.2.1\"]\n", "relay.toml:4: delivery.source_ip = \"192.0.2.1\": ", "delivery.source_ip: 192.0.2.1 is no address of this machine"},
	} {
		if err := os.WriteFile("relay.toml", []byte(base+tt.file), 0o600); err != nil {
			t.Fatal(err)
		}
		check, serve := command(t, "", "config", "check", "--config", "relay.toml"), command(t, "", "serve", "--config", "relay.toml")
		if check.status != 1 || !strings.Contains(check.err, tt.check) {
			t.Errorf("%s: status %d: %s", tt.name, check.status, check.err)
		}
		want := tt.serve
		if want == "" {
			want = tt.check
		}
		if serve.status != 1 || !strings.Contains(serve.err, want) {
			t.Errorf("%s: serve ends with %d: %s", tt.name, serve.status, serve.err)
		}
	}
}

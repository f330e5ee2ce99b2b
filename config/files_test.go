package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What a start would refuse is refused with file, line and key.
func TestFilesThatAStartWouldRefuse(t *testing.T) {
	keys, err := filepath.Abs("../internal/dkim/testdata")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, content string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	empty, blank, text := write("empty", "\r\n"), write("blank", "  \n"), write("text", "secret\n")
	key := func(file string) string {
		return "[[dkim]]\ndomain = \"a.example\"\nselector = \"s\"\nkey_file = \"" + filepath.Join(keys, file) + "\"\n"
	}
	password := func(file string) string {
		return "[[domain]]\nname = \"a.example\"\nroute = \"b.example\"\nuser = \"u\"\npassword_file = \"" + file + "\"\n"
	}
	for _, tt := range []struct{ name, file, want string }{
		{"a key of 768 bits", key("rsa768.pem"), `stsrelay.toml:4: dkim[0].key_file = "` + keys + `/rsa768.pem": is an RSA key of 768 bits; receivers want 1024 at least`},
		{"a key of 1023 bits", key("rsa1023.pem"), `stsrelay.toml:4: dkim[0].key_file = "` + keys + `/rsa1023.pem": is an RSA key of 1023 bits`},
		{"a key of 1024 bits", key("rsa1024.pem"), ""},
		{"a key of another kind", key("p256.pem"), `dkim[0].key_file = "` + keys + `/p256.pem": must be an RSA or Ed25519 key`},
		{"a key in another form", key("pkcs1.pem"), `dkim[0].key_file = "` + keys + `/pkcs1.pem": is no PKCS#8 key`},
		{"no key", key("nowhere.pem"), `stsrelay.toml:4: dkim[0].key_file = "` + keys + `/nowhere.pem": cannot be read`},
		{"a password", password(text), ""},
		{"a password that is empty", password(empty), `stsrelay.toml:5: domain[0].password_file = "` + empty + `": is empty`},
		{"a folder for a password", password(dir), `stsrelay.toml:5: domain[0].password_file = "` + dir + `": cannot be read`},
		{"a token", "[admin]\nhttp = \"127.0.0.1:0\"\ntoken_file = \"" + text + "\"\n", ""},
		{"a token that is blank", "[admin]\nhttp = \"127.0.0.1:0\"\ntoken_file = \"" + blank + "\"\n", `stsrelay.toml:3: admin.token_file = "` + blank + `": is empty`},
		{"a folder for a token", "[admin]\ntoken_file = \"" + dir + "\"\n", `stsrelay.toml:2: admin.token_file = "` + dir + `": cannot be read`},
		{"authorities that are none", "[delivery]\nca_file = \"" + text + "\"\n", `stsrelay.toml:2: delivery.ca_file = "` + text + `": has no certificate in PEM form`},
		{"a folder for authorities", "[delivery]\nca_file = \"" + dir + "\"\n", `stsrelay.toml:2: delivery.ca_file = "` + dir + `": cannot be read`},
		{"clients' authorities that are none", "[[listen]]\naddress = \"127.0.0.1:0\"\nclient_ca = \"" + text + "\"\n", `stsrelay.toml:3: listen[0].client_ca = "` + text + `": has no certificate`},
		{"a certificate that is none", "[tls]\ncertificate = \"" + text + "\"\nkey = \"" + text + "\"\n", `stsrelay.toml:2: tls.certificate = "` + text + `": cannot be used with its key`},
		{"a file for the data", "data_dir = \"" + text + "\"\n", `stsrelay.toml:1: data_dir = "` + text + `": must be a folder`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := loadText(t, tt.file)
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
			} else if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error is\n%v\nwant\n%s", err, tt.want)
			}
		})
	}
}

// What a start needs of the machine is told to those who ask; other commands work
// without.
func TestWhatAStartNeedsOfTheMachine(t *testing.T) {
	const file = "[delivery]\nsource_ip = [\"127.0.0.1\", \"2001:db8::1\"]\n[[listen]]\naddress = \"192.0.2.1:25\"\n[[listen]]\naddress = \"0.0.0.0:2525\"\n"
	if _, warnings, err := loadText(t, file); err != nil || warned(warnings, "192.0.2.1") {
		t.Errorf("%v, %v", warnings, err)
	}
	_, warnings, err := Check("stsrelay.toml", nil)
	if err == nil || !strings.Contains(err.Error(), `stsrelay.toml:2: delivery.source_ip = "2001:db8::1": 2001:db8::1 is no address of this machine`) || strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("error %v", err)
	}
	if !warned(warnings, "listen[0].address: the relay would not start now: 192.0.2.1 is no address of this machine") || warned(warnings, "listen[1]") {
		t.Errorf("%v", warnings)
	}
}

func TestAddressesThatOverlap(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{":25", "0.0.0.0:25", true},
		{"0.0.0.0:25", "[::]:25", true},
		{"127.0.0.1:25", ":25", true},
		{"127.0.0.1:25", "127.0.0.1:25", true},
		{"127.0.0.1:25", "127.0.0.2:25", false},
		{"127.0.0.1:25", "[::1]:25", false},
		{":25", ":587", false},
		{"127.0.0.1:0", "127.0.0.1:0", false},
		{"25", "25", false},
	} {
		if got := overlap(tt.a, tt.b); got != tt.want {
			t.Errorf("%s and %s: %t", tt.a, tt.b, got)
		}
	}
}

package config

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/container"
)

func TestGatewayInAllow(t *testing.T) {
	docker := container.Network{Inside: true, Gateways: []netip.Addr{netip.MustParseAddr("172.17.0.1"), netip.MustParseAddr("fd00::1")}}
	outside := docker
	outside.Inside = false
	for _, tt := range []struct {
		name    string
		network container.Network
		listen  string
		want    string // in the error; "": it is taken
	}{
		{"the address that a refusal names", docker, `allow = ["172.17.0.1"]`, `stsrelay.toml:4: listen[0].allow = "172.17.0.1/32": holds 172.17.0.1, the gateway of this container`},
		{"a network around it", docker, `allow = ["10.0.0.0/24", "172.16.0.0/12"]`, `listen[0].allow = "172.16.0.0/12": holds 172.17.0.1`},
		{"the IPv6 one", docker, `allow = ["fd00::/64"]`, `listen[0].allow = "fd00::/64": holds fd00::1`},
		{"PROXY headers from it", docker, "allow = [\"10.0.0.0/24\"]\nproxy_protocol = [\"172.17.0.1\"]", `stsrelay.toml:5: listen[0].proxy_protocol = "172.17.0.1/32": holds 172.17.0.1`},
		{"another network", docker, `allow = ["172.18.0.0/16", "10.0.0.0/24", "127.0.0.0/8"]`, ""},
		{"its neighbour", docker, `allow = ["172.17.0.2"]`, ""},
		{"meant", docker, "allow = [\"172.17.0.1\"]\nallow_gateway = true", ""},
		{"not meant", docker, "allow = [\"172.17.0.1\"]\nallow_gateway = false", "holds 172.17.0.1"},
		{"open to all", docker, "allow = [\"0.0.0.0/0\"]\nopen = true", ""},
		{"no container", outside, `allow = ["172.17.0.1"]`, ""},
		{"no gateway", container.Network{Inside: true}, `allow = ["172.17.0.1"]`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			text := "hostname = \"relay.example.com\"\n[[listen]]\naddress = \":25\"\n" + tt.listen + "\n"
			if err := os.WriteFile("stsrelay.toml", []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, _, err := load("stsrelay.toml", nil, tt.network, false)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	// On loopback nobody comes from there, yet who asks is told.
	environ := []string{"STSRELAY_HOSTNAME=relay.example.com", "STSRELAY_LISTEN_0_ALLOW=172.17.0.0/16"}
	for _, tt := range []struct {
		variable string
		strict   bool
		refused  bool
	}{
		{"STSRELAY_LISTEN_0_ADDRESS=:25", false, true}, {"STSRELAY_LISTEN_0_ADDRESS=127.0.0.1:25", false, false},
		{"STSRELAY_LISTEN_0_ADDRESS=[::1]:25", false, false}, {"STSRELAY_LISTEN_0_ADDRESS=172.17.0.2:25", false, true},
		{"STSRELAY_LISTEN_0_ADDRESS=localhost:25", true, true}, {"STSRELAY_LISTEN_0_ALLOW_GATEWAY=true", true, false},
	} {
		_, _, err := load("", append(environ, tt.variable), docker, tt.strict)
		if got := err != nil && strings.Contains(err.Error(), "environment variable STSRELAY_LISTEN_0_ALLOW"); got != tt.refused {
			t.Errorf("%s, strict %t: %v", tt.variable, tt.strict, err)
		}
	}
}

func TestBalancersThatAreEverybodyAreAWarning(t *testing.T) {
	for networks, want := range map[string]bool{`["0.0.0.0/0"]`: true, `["10.0.0.5", "::/0"]`: true, `["10.0.0.0/8", "fd00::/8"]`: false} {
		_, warnings, err := loadText(t, "hostname = \"relay.example.com\"\n[[listen]]\naddress = \":25\"\nallow_gateway = true\nproxy_protocol = "+networks+"\n")
		if err != nil || warned(warnings, "proxy_protocol") != want {
			t.Errorf("%s: %v, %v", networks, warnings, err)
		}
	}
}

func warned(warnings []Warning, text string) bool {
	for _, w := range warnings {
		if strings.Contains(string(w), text) {
			return true
		}
	}
	return false
}

func TestSecretsThatOthersCanReadAreAWarning(t *testing.T) {
	files := map[string]string{ // by what the warning begins with
		"dkim[0].key_file: ":            "dkim.pem",
		"domain[0].password_file: ":     "password",
		"admin.token_file: ":            "token",
		"notices.webhook_secret_file: ": "webhook",
		"user[0].password_hash: ":       "stsrelay.toml",
	}
	const text = `hostname = "relay.example.com"
[[dkim]]
domain = "example.com"
selector = "a"
key_file = "dkim.pem"
[[domain]]
name = "archive.example"
route = "smtp.provider.example:587"
user = "relay"
password_file = "password"
[notices]
webhook = "https://alerts.example.com/"
webhook_secret_file = "webhook"
[admin]
token_file = "token"
[[user]]
name = "exchange"
password_hash = "$2a$10$x7mEkgkM9mk0TM5SvBogieM7PNz35caEwWyje3GVThEHlkaLiEM7e"
`
	t.Chdir(t.TempDir())
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("stsrelay.toml", text)
	write("password", "secret\n")
	write("webhook", "secret\n")
	write("token", "0123456789abcdef0123456789abcdef\n")
	write("dkim.pem", string(ed25519PEM(t)))
	for _, tt := range []struct {
		mode os.FileMode
		verb string
	}{{0o600, ""}, {0o640, ""}, {0o400, ""}, {0o644, "read"}, {0o604, "read"}, {0o666, "change"}, {0o602, "change"}} {
		for begin, name := range files {
			if err := os.Chmod(name, tt.mode); err != nil {
				t.Fatal(err)
			}
			_, warnings, err := Load("stsrelay.toml", nil)
			if err != nil {
				t.Fatal(err)
			}
			want := begin + "every user of this machine can " + tt.verb
			if got := warned(warnings, begin); got != (tt.verb != "") || got && !warned(warnings, want) {
				t.Errorf("%s with mode %o: %v", name, tt.mode, warnings)
			}
			if err := os.Chmod(name, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A variable under a mistyped name may hold a password: its value is told to
// nobody. That of a name which there is helps to find what is wrong.
func TestAMistypedVariableDoesNotTellItsValue(t *testing.T) {
	for name, told := range map[string]bool{
		"STSRELAY_USER_0_PASSWORD":            false,
		"STSRELAY_USER_0_PASSWORD_HSAH":       false,
		"STSRELAY_USERS_0_PASSWORD_HASH":      false,
		"STSRELAY_USER_PASSWORD_HASH":         false,
		"STSRELAY_USER_7_PASSWORD_HASH":       false,
		"STSRELAY_DOMAIN_0_PASSWORD":          false,
		"STSRELAY_ADMIN_TOKEN":                false,
		"STSRELAY_ADMIN":                      false,
		"STSRELAY_":                           false,
		"STSRELAY_LIMITS_RECIPIENTS":          true,
		"STSRELAY_LISTEN_0_ALLOW":             true,
		"STSRELAY_DELIVERY_PRIVATE_ADDRESSES": true,
	} {
		_, _, err := Load("", []string{"STSRELAY_HOSTNAME=relay.example.com", name + "=hunter2"})
		if err == nil || !strings.Contains(err.Error(), "environment variable "+name) || strings.Contains(err.Error(), "hunter2") != told {
			t.Errorf("%s: %v", name, err)
		}
	}
}

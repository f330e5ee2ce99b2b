package config

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"reflect"
	"slices"
	"testing"
)

// What cannot change while the relay runs stays as it was, and is named; all else changes.
func TestWhatCountsFromTheNextStart(t *testing.T) {
	running, next := Default(), Default()
	next.Hostname, next.DataDir, next.DNS.TrustAD, next.Delivery.CAFile = "b.example", "/b", "never", "/b.pem"
	next.STS.Enabled, next.DANE.Enabled, next.TLSRPT.Enabled = false, false, false
	next.Limits.TrashSize, next.Limits.FreeSpace, next.Limits.Rate = 1, 2, 3
	next.Admin.HTTP, next.Log.Format, next.Log.Level = "127.0.0.1:1", "text", "debug"
	next.Delivery.Plaintext, next.TLSRPT.Contact = "refuse", "x@b.example"
	next.Users = []User{{Name: "a"}}
	changed := next.KeepRunning(&running)
	want := []string{"admin", "data_dir", "delivery.ca_file", "dns", "hostname", "limits.free_space", "limits.trash_size", "log.format", "sts.enabled", "tlsrpt.enabled"}
	if !slices.Equal(changed, want) {
		t.Errorf("%q, want %q", changed, want)
	}
	in := Default()
	in.DANE.Enabled, in.Limits.Rate, in.Log.Level, in.Delivery.Plaintext, in.TLSRPT.Contact = false, 3, "debug", "refuse", "x@b.example"
	in.Users = []User{{Name: "a"}}
	if !reflect.DeepEqual(next, in) {
		t.Errorf("in force is %+v\nwant %+v", next, in)
	}
	if changed := next.KeepRunning(&in); len(changed) != 0 {
		t.Errorf("%q have changed", changed)
	}
}

func TestListenersThatRunStay(t *testing.T) {
	running, next := Default(), Default()
	running.Listen = []Listen{{Address: "127.0.0.1:1", TLS: "none"}, {Address: "127.0.0.1:2", TLS: "starttls"}}
	for _, tt := range []struct {
		name    string
		listen  []Listen
		want    []Listen
		changed bool
	}{
		{"the same", running.Listen, running.Listen, false},
		{"other rules", []Listen{{Address: "127.0.0.1:2", TLS: "starttls"}, {Address: "127.0.0.1:1", TLS: "none", Auth: true}},
			[]Listen{{Address: "127.0.0.1:1", TLS: "none", Auth: true}, {Address: "127.0.0.1:2", TLS: "starttls"}}, false},
		{"other TLS", []Listen{{Address: "127.0.0.1:1", TLS: "implicit"}, {Address: "127.0.0.1:2", TLS: "starttls"}}, running.Listen, true},
		{"TLS where there was none, and no mail without", []Listen{{Address: "127.0.0.1:1", TLS: "starttls", RequireTLS: true}, {Address: "127.0.0.1:2", TLS: "starttls", RequireTLS: true}},
			[]Listen{running.Listen[0], {Address: "127.0.0.1:2", TLS: "starttls", RequireTLS: true}}, true},
		{"one less", running.Listen[:1], running.Listen, true},
		{"another address", []Listen{{Address: "127.0.0.1:1", TLS: "none"}, {Address: "127.0.0.1:3", TLS: "starttls"}}, running.Listen, true},
	} {
		next.Listen = tt.listen
		changed := next.KeepRunning(&running)
		if (len(changed) == 1) != tt.changed || !reflect.DeepEqual(next.Listen, tt.want) {
			t.Errorf("%s: %q, %+v", tt.name, changed, next.Listen)
		}
	}
}

// New tokens and authorities in the files that are named already are told too: who changes a
// token wants the old one to end.
func TestNewContentOfFilesThatCountFromTheNextStart(t *testing.T) {
	t.Chdir(t.TempDir())
	load := func(look, act string, pem []byte) *Config {
		t.Helper()
		for name, content := range map[string][]byte{
			"look": []byte(look + "\n"), "act": []byte(act), "ca.pem": pem,
			"stsrelay.toml": []byte("[delivery]\nca_file = \"ca.pem\"\n[admin]\ntoken_file = \"look\"\nact_token_file = \"act\"\n"),
		} {
			if err := os.WriteFile(name, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		c, _, err := Load("stsrelay.toml", nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	ca, other := authority(t), authority(t)
	running := load("one", "two", ca)
	for _, tt := range []struct {
		name      string
		look, act string
		ca        []byte
		want      []string
	}{
		{"nothing", "one", "two", ca, nil},
		{"a final line break", "one", "two\n", ca, nil},
		{"a new token to look", "new", "two", ca, []string{"admin"}},
		{"a new token to act", "one", "new", ca, []string{"admin"}},
		{"another authority", "one", "two", other, []string{"delivery.ca_file"}},
	} {
		next := load(tt.look, tt.act, tt.ca)
		for _, when := range []string{"", ", told again at the next reload"} {
			if changed := next.KeepRunning(running); !slices.Equal(changed, tt.want) {
				t.Errorf("%s%s: %q", tt.name, when, changed)
			}
			next = load(tt.look, tt.act, tt.ca)
		}
	}
}

// authority is the certificate of a new authority in a PEM file.
func authority(t *testing.T) []byte {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(nil, &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true}, &x509.Certificate{}, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

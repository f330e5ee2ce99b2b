package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/store/badger"
	"github.com/stsrelay/stsrelay/relay"
)

// A backup has what lies behind links, and not itself, by whatever name it is written.
func TestABackupFollowsLinks(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, folder := range []string{"disk/saved", "archive", "certificates"} {
		if err := os.MkdirAll(path(folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range map[string]string{
		"disk/key.pem": "a key", "archive/1.pem": "a certificate", "archive/1.key": "its key",
		"stsrelay.toml": `hostname = "relay.example.com"
data_dir = "data"
[publisher]
https = "127.0.0.1:8443"
tls = "files"
certificate_dir = "certificates"
[[publish]]
domains = ["example.com"]
mx = ["mail.example.com"]
`,
	} {
		if err := os.WriteFile(path(name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{
		"data": "disk", "saved": "disk/saved",
		"certificates/mta-sts.example.com.pem": "../archive/1.pem", "certificates/mta-sts.example.com.key": "../archive/1.key",
	} {
		if err := os.Symlink(to, path(link)); err != nil {
			t.Fatal(err)
		}
	}
	st, err := badger.Open(badger.Options{Dir: relay.StoreDir(path("data"))})
	if err = errors.Join(err, st.Close()); err != nil {
		t.Fatal(err)
	}
	if r := command(t, "", "--config", path("stsrelay.toml"), "backup", path("saved/backup")); r.status != 0 || !strings.Contains(r.out, "3 files") {
		t.Fatalf("%+v", r)
	}
	target := path("restored")
	t.Chdir(dir) // a data_dir in the configuration is relative to another folder
	if r := command(t, "", "restore", "--data-dir", "restored", path("saved/backup")); r.status != 0 || !strings.Contains(r.out, "set data_dir = \""+target+"\"") {
		t.Fatalf("%+v", r)
	}
	entries, err := os.ReadDir(target)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{"key.pem", "queue", "queue.identity"}; !slices.Equal(names, want) {
		t.Errorf("restored were %v instead of %v", names, want)
	}
}

//go:build unix

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stsrelay/stsrelay/relay"
	"github.com/stsrelay/stsrelay/relay/adminapi"
)

// Mail is for the user of the relay alone, also in folders that others have made.
func TestFilesOfARunningRelayAreForItsUserAlone(t *testing.T) {
	dir := t.TempDir()
	file, data := filepath.Join(dir, "relay.toml"), filepath.Join(dir, "data")
	if err := os.MkdirAll(relay.StoreDir(data), 0o755); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("hostname = \"relay.example.com\"\ndata_dir = %q\n[[listen]]\naddress = \"127.0.0.1:0\"\n[dns]\nservers = [\"127.0.0.1:1\"]\n[limits]\nfree_space = \"64MiB\"\n", data)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	startProgram(t, dir, t.Output(), "serve", "--config", file)
	running(t, adminapi.NewClient(filepath.Join(data, "stsrelay.sock")))
	n := 0
	err := filepath.WalkDir(data, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the relay has removed it meanwhile
		}
		n++
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %o", name, info.Mode().Perm())
		}
		return err
	})
	if err != nil || n < 5 {
		t.Errorf("%d files, %v", n, err)
	}
}

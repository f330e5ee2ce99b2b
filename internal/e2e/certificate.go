package e2e

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stsrelay/stsrelay/relay/ingress"
)

// hostname is the name of the relay.
const hostname = "relay.test.example"

// selfSigned makes the certificates that a relay makes for itself at its first start.
// An RSA key costs more than all else that a world needs: one serves all worlds.
var selfSigned = sync.OnceValues(func() (files map[string][]byte, err error) {
	dir, err := os.MkdirTemp("", "stsrelay-e2e")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if _, err := ingress.SelfSigned(hostname, dir); err != nil {
		return nil, err
	}
	made, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	files = make(map[string][]byte)
	for _, f := range made {
		if files[f.Name()], err = os.ReadFile(filepath.Join(dir, f.Name())); err != nil {
			return nil, err
		}
	}
	return files, nil
})

// addCertificates puts the certificates where the relay will look for its own.
func addCertificates(t testing.TB, dataDir string) {
	t.Helper()
	files, err := selfSigned()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(dataDir, "tls")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

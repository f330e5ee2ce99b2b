package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/stsrelay/stsrelay/relay/adminapi"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// Admin is a client of the relay's admin socket.
func (w *World) Admin() *adminapi.Client {
	return adminapi.NewClient(filepath.Join(w.Dir, "stsrelay.sock"))
}

// Reload reloads by the API, as the command does, and returns the keys that need a
// restart.
func (w *World) Reload() (restart []string) {
	w.T.Helper()
	var done operator.Reloaded
	if err := w.Admin().Do(w.T.Context(), http.MethodPost, "/v1/reload", nil, &done); err != nil {
		w.T.Fatal(err)
	}
	return done.Restart
}

// Edit replaces a text of the configuration file, which must have it.
func (w *World) Edit(old, now string) {
	w.T.Helper()
	file := filepath.Join(w.Dir, "stsrelay.toml")
	text, err := os.ReadFile(file)
	if err != nil {
		w.T.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		w.T.Fatalf("there is no %q in the configuration", old)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), old, now, 1)), 0o600); err != nil {
		w.T.Fatal(err)
	}
}

// Bounce gives mail up by the API, as the command does. It returns how many messages were touched.
func (w *World) Bounce(sel operator.Selection) int {
	w.T.Helper()
	var done operator.Affected
	if err := w.Admin().Do(w.T.Context(), http.MethodPost, "/v1/queue/bounce", sel, &done); err != nil {
		w.T.Fatal(err)
	}
	return done.Affected
}

// Package postgrestest starts PostgreSQL with the tables of the engine, for tests of what
// stands on it.
package postgrestest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stsrelay/stsrelay/internal/store/pgtest"
	"github.com/stsrelay/stsrelay/internal/store/postgres"
)

// Start starts a cluster for a test: a primary with standbys, that has the tables. Without
// standbys, stores are opened with postgres.None. The test is skipped where PostgreSQL is
// not installed.
func Start(t testing.TB, standbys int) *pgtest.Cluster {
	t.Helper()
	if _, err := pgtest.Programs(); err != nil {
		t.Skip("skipped: ", err)
	}
	c, err := pgtest.Start("", standbys)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	replication := postgres.Required
	if standbys == 0 {
		replication = postgres.None
	}
	if _, err := postgres.Init(t.Context(), c.URL(), replication); err != nil {
		t.Fatal(err)
	}
	return c
}

// URLFile is a file with the URL of a cluster, for the key url_file of a configuration.
func URLFile(t testing.TB, c *pgtest.Cluster) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(file, []byte(c.URL()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// Package await lets tests wait for what they are not told of: what another process, or the
// relay in its own time, has done.
package await

import (
	"testing"
	"time"
)

// Limit is how long a test waits for anything. A failure takes this long; a slow machine is
// none.
func Limit(t testing.TB) time.Duration {
	if _, ok := t.(*testing.B); ok {
		return 5 * time.Minute
	}
	return 2 * time.Minute
}

// Until returns once holds does, and fails the test after the limit. It asks often at first:
// so it comes late by a small part of the whole wait, and a long wait costs little.
func Until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for begun, limit := time.Now(), Limit(t); !holds(); {
		waited := time.Since(begun)
		if waited > limit {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(min(max(waited/16, time.Millisecond), 50*time.Millisecond))
	}
}

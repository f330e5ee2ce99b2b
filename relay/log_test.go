package relay_test

import (
	"io"
	"log/slog"
	"testing"
)

// testLogger writes to the test's log. A benchmark formats its lines as the
// program does, and throws them away.
func testLogger(t testing.TB) *slog.Logger {
	if _, ok := t.(*testing.B); ok {
		return slog.New(slog.NewJSONHandler(io.Discard, nil)) //nolint:sloglint // formatting is part of the cost
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

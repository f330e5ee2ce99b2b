package e2e

import (
	"bytes"
	"io"
	"log/slog"
	"sync"
	"testing"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// LogBuffer collects a log.
type LogBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *LogBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *LogBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// NewLogged is New with a log to look at.
func NewLogged(t testing.TB, toml string) (*World, *LogBuffer) {
	t.Helper()
	return NewLoggedBehind(t, testnet.ResolverFaults{}, toml)
}

// NewLoggedBehind is NewLogged with a resolver of some kind.
func NewLoggedBehind(t testing.TB, resolver testnet.ResolverFaults, toml string) (*World, *LogBuffer) {
	t.Helper()
	log := new(LogBuffer)
	w := NewStopped(t)
	w.Logger = slog.New(slog.NewJSONHandler(log, nil))
	w.DNS.SetResolver(resolver)
	w.Start(toml)
	return w, log
}

// logger writes to the test's log. A benchmark formats its lines as the
// program does, and throws them away.
func logger(t testing.TB) *slog.Logger {
	if _, ok := t.(*testing.B); ok {
		return slog.New(slog.NewJSONHandler(io.Discard, nil)) //nolint:sloglint // formatting is part of the cost
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

package badger

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/stsrelay/stsrelay/internal/store"
)

// failure is Badger's logger. It keeps the first error that Badger reports,
// because for some of them (a failed msync of the value log) the log line is
// the only report there is.
type failure struct {
	log   *slog.Logger
	first atomic.Pointer[error]
}

func (l *failure) set(err error) {
	err = fmt.Errorf("%w: %w; the relay takes no more mail until it is started anew", store.ErrFailed, err)
	if l.first.CompareAndSwap(nil, &err) {
		l.log.Error("the store has failed", "error", err)
	}
}

func (l *failure) err() error {
	if p := l.first.Load(); p != nil {
		return *p
	}
	return nil
}

// Errorf implements badger.Logger. What Badger says of a value that it cannot
// read concerns that value and not the store: whoever reads gets a ValueError.
func (l *failure) Errorf(format string, args ...any) {
	text := strings.TrimSpace(fmt.Sprintf(format, args...))
	if aboutReading(format) {
		l.log.Error("badger: " + text)
		return
	}
	l.set(errors.New(text))
}

// Warningf implements badger.Logger.
func (l *failure) Warningf(format string, args ...any) {
	l.log.Warn("badger: " + strings.TrimSpace(fmt.Sprintf(format, args...)))
}

// Infof implements badger.Logger. Badger tells of every compaction at this
// level, so it is debugging for us.
func (l *failure) Infof(format string, args ...any) {
	if l.log.Enabled(nil, slog.LevelDebug) { //nolint:staticcheck // no context here, and none is needed
		l.log.Debug("badger: " + strings.TrimSpace(fmt.Sprintf(format, args...)))
	}
}

// Debugf implements badger.Logger and says nothing.
func (l *failure) Debugf(string, ...any) {}

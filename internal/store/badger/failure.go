package badger

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/internal/store"
)

// failure is Badger's logger. It keeps the first error that Badger logs, because Badger
// reports some errors (a failed msync of the value log) only in its log.
type failure struct {
	log   *slog.Logger
	first atomic.Pointer[error]
}

func (l *failure) set(err error) {
	err = phrase.Errorf("%w: %w; the relay takes no more mail until it is started anew", store.ErrFailed, err)
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

// Errorf implements badger.Logger. A line about a value that cannot be read does not
// make the store fail: the reader of that value gets a ValueError.
func (l *failure) Errorf(format string, args ...any) {
	text := strings.TrimSpace(fmt.Sprintf(format, args...))
	if aboutReading(format) {
		l.log.Error("badger", "text", text)
		return
	}
	l.set(errors.New(text))
}

// Warningf implements badger.Logger.
func (l *failure) Warningf(format string, args ...any) {
	l.log.Warn("badger", "text", strings.TrimSpace(fmt.Sprintf(format, args...)))
}

// Infof implements badger.Logger. Badger logs every compaction at this level, so the
// lines are logged at debug level here.
func (l *failure) Infof(format string, args ...any) {
	if l.log.Enabled(nil, slog.LevelDebug) { //nolint:staticcheck // no context here, and none is needed
		l.log.Debug("badger", "text", strings.TrimSpace(fmt.Sprintf(format, args...)))
	}
}

// Debugf implements badger.Logger and logs nothing.
func (l *failure) Debugf(string, ...any) {}

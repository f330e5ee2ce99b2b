package badger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/internal/store"
)

const (
	// criticalSpace is the free space in bytes below which nothing is written, not even
	// deletions: Badger writes through memory maps, and a full disk ends the process
	// with SIGBUS instead of an error.
	criticalSpace = 24 << 20
	// closingSpace is the free space that closing Badger needs at most: a memtable as a
	// table, and once more where it is merged.
	closingSpace = 2 * (memTableSize + 2*maxTreeBytes)
	// watchEvery is the interval at which the free space is checked in the background.
	watchEvery = 200 * time.Millisecond
)

// space watches the free space of the store's file system.
type space struct {
	dir     string
	free    func(dir string) (int64, error)
	recent  func(dir string) (int64, error) // for frequent callers; may be up to measuredFor old
	limit   int64
	ballast int64
	log     *slog.Logger

	inFlight atomic.Int64 // bytes submitted and not yet written
	dropped  atomic.Bool  // the ballast file was deleted
}

func freeBytes(dir string) (int64, error) {
	n, err := statfs(dir)
	if err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return n, nil
}

// measuredFor is how long CheckSpace uses one measurement of the free space. In this
// time the store itself writes a few MiB, and the limits leave room for that. The
// committer measures before each transaction.
const measuredFor = 10 * time.Millisecond

// remembered returns a version of measure that caches the result for measuredFor.
func remembered(measure func(dir string) (int64, error)) func(dir string) (int64, error) {
	var mu sync.Mutex
	var at time.Time
	var free int64
	return func(dir string) (int64, error) {
		mu.Lock()
		defer mu.Unlock()
		if !at.IsZero() && time.Since(at) < measuredFor {
			return free, nil
		}
		n, err := measure(dir)
		if err != nil {
			return 0, err
		}
		free, at = n, time.Now()
		return free, nil
	}
}

func (s *space) ballastFile() string { return filepath.Join(s.dir, "ballast") }

// prepare deletes the ballast file if the disk is too full to open the store. It
// creates the file if it is missing and the disk has room.
func (s *space) prepare() error {
	free, err := s.free(s.dir)
	if err != nil {
		return err
	}
	if free < store.Floor {
		if os.Remove(s.ballastFile()) == nil {
			s.log.Warn("the disk is full: the ballast file was given up so that the store can be opened", "free_bytes", free)
			s.dropped.Store(true)
			if free, err = s.free(s.dir); err != nil {
				return err
			}
		}
	}
	if free < criticalSpace || (free < store.Floor && !s.dropped.Load()) {
		return fmt.Errorf("%w: %s has %s free, the store needs %s to be opened; free some space and start again",
			store.ErrDiskFull, s.dir, mebibytes(free), mebibytes(store.Floor))
	}
	s.restoreBallast(free)
	return nil
}

// restoreBallast creates the ballast file if it is missing and the disk has room
// for it beyond the limit.
func (s *space) restoreBallast(free int64) {
	if s.ballast <= 0 || free < s.limit+s.ballast+store.Floor {
		return
	}
	if st, err := os.Stat(s.ballastFile()); err == nil && st.Size() == s.ballast {
		s.dropped.Store(false)
		return
	}
	f, err := os.OpenFile(s.ballastFile(), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		s.log.Warn("the ballast file cannot be made", "error", err)
		return
	}
	err = allocate(f, s.ballast)
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(s.ballastFile())
		s.log.Warn("the ballast file cannot be made", "error", err)
		return
	}
	s.dropped.Store(false)
}

// watch deletes the ballast file when the disk runs full while the store is open,
// and creates it again when there is room.
func (s *space) watch(ctx context.Context) {
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		free, err := s.free(s.dir)
		if err != nil {
			continue
		}
		switch {
		case free < store.Floor && !s.dropped.Load() && s.ballast > 0:
			s.dropBallast(free)
		case s.dropped.Load():
			s.restoreBallast(free)
		}
	}
}

func (s *space) dropBallast(free int64) {
	s.dropped.Store(true)
	if err := os.Remove(s.ballastFile()); err == nil {
		s.log.Warn("the disk runs full: the ballast file was given up", "free_bytes", free)
	}
}

// critical returns an error if too little space is free to write anything. The
// committer calls it before every transaction.
func (s *space) critical() error {
	free, err := s.free(s.dir)
	if err != nil {
		return fmt.Errorf("free space: %w", err)
	}
	if free >= criticalSpace {
		return nil
	}
	if s.ballast > 0 && !s.dropped.Load() {
		s.dropBallast(free)
		if free, err = s.free(s.dir); err == nil && free >= criticalSpace {
			return nil
		}
	}
	return fmt.Errorf("%w: %s has %s free", store.ErrDiskFull, s.dir, mebibytes(free))
}

// CheckSpace returns nil if n more bytes may be accepted: the free space, less the
// bytes that are submitted and not yet written, must stay at or above
// Options.FreeSpace. Otherwise the error wraps ErrDiskFull.
func (s *Store) CheckSpace(n int64) error {
	free, err := s.space.recent(s.dir)
	if err != nil {
		return err
	}
	if free-n-s.space.inFlight.Load() < s.space.limit {
		return phrase.Errorf("%w: %s has %s free, at least %s must stay free", store.ErrDiskFull, s.dir, mebibytes(free), mebibytes(s.space.limit))
	}
	return nil
}

// Free returns the free bytes of the store's file system.
func (s *Store) Free() (int64, error) { return s.space.free(s.dir) }

// FreeLimit returns the number of bytes that CheckSpace keeps free.
func (s *Store) FreeLimit() int64 { return s.space.limit }

// Size returns the number of bytes that the store occupies on its file system. It
// includes reserved blocks and excludes the ballast file.
func (s *Store) Size() (int64, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return 0, fmt.Errorf("size of the store: %w", err)
	}
	var n int64
	for _, e := range entries {
		name := filepath.Join(s.dir, e.Name())
		if name == s.space.ballastFile() {
			continue
		}
		if size, err := taken(name); err == nil { // an error means that the file was removed meanwhile
			n += size
		}
	}
	return n, nil
}

func mebibytes(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }

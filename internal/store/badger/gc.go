package badger

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/stsrelay/stsrelay/internal/badgerfile"
	"github.com/stsrelay/stsrelay/internal/store"
)

// idleIntervals is how many intervals without a commit make the store idle.
const idleIntervals = 5

// gc frees value-log files whose bodies were deleted. When the store is idle, it
// compacts the tree first, because Badger learns only by compaction what is garbage.
func (s *Store) gc(ctx context.Context, every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	tables := time.NewTicker(tablesEvery)
	defer tables.Stop()
	var lastCommits int64
	idle := 0 // intervals
	for {
		select {
		case <-ctx.Done():
			return
		case <-tables.C:
			s.checkTables()
			continue
		case <-t.C:
		}
		if s.space.critical() != nil {
			continue // a rewrite needs space before it frees any
		}
		idle++
		if commits := s.commits.Load(); commits != lastCommits {
			idle, lastCommits = 0, commits
		}
		if idle == idleIntervals {
			s.fillMemtable(ctx)
			if err := s.db.Flatten(1); err != nil {
				s.log.Warn("compaction of the store failed", "error", err)
			}
		}
		for ctx.Err() == nil && s.mayGC() && s.collect() == nil { //nolint:revive // every success may leave more to do
		}
	}
}

// collect makes Badger collect a value log: some 0.1 s for 64 MiB, while no transaction is
// written. Badger reads the version of the newest change without a lock, and takes all
// changes of that version for written: a key that is being deleted could come back.
func (s *Store) collect() error {
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.db.RunValueLogGC(collectRatio)
}

// fillMemtable makes Badger write the memtable to a table, if the deletions in it are
// worth that. On a full disk nothing is done; it is tried again after the next change.
func (s *Store) fillMemtable(ctx context.Context) {
	before := s.filling.memtables.Load()
	for range 2 * memTableSize / maxTransaction {
		if s.filling.deleted.Load() < worthFilling || s.filling.memtables.Load() != before {
			return
		}
		var b store.Batch
		b.Do(0, 0, func(store.Txn) error {
			s.filling.forced = s.filling.memtables.Load() == before
			return nil
		})
		if store.Commit(ctx, s, &b) != nil {
			return
		}
	}
}

// tablesEvery is the time between two checks of all tables while the store is open.
// Badger skips the parts of a table that it cannot read, also when it compacts the
// table.
const tablesEvery = time.Hour

// checkTables reads all tables and makes the store fail if one has become damaged.
func (s *Store) checkTables() {
	for _, t := range s.db.Tables() {
		err := badgerfile.CheckTable(s.dir, t.ID)
		if err == nil || errors.Is(err, os.ErrNotExist) { // it was replaced meanwhile
			continue
		}
		s.failure.set(fmt.Errorf("the store in %s has become damaged: %w", s.dir, err))
		return
	}
}

// collectRatio is the fraction of a value log that must be garbage before the log is
// collected: its live values are moved and the file is deleted.
const collectRatio = 0.5

// mayGC reports whether the value log that Badger would collect next has enough
// garbage and is sound. Badger moves the values that it can read and then deletes the
// file: all values behind a damaged place would be lost.
func (s *Store) mayGC() bool {
	number := mostGarbage(s.dir)
	if number == 0 || s.unsound[number] {
		return false
	}
	sound, err := badgerfile.CheckValueLog(s.dir, number)
	if err == nil && sound {
		return true
	}
	s.unsound[number] = true
	s.log.Error("a value log is damaged; it is kept, and its space is not freed", "file", valueLog(number), "error", err)
	return false
}

func valueLog(number uint32) string { return fmt.Sprintf("%06d.vlog", number) }

// mostGarbage returns the number of the value log that has the most garbage according
// to Badger's DISCARD file. It returns 0 if that garbage is not enough to collect the
// log, or if the log is the newest one.
func mostGarbage(dir string) uint32 {
	notes, err := os.ReadFile(filepath.Join(dir, "DISCARD"))
	if err != nil {
		return 0
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.vlog"))
	if err != nil || len(files) == 0 {
		return 0
	}
	var number uint32
	var most uint64
	for ; len(notes) >= 16 && binary.BigEndian.Uint64(notes) != 0; notes = notes[16:] {
		n := uint32(binary.BigEndian.Uint64(notes))
		if garbage := binary.BigEndian.Uint64(notes[8:]); garbage > most && slices.Contains(files, filepath.Join(dir, valueLog(n))) {
			number, most = n, garbage
		}
	}
	name := filepath.Join(dir, valueLog(number))
	st, err := os.Stat(name)
	if err != nil || name == slices.Max(files) || float64(most) < collectRatio*float64(st.Size()) {
		return 0
	}
	return number
}

// keepIdentity syncs the identity file every identityEvery.
func (s *Store) keepIdentity(ctx context.Context) {
	t := time.NewTicker(identityEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if err := s.identity.sync(); err != nil {
			s.log.Warn("the store's identity cannot be written; it is tried again", "error", err)
		}
	}
}

const identityEvery = 5 * time.Second

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
)

// collect frees value-log files whose bodies are gone. At idle it compacts the
// tree first, now and then: Badger knows what is garbage only after compaction.
func (s *Store) gc(ctx context.Context, every time.Duration) {
	t := time.NewTicker(every)
	defer t.Stop()
	tables := time.NewTicker(tablesEvery)
	defer tables.Stop()
	var lastCommits, flattened int64
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
			continue // a rewrite needs space before it gives any
		}
		commits := s.commits.Load()
		if commits == lastCommits && commits != flattened {
			if err := s.db.Flatten(1); err != nil {
				s.log.Warn("compaction of the store failed", "error", err)
			}
			flattened = commits
		}
		lastCommits = commits
		for ctx.Err() == nil && s.mayGC() && s.db.RunValueLogGC(collectRatio) == nil { //nolint:revive // every success may leave more to do
		}
	}
}

// tablesEvery is the time between two looks at all tables while the store is
// open. Badger passes over what it cannot read of one, also when it writes the
// table anew.
const tablesEvery = time.Hour

// checkTables lets the store fail where a table has become damaged.
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

// collectRatio is the part of a value log that must be garbage for the rest of
// it to be moved.
const collectRatio = 0.5

// mayGC reports whether the value log that Badger would take next has
// enough garbage and is sound. Badger moves what it can read of a file and then
// deletes it: everything behind a damaged place would be gone.
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

// mostGarbage returns the value log with the most garbage, by Badger's notes: 0
// where that is not enough to collect it, or where it is the newest one.
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

// keepIdentity syncs the file beside the store now and then.
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

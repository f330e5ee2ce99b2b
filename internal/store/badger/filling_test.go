package badger

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/await"
	"github.com/stsrelay/stsrelay/internal/store"
)

// Bodies that were deleted leave the disk, also where the deletions are few and nothing
// more is written. The race detector sees here what is written while Badger collects.
func TestDeletedBodiesLeaveTheDiskOfAnIdleStore(t *testing.T) {
	s := open(t, Options{GCInterval: time.Millisecond})
	comeAndGo(t, s, 200)
	onlyTheNewestIsLeft(t, s)
	var b store.Batch
	b.Set(key(1), []byte("x"))
	commit(t, s, &b)
	if s.filling.forced {
		t.Error("the next memtable is filled too")
	}
}

// While Badger collects, no transaction is written: a key that it deletes could come back.
func TestNothingIsWrittenWhileAValueLogIsCollected(t *testing.T) {
	var s *Store
	collected := false
	log := writer(func(line []byte) {
		if bytes.Contains(line, []byte("Rewriting")) { // Badger's word, before it reads anything
			collected = true
			if s.writing.TryLock() {
				s.writing.Unlock()
				t.Error("a transaction could be written now")
			}
		}
	})
	s = open(t, Options{
		GCInterval: time.Hour,
		Logger:     slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	comeAndGo(t, s, 80)
	s.fillMemtable(t.Context())
	await.Until(t, "a value log to be garbage", s.mayGC)
	if err := s.collect(); err != nil || !collected {
		t.Errorf("%v; collected: %t", err, collected)
	}
	comeAndGo(t, s, 1)
}

// writer is an io.Writer that calls it.
type writer func([]byte)

func (w writer) Write(p []byte) (int, error) {
	w(p)
	return len(p), nil
}

// A store that was killed with filling in its write-ahead log is sound.
func TestFillingIsNoDamage(t *testing.T) {
	s := open(t, Options{})
	comeAndGo(t, s, 20)
	if s.filling.written < 19<<20/valuesPerFilling {
		t.Fatalf("%d octets were written into the tree", s.filling.written)
	}
	dir := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(dir, os.DirFS(s.dir)); err != nil {
		t.Fatal(err)
	}
	if d := open(t, Options{Dir: dir}).Damage(); len(d.Said) != 0 {
		t.Errorf("%q", d.Said)
	}
}

// What was deleted before a kill leaves the disk with the mail after the next start. It may
// not leave before that: Badger compacts the memtable of the killed process at once, perhaps
// before it knows that nobody reads the older versions, and keeps them then.
func TestDeletedBodiesLeaveTheDiskAfterAKill(t *testing.T) {
	s := open(t, Options{GCInterval: time.Hour})
	comeAndGo(t, s, 100) // less than fills a memtable
	dir := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(dir, os.DirFS(s.dir)); err != nil {
		t.Fatal(err)
	}
	again := open(t, Options{Dir: dir, GCInterval: 20 * time.Millisecond})
	comeAndGo(t, again, 150)
	onlyTheNewestIsLeft(t, again)
}

// onlyTheNewestIsLeft waits until there is no value log but the newest.
func onlyTheNewestIsLeft(t *testing.T, s *Store) {
	t.Helper()
	await.Until(t, "all value logs but the newest to go", func() bool {
		files, err := filepath.Glob(filepath.Join(s.dir, "*.vlog"))
		return err == nil && len(files) == 1
	})
}

// A memtable is full when 128 MiB of bodies were deleted, also while more mail comes.
func TestDeletedBodiesFillTheMemtable(t *testing.T) {
	s := open(t, Options{GCInterval: time.Hour})
	comeAndGo(t, s, 300)
	if n := s.filling.memtables.Load(); n != 2 {
		t.Errorf("%d memtables were begun", n)
	}
}

// comeAndGo stores and deletes so many bodies of 1 MiB.
func comeAndGo(t *testing.T, s *Store, bodies int) {
	t.Helper()
	body := make([]byte, 1<<20)
	for i := range bodies {
		k := append(store.PrefixBody[:1:1], key(i)...)
		var come, gone store.Batch
		come.Set(k, body)
		commit(t, s, &come)
		gone.Delete(k)
		commit(t, s, &gone)
	}
}

func TestFilling(t *testing.T) {
	const mib = 1 << 20
	var f filling
	for _, step := range []struct {
		why           string
		deleted, tree int64
		want          int
	}{
		{"a small message is deleted: its envelope was more", 10 << 10, 1 << 10, 0},
		{"a large one", mib, 1 << 10, (64<<10 + 640 - 2<<10) / fillingSize},
		{"what is too little for a key of filling is not forgotten", 0, 0, 0},
		{"a very large one", 100 * mib, 1 << 10, (mib - 1<<10) / fillingSize},
		{"the rest of it in the next transaction", 0, mib / 2, mib / 2 / fillingSize},
		{"a transaction that has no room", 0, 2 * mib, 0},
	} {
		if got := f.add(step.deleted, step.tree); got != step.want {
			t.Errorf("%s: %d keys, want %d", step.why, got, step.want)
		}
	}
	f.forced = true
	if got := f.add(mib, 0); got != mib/fillingSize {
		t.Errorf("forced: %d keys", got)
	}
	f.begun()
	if f.deleted.Load() != mib || f.forced || f.written != 0 {
		t.Errorf("the new memtable: %d deleted, %d written, forced: %t", f.deleted.Load(), f.written, f.forced)
	}
}

package badger

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stsrelay/stsrelay/internal/await"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/badger/badgertest"
)

// disk is a file system whose free space is set by the test.
type disk struct{ free atomic.Int64 }

func newDisk(free int64) *disk {
	d := new(disk)
	d.free.Store(free)
	return d
}

func (d *disk) measure(string) (int64, error) { return d.free.Load(), nil }

func TestRoomKeepsTheLimitFreeAndCountsWhatIsOnItsWay(t *testing.T) {
	d := newDisk(1 << 30)
	s := open(t, Options{FreeSpace: 1 << 29, Free: d.measure})
	if err := s.CheckSpace(1 << 29); err != nil {
		t.Errorf("just enough room: %v", err)
	}
	if err := s.CheckSpace(1<<29 + 1); !errors.Is(err, store.ErrDiskFull) {
		t.Errorf("one byte too many: %v", err)
	}
	release := block(s)
	var b store.Batch
	b.Set(key(1), make([]byte, 1<<20))
	s.Submit(&b, nil)
	if err := s.CheckSpace(1 << 29); !errors.Is(err, store.ErrDiskFull) {
		t.Errorf("with a MiB on its way: %v", err)
	}
	release()
	commit(t, s, new(store.Batch))
	if err := s.CheckSpace(1 << 29); err != nil {
		t.Errorf("after it was written: %v", err)
	}
	d.free.Store(1 << 29)
	if err := s.CheckSpace(0); err != nil {
		t.Errorf("at the limit: %v", err)
	}
}

func TestTheSizeIsWhatIsTakenOnTheDiskWithoutTheBallast(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir, Ballast: 1 << 20, Free: newDisk(1 << 30).measure})
	if _, err := os.Stat(filepath.Join(dir, "ballast")); err != nil {
		t.Fatal(err)
	}
	size := func() int64 {
		n, err := s.Size()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := size()
	if err := os.WriteFile(filepath.Join(dir, "more"), make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if n := size() - before; n < 1<<20 {
		t.Errorf("a file of a MiB counts as %d bytes", n)
	}
	before = size()
	if err := os.Remove(filepath.Join(dir, "ballast")); err != nil {
		t.Fatal(err)
	}
	if n := size() - before; n < 0 {
		t.Errorf("the ballast counted as %d bytes", -n)
	}
	if s.FreeLimit() != store.Floor {
		t.Errorf("limit %d: less than the floor is the floor", s.FreeLimit())
	}
}

func TestAMeasurementOfTheFreeSpaceIsRememberedForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, measured := newDisk(10), 0
		free := remembered(func(dir string) (int64, error) {
			measured++
			return d.measure(dir)
		})
		want := func(n int64, times int) {
			t.Helper()
			if got, err := free(""); got != n || err != nil || measured != times {
				t.Errorf("%d free, %v, measured %d times; want %d, %d times", got, err, measured, n, times)
			}
		}
		want(10, 1)
		d.free.Store(5)
		time.Sleep(measuredFor - time.Nanosecond)
		want(10, 1)
		time.Sleep(time.Nanosecond)
		want(5, 2)
	})
}

func TestAFullDiskRefusesChangesKeepsThoseThatRetryAndHealsByItself(t *testing.T) {
	d := newDisk(1 << 30)
	s := open(t, Options{Free: d.measure})
	d.free.Store(criticalSpace - 1)
	patient := make(chan error, 2)
	for i := range 2 {
		var b store.Batch
		b.RetryWhenFull()
		b.Update([]byte("order"), func(old []byte) []byte { return append(slices.Clone(old), byte(i)) })
		s.Submit(&b, func(err error) { patient <- err })
	}
	for range 3 {
		if err := store.Put(t.Context(), s, key(1), []byte("v")); !errors.Is(err, store.ErrDiskFull) {
			t.Fatalf("on a full disk: %v", err)
		}
	}
	if !s.Stalled() || len(patient) != 0 || s.Err() != nil {
		t.Errorf("stalled %v, %d patient answers, Err %v", s.Stalled(), len(patient), s.Err())
	}
	d.free.Store(1 << 30)
	for range 2 {
		if err := <-patient; err != nil {
			t.Errorf("a patient change: %v", err)
		}
	}
	if got := get(t, s, []byte("order")); !bytes.Equal(got, []byte{0, 1}) {
		t.Errorf("order %v", got)
	}
	if err := store.Put(t.Context(), s, key(1), []byte("v")); err != nil || s.Stalled() {
		t.Errorf("with space again: %v, stalled %v", err, s.Stalled())
	}
}

// A stop with a full disk does not wait, and writes nothing: Badger's last table would be
// written through a memory map, which a full disk answers with SIGBUS.
func TestCloseOnAFullDiskDoesNotWaitAndWritesNothing(t *testing.T) {
	d, dir := newDisk(1<<30), t.TempDir()
	s := open(t, Options{Dir: dir, Free: d.measure})
	t.Cleanup(func() { s.db.Close() })
	if err := store.Put(t.Context(), s, key(1), []byte("kept")); err != nil {
		t.Fatal(err)
	}
	d.free.Store(0)
	answer := make(chan error, 1)
	var b store.Batch
	b.RetryWhenFull()
	b.Set(key(2), nil)
	s.Submit(&b, func(err error) { answer <- err })
	if err := s.Close(); !errors.Is(err, store.ErrDiskFull) || !strings.Contains(err.Error(), "what was accepted is in its logs") {
		t.Errorf("close: %v", err)
	}
	if err := <-answer; !errors.Is(err, store.ErrDiskFull) {
		t.Errorf("got %v", err)
	}
	if tables, err := filepath.Glob(filepath.Join(dir, "*.sst")); err != nil || len(tables) > 0 {
		t.Errorf("%v were written, %v", tables, err)
	}
	if got := get(t, open(t, Options{Dir: badgertest.Copy(t, dir)}), key(1)); string(got) != "kept" {
		t.Errorf("the next start reads %q", got)
	}
}

func TestBallastIsMadeGivenUpAndMadeAgain(t *testing.T) {
	dir := t.TempDir()
	ballast := filepath.Join(dir, "ballast")
	there := func() bool { st, err := os.Stat(ballast); return err == nil && st.Size() == 1<<20 }
	// Deleting the ballast file frees its size.
	var free atomic.Int64
	measure := func(string) (int64, error) {
		if n := free.Load(); n >= 0 {
			return n, nil
		}
		if there() {
			return store.Floor - 1, nil
		}
		return store.Floor + 1<<20, nil
	}
	free.Store(1 << 30)
	o := Options{Dir: dir, Ballast: 1 << 20, Free: measure}
	s := open(t, o)
	if !there() {
		t.Fatal("the ballast was not made")
	}
	s.Close()
	free.Store(-1)
	s = open(t, o)
	if there() {
		t.Error("the ballast was not given up at the start on a full disk")
	}
	free.Store(1 << 30)
	await.Until(t, "the ballast to be made again", there)
	free.Store(store.Floor - 1)
	await.Until(t, "the ballast to be given up while the store is open", func() bool { return !there() })
	free.Store(1 << 30)
	await.Until(t, "the ballast to be made once more", there)
	s.Close()
	free.Store(criticalSpace - 1)
	if s, err := Open(o); !errors.Is(err, store.ErrDiskFull) {
		s.Close()
		t.Errorf("a disk that is full without the ballast too: %v", err)
	}
}

func TestCollectionGivesTheSpaceOfDeletedBodiesBack(t *testing.T) {
	s := open(t, Options{GCInterval: 20 * time.Millisecond})
	body := make([]byte, 256<<10)
	for i := range 600 { // 150 MiB: two full value-log files and a part
		body[0] = byte(i)
		var b store.Batch
		b.Set(key(i), slices.Clone(body))
		s.Submit(&b, nil)
	}
	commit(t, s, new(store.Batch))
	files := func() int {
		found, _ := filepath.Glob(filepath.Join(s.dir, "*.vlog"))
		return len(found)
	}
	before := files()
	// Badger learns only by compaction what is garbage, so the deletions must
	// leave the memtable. Enough small changes push them out.
	for round := range 30 {
		var b store.Batch
		for i := range 600 {
			b.Delete(key(i))
			b.Set(key(10000+round*600+i), make([]byte, 1000))
		}
		commit(t, s, &b)
	}
	await.Until(t, "value-log files to go", func() bool { return files() < before })
	if get(t, s, key(10000)) == nil {
		t.Error("a live value went with the garbage")
	}
}

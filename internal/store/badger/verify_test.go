package badger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/badger/badgertest"
)

// messages puts n envelopes with bodies into a store and closes it.
func messages(t *testing.T, dir string, from, n int) {
	t.Helper()
	s := open(t, Options{Dir: dir})
	for i := from; i < from+n; i++ {
		var b store.Batch
		b.Set(binary.BigEndian.AppendUint64(bytes.Clone(store.PrefixMessage), uint64(i)), []byte("envelope"))
		b.Set(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(bytes.Clone(store.PrefixBody), uint64(i)), 0), tornValue(i))
		commit(t, s, &b)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// refused opens a store that must not be opened, and checks that nothing in its
// folder has changed.
func refused(t *testing.T, dir, words string, foreign bool) *DamageError {
	t.Helper()
	before := listing(t, dir)
	s, err := Open(Options{Dir: dir})
	if err == nil {
		s.Close()
	}
	damage, ok := errors.AsType[*DamageError](err)
	if !ok || !strings.Contains(err.Error(), words) || damage.Foreign != foreign {
		t.Fatalf("opening it gave %v, want a DamageError with %q, foreign %v", err, words, foreign)
	}
	if after := listing(t, dir); after != before {
		t.Errorf("the folder was\n%sand is\n%s", before, after)
	}
	return damage
}

func listing(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(e.Name() + " ")
		_ = binary.Write(&b, binary.BigEndian, sumOf(nil, data))
		b.WriteByte('\n')
	}
	return b.String()
}

func flip(t *testing.T, file string, at int64) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 4
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

func TestADamagedStoreIsNotOpenedAndNotTouched(t *testing.T) {
	for _, row := range []struct {
		name, words string
		damage      func(t *testing.T, dir string)
	}{
		{"no manifest", "MANIFEST: the file is missing", func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, "MANIFEST")) }},
		{"a wrong octet in the manifest", "MANIFEST", func(t *testing.T, dir string) { flip(t, filepath.Join(dir, "MANIFEST"), 20) }},
		{"a wrong octet in a table", "does not match its checksum", func(t *testing.T, dir string) { flip(t, newest(t, dir, "*.sst"), 200) }},
		{"a wrong octet in the index of a table", "its index is damaged", func(t *testing.T, dir string) {
			st, _ := os.Stat(newest(t, dir, "*.sst"))
			flip(t, newest(t, dir, "*.sst"), st.Size()-40)
		}},
		{"a table cut short", "it is cut off", func(t *testing.T, dir string) { os.Truncate(newest(t, dir, "*.sst"), 150) }},
		{"a table that is empty", "it is cut off", func(t *testing.T, dir string) { os.Truncate(newest(t, dir, "*.sst"), 0) }},
		{"no table", "sst: the file is missing", func(t *testing.T, dir string) { os.Remove(newest(t, dir, "*.sst")) }},
		{"no value log", "vlog: the file is missing", func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, "000001.vlog")) }},
		{"two value logs in each other's place", "the file is not the one that belongs there", func(t *testing.T, dir string) {
			a, b := filepath.Join(dir, "000001.vlog"), filepath.Join(dir, "000002.vlog")
			_ = os.Rename(a, a+"x")
			_ = os.Rename(b, a)
			_ = os.Rename(a+"x", b)
		}},
		{"the head of a value log", "its head is damaged", func(t *testing.T, dir string) { flip(t, filepath.Join(dir, "000001.vlog"), 3) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "queue")
			messages(t, dir, 0, 5)
			messages(t, dir, 5, 5)
			row.damage(t, dir)
			if d := refused(t, dir, row.words, false); d.Expected != 10 {
				t.Errorf("it is said to have held %d messages", d.Expected)
			}
		})
	}
}

func TestAStoreThatIsNotTheOneThatWasThereIsNotOpened(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "queue")
	messages(t, dir, 0, 5)
	old := badgertest.Copy(t, dir)
	messages(t, dir, 5, 2)
	put := func(from string) {
		t.Helper()
		if err := errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(from))); err != nil {
			t.Fatal(err)
		}
	}
	now := badgertest.Copy(t, dir)
	put(old)
	refused(t, dir, "older than it should be", true)
	put(t.TempDir())
	if d := refused(t, dir, "it is empty, and", true); d.Expected != 7 {
		t.Errorf("it is said to have held %d messages", d.Expected)
	}
	other := filepath.Join(t.TempDir(), "queue")
	messages(t, other, 0, 20)
	put(other)
	refused(t, dir, "it is not the store that", true)
	put(now)
	open(t, Options{Dir: dir}).Close()
	// After a rescue an empty folder is a new store.
	put(t.TempDir())
	if err := MarkRescued(dir); err != nil {
		t.Fatal(err)
	}
	messages(t, dir, 0, 1)
	put(t.TempDir())
	refused(t, dir, "speaks of 1 messages", true)
	// Without the identity file a store opens as it is.
	put(now)
	if err := os.Remove(IdentityFile(dir)); err != nil {
		t.Fatal(err)
	}
	open(t, Options{Dir: dir})
}

// Damage in the middle of a write-ahead log hides later changes. It does not come from a
// crash, which tears only the last change.
func TestAWriteAheadLogIsDamagedInTheMiddleAndTornAtTheEnd(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "queue")
	s := open(t, Options{Dir: dir})
	for i := range 20 {
		if err := store.Put(t.Context(), s, key(i), []byte("small")); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct {
		name   string
		back   int64
		beside bool // the identity file exists
		words  string
		said   int
	}{
		{"in the middle", 900, false, "and more follows", 0},
		{"in the middle, seen by the file beside it too", 900, true, "and more follows", 0},
		{"at the end", 20, false, "", 0},
		{"at the end, and what is lost is known", 20, true, "", 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			copied := filepath.Join(t.TempDir(), "queue")
			if err := os.CopyFS(copied, os.DirFS(badgertest.Copy(t, dir))); err != nil {
				t.Fatal(err)
			}
			if row.beside {
				data, err := os.ReadFile(IdentityFile(dir))
				if err == nil {
					err = os.WriteFile(IdentityFile(copied), data, 0o600)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			log := newest(t, copied, "*.mem")
			flip(t, log, end(t, log)-row.back)
			if row.words != "" {
				refused(t, copied, row.words, false)
				return
			}
			c := open(t, Options{Dir: copied})
			if get(t, c, key(18)) == nil || get(t, c, key(19)) != nil {
				t.Error("not the last change alone is lost")
			}
			if said := c.Damage().Said; len(said) != row.said || row.said > 0 && !strings.Contains(said[0], "the last 1 changes are lost") {
				t.Errorf("%q", said)
			}
		})
	}
}

func TestFilesThatHoldNothingOfAMessageAreSetAside(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "queue")
	messages(t, dir, 0, 5)
	notes := make([]byte, 1<<20)
	for i, n := range []uint64{7, 100, 7, 200} { // one file twice: Badger would search forever
		binary.BigEndian.PutUint64(notes[8*i:], n)
	}
	err := errors.Join(os.WriteFile(filepath.Join(dir, "DISCARD"), notes, 0o600), os.Truncate(filepath.Join(dir, "KEYREGISTRY"), 5),
		os.WriteFile(filepath.Join(dir, "000099.vlog"), nil, 0o600), os.WriteFile(filepath.Join(dir, "00099.mem"), nil, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	s := open(t, Options{Dir: dir})
	if len(s.Damage().Said) != 2 || get(t, s, append(binary.BigEndian.AppendUint64(bytes.Clone(store.PrefixBody), 3), 0, 0, 0, 0)) == nil {
		t.Errorf("said %q", s.Damage().Said)
	}
	for _, name := range []string{"DISCARD.damaged", "KEYREGISTRY.damaged"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

// A value log is not collected if a part of it cannot be read: the values after that
// part would be deleted with the file.
func TestADamagedValueLogIsNeverCollected(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "queue")
	messages(t, dir, 0, 200)
	s := open(t, Options{Dir: dir})
	for i := range 150 {
		var b store.Batch
		b.Delete(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(bytes.Clone(store.PrefixBody), uint64(i)), 0))
		commit(t, s, &b)
	}
	notes := make([]byte, 1<<20)
	binary.BigEndian.PutUint64(notes, 1)
	binary.BigEndian.PutUint64(notes[8:], 1<<30)
	if err := os.WriteFile(filepath.Join(dir, "DISCARD"), notes, 0o600); err != nil {
		t.Fatal(err)
	}
	if n := mostGarbage(dir); n != 1 {
		t.Fatalf("value log %d would be collected", n)
	}
	if !s.mayGC() {
		t.Error("a sound value log is not collected")
	}
	flip(t, filepath.Join(dir, "000001.vlog"), 5000)
	for range 2 { // the second result comes from memory
		if s.mayGC() {
			t.Error("a damaged value log is collected")
		}
	}
}

func TestATableThatBecomesDamagedStopsTheStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "queue")
	messages(t, dir, 0, 200)
	s := open(t, Options{Dir: dir})
	if s.checkTables(); s.Err() != nil {
		t.Fatal(s.Err())
	}
	flip(t, newest(t, dir, "*.sst"), 300)
	if s.checkTables(); !errors.Is(s.Err(), store.ErrFailed) || !strings.Contains(s.Err().Error(), "has become damaged") {
		t.Errorf("Err %v", s.Err())
	}
}

func TestASealedValueBelongsToItsKey(t *testing.T) {
	for _, n := range []int{0, 1, 500, valueThreshold - 5, valueThreshold - 4, valueThreshold, 5000} {
		value := bytes.Repeat([]byte{7}, n)
		e := seal([]byte("key"), value)
		if got, ok := unseal([]byte("key"), e.UserMeta, e.Value); !ok || !bytes.Equal(got, value) {
			t.Errorf("%d octets came back as %d, %v", n, len(got), ok)
		}
		if _, ok := unseal([]byte("kez"), e.UserMeta, e.Value); ok {
			t.Errorf("%d octets are those of another key too", n)
		}
	}
}

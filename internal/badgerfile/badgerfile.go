// Package badgerfile reads the files of a Badger database (v4, neither
// compressed nor encrypted) without Badger, and changes nothing.
//
// Badger trusts its files: opening a database cuts and deletes what does not
// fit, a block with a wrong checksum counts as empty, and a table that is too
// short ends the process. So the files are read here first, every one of them
// with all of its checksums, before Badger may touch them. What is damaged is
// a Problem, and the rest can still be read.
package badgerfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/dgraph-io/badger/v4"
)

// The bits of an entry's meta that matter here (badger/value.go).
const (
	bitDelete       = 1 << 0
	bitValuePointer = 1 << 1
	bitTxn          = 1 << 6
	bitFinTxn       = 1 << 7
)

// internalPrefix begins the keys that are Badger's own.
var internalPrefix = []byte("!badger!")

// Problem is damage: a file, and what is wrong with it.
type Problem struct {
	File string // without its folder
	What string
}

func (p Problem) String() string { return p.File + ": " + p.What }

// Database is what the files of a folder hold. It is used by one goroutine.
type Database struct {
	dir      string
	salvage  *Salvage
	sources  []source // the first one wins where two have the same key of the same version
	values   map[uint32]*os.File
	buf      []byte
	problems []Problem

	// Torn are the write-ahead logs that end in the middle of a write, which is
	// what a crash leaves.
	Torn []string
	// Empty are log files without a single octet. Badger cannot open them, and a
	// crash may leave the newest one so.
	Empty []string
	// Newest is the number of the newest value log, 0 where there is none.
	Newest uint32
}

// Item is the newest version of a key that was not deleted. It may be kept.
type Item struct {
	Key      []byte
	UserMeta byte
	Value    []byte // where Pointer is nil
	Pointer  *Pointer
	version  uint64
}

// Pointer is where a value lies in a value log.
type Pointer struct{ File, Offset, Len uint32 }

// entry is one version of a key.
type entry struct {
	key      []byte
	version  uint64
	meta     byte
	userMeta byte
	value    []byte
}

// source hands out entries in the order of compare. ok is false at its end.
type source interface {
	next() (e entry, ok bool)
}

// compare orders by key, and newer versions of a key before older ones.
func (e *entry) compare(o *entry) int {
	if c := bytes.Compare(e.key, o.key); c != 0 {
		return c
	}
	switch {
	case e.version > o.version:
		return -1
	case e.version < o.version:
		return 1
	}
	return 0
}

// splitKey takes the version off a stored key.
func splitKey(stored []byte) (key []byte, version uint64, ok bool) {
	n := len(stored) - 8
	if n < 0 {
		return nil, 0, false
	}
	return stored[:n:n], math.MaxUint64 - binary.BigEndian.Uint64(stored[n:]), true
}

// Salvage says what else of a damaged database may be taken in.
type Salvage struct {
	// Sound reports whether a value that lies in a table is sound by itself.
	Sound func(key []byte, userMeta byte, value []byte) bool
	// Unnamed reports whether the value of a key may be taken from a value log where
	// nothing is known of the key, not even that it was deleted.
	Unnamed func(key []byte) bool
}

// Open reads the names and the logs in dir; tables are read by Walk. With
// salvage it also takes in what the database itself may not count: tables that
// the manifest does not name, what lies in a log behind a damaged place, of a
// damaged block the values that are sound, and values that nothing points to any
// more. The error is one of reading the folder; damage is in Problems.
func Open(dir string, salvage *Salvage) (*Database, error) {
	d := &Database{dir: dir, salvage: salvage, values: make(map[uint32]*os.File)}
	names, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var tables, memory, logs []uint64
	manifest := false
	for _, f := range names {
		manifest = manifest || f.Name() == badger.ManifestFilename
		for ext, list := range map[string]*[]uint64{".sst": &tables, ".mem": &memory, ".vlog": &logs} {
			if base, ok := strings.CutSuffix(f.Name(), ext); ok {
				if n, err := strconv.ParseUint(base, 10, 32); err == nil {
					*list = append(*list, n)
				}
			}
		}
	}
	for _, list := range [][]uint64{tables, memory, logs} {
		slices.Sort(list)
	}
	if err := d.openMemory(memory); err != nil {
		return d, err
	}
	d.openTables(tables, manifest, len(memory)+len(logs) > 0)
	if err := d.openValues(logs); err != nil || salvage == nil {
		return d, err
	}
	return d, d.openUnnamed()
}

// openUnnamed takes in the values of the value logs, after everything else.
func (d *Database) openUnnamed() error {
	var list []entry
	for number, f := range d.values {
		_, err := eachRecord(f, func(r *record, at int64) {
			if !d.salvage.Unnamed(r.key) {
				return
			}
			p := binary.NativeEndian.AppendUint32(nil, number)
			p = binary.NativeEndian.AppendUint32(p, uint32(r.size))
			p = binary.NativeEndian.AppendUint32(p, uint32(at))
			list = append(list, entry{key: bytes.Clone(r.key), version: r.version, meta: bitValuePointer, userMeta: r.userMeta, value: p})
		})
		if err != nil {
			return err
		}
	}
	slices.SortFunc(list, func(a, b entry) int { return a.compare(&b) })
	d.sources = append(d.sources, &entries{list})
	return nil
}

// Close closes the files.
func (d *Database) Close() {
	for _, f := range d.values {
		_ = f.Close()
	}
	for _, s := range d.sources {
		if t, ok := s.(*table); ok {
			_ = t.file.Close()
		}
	}
}

// Problems are the damages that were met so far: all of those of tables and of
// write-ahead logs after a Walk to the end.
func (d *Database) Problems() []Problem { return d.problems }

func (d *Database) problem(name, format string, args ...any) {
	d.problems = append(d.problems, Problem{File: filepath.Base(name), What: fmt.Sprintf(format, args...)})
}

// openMemory reads the write-ahead logs, newest first: they are what is not in
// a table yet.
func (d *Database) openMemory(numbers []uint64) error {
	for _, n := range slices.Backward(numbers) {
		name := filepath.Join(d.dir, fmt.Sprintf("%05d.mem", n))
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if len(data) == 0 {
			d.Empty = append(d.Empty, filepath.Base(name))
			continue
		}
		l := readWAL(data, d.salvage != nil)
		if l.problem != "" {
			d.problem(name, "%s", l.problem)
		}
		if l.torn {
			d.Torn = append(d.Torn, filepath.Base(name))
		}
		slices.SortStableFunc(l.entries, func(a, b entry) int { return a.compare(&b) })
		d.sources = append(d.sources, &entries{l.entries})
	}
	return nil
}

type entries struct{ left []entry }

func (s *entries) next() (entry, bool) {
	if len(s.left) == 0 {
		return entry{}, false
	}
	e := s.left[0]
	s.left = s.left[1:]
	return e, true
}

// openTables opens the tables in the order in which Badger asks them: those of
// level 0 newest first, then level by level.
func (d *Database) openTables(numbers []uint64, manifest, logs bool) {
	levels, known := map[uint64]uint8{}, false
	if manifest {
		var err error
		if levels, err = readManifest(filepath.Join(d.dir, badger.ManifestFilename)); err != nil {
			d.problem(badger.ManifestFilename, "%v", err)
		} else {
			known = true
		}
	} else if len(numbers) > 0 || logs {
		d.problem(badger.ManifestFilename, "the file is missing")
	}
	for n := range levels {
		if !slices.Contains(numbers, n) {
			d.problem(tableName(n), "the file is missing")
		}
	}
	var named, others []uint64
	for _, n := range numbers {
		if _, ok := levels[n]; ok {
			named = append(named, n)
		} else {
			others = append(others, n)
		}
	}
	slices.SortFunc(named, func(a, b uint64) int {
		if c := int(levels[a]) - int(levels[b]); c != 0 {
			return c
		}
		return int(b) - int(a)
	})
	slices.Reverse(others)
	if d.salvage == nil && known {
		others = nil // what a crash leaves of a table that was being written, or had been replaced
	}
	for _, n := range append(named, others...) {
		name := filepath.Join(d.dir, tableName(n))
		t, err := openTable(name)
		if err != nil {
			d.problem(name, "%v", err)
		}
		if t != nil {
			if d.salvage != nil {
				t.sound = d.sound
			}
			t.damaged = func(what string) { d.problem(name, "%s", what) }
			d.sources = append(d.sources, t)
		}
	}
}

func tableName(n uint64) string { return fmt.Sprintf("%06d.sst", n) }

// readManifest returns the level of each table that the manifest names.
func readManifest(name string) (map[uint64]uint8, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, _, err := badger.ReplayManifestFile(f, 0, badger.DefaultOptions("").WithLogger(nil))
	if err != nil {
		return nil, err
	}
	levels := make(map[uint64]uint8, len(m.Tables))
	for n, t := range m.Tables {
		levels[n] = t.Level
	}
	return levels, nil
}

// openValues opens the value logs.
func (d *Database) openValues(numbers []uint64) error {
	for _, n := range numbers {
		name := filepath.Join(d.dir, valueLogName(uint32(n)))
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		d.values[uint32(n)] = f
		d.Newest = max(d.Newest, uint32(n))
		var head [logHead]byte
		switch k, _ := f.ReadAt(head[:], 0); {
		case k == 0:
			d.Empty = append(d.Empty, filepath.Base(name))
		case k < logHead:
			d.problem(name, "only %d octets of the file are there", k)
		case binary.BigEndian.Uint64(head[:]) != 0:
			d.problem(name, "its head is damaged")
		}
	}
	return nil
}

func valueLogName(n uint32) string { return fmt.Sprintf("%06d.vlog", n) }

// Errors of Value.
var (
	// ErrNoFile says that the value log is not there.
	ErrNoFile = errors.New("the file is missing")
	// ErrForeign says that a sound value of another key lies there: the value log
	// is not the one that the database wrote.
	ErrForeign = errors.New("another value lies in its place: the file is not the one that belongs there")
	// ErrUnreadable says that the value is damaged or cut off.
	ErrUnreadable = errors.New("it does not match its checksum")
)

// PlaceError is a value that cannot be read, with its place in a value log.
type PlaceError struct {
	File   string
	Offset uint32
	Err    error
}

func (e *PlaceError) Error() string { return fmt.Sprintf("%s, octet %d: %v", e.File, e.Offset, e.Err) }

// Unwrap returns the reason.
func (e *PlaceError) Unwrap() error { return e.Err }

// Value reads the value of an item; it is valid until the next call. The error
// wraps one of the three above.
func (d *Database) Value(it *Item) ([]byte, error) {
	if it.Pointer == nil {
		return it.Value, nil
	}
	p := it.Pointer
	fail := func(err error) error {
		return &PlaceError{File: valueLogName(p.File), Offset: p.Offset, Err: err}
	}
	f := d.values[p.File]
	if f == nil {
		return nil, fail(ErrNoFile)
	}
	if p.Len > maxEntry {
		return nil, fail(ErrUnreadable)
	}
	d.buf = slices.Grow(d.buf[:0], int(p.Len))[:p.Len]
	if _, err := f.ReadAt(d.buf, int64(p.Offset)); err != nil {
		return nil, fail(fmt.Errorf("%w (%w)", ErrUnreadable, err))
	}
	r, ok := decodeRecord(d.buf)
	if !ok {
		return nil, fail(ErrUnreadable)
	}
	if !bytes.Equal(r.key, it.Key) || r.version != it.version || r.userMeta != it.UserMeta {
		return nil, fail(ErrForeign)
	}
	return r.value, nil
}

// sound reports whether an entry of a damaged block is whole: what it points to
// says which key it belongs to, and other values the salvage knows.
func (d *Database) sound(e *entry) bool {
	if e.meta&bitValuePointer == 0 {
		return d.salvage.Sound(e.key, e.userMeta, e.value)
	}
	_, err := d.Value(itemOf(e))
	return err == nil
}

// CutAt is where Badger would cut the newest value log when it opens the
// database: behind the last sound entry of those that follow each other.
func (d *Database) CutAt() (uint32, error) {
	f := d.values[d.Newest]
	if f == nil {
		return 0, nil
	}
	end, err := eachRecord(f, func(*record, int64) {})
	return uint32(end), err
}

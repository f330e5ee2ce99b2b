package badger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/stsrelay/stsrelay/internal/badgerfile"
	"github.com/stsrelay/stsrelay/internal/store"
)

// verifiedAtStart is the number of bytes of values that are verified at each start,
// the oldest first. Of the values after that, one in a hundred is verified. Each value
// is verified again when it is read; the check at the start is to find value logs that
// belong to another store or time.
const verifiedAtStart = 256 << 20

// DamageError is the error for a store that was not opened because it is damaged, or
// because it is not the store that was there before. The store was not changed.
type DamageError struct {
	Dir string
	// Foreign reports whether the files are sound, but the store is empty, older than
	// expected, or another store.
	Foreign bool
	// Problems are the problems found, one sentence each.
	Problems []string
	// Expected is the number of messages in the store when it was last written;
	// -1 if it is not known.
	Expected int
}

func (e *DamageError) Error() string {
	const most = 5
	list := e.Problems
	more := ""
	if len(list) > most {
		more = fmt.Sprintf("; and %d more", len(list)-most)
		list = list[:most]
	}
	what := "damaged"
	if e.Foreign {
		what = "not the one that was there"
	}
	return fmt.Sprintf("the store in %s is %s: %s%s", e.Dir, what, strings.Join(list, "; "), more)
}

// verdict is the result of verify.
type verdict struct {
	problems   []string
	foreign    bool     // the problems were found by compare
	state      State    // counted from the envelopes in the store
	recorded   *State   // the State in the store; nil for none
	expected   *State   // the State in the identity file; nil for none
	unreadable [][]byte // keys of values that cannot be read
	park       uint32   // if not 0, the value log that Badger must not cut
	torn       []string
	lost       bool // acknowledged changes are missing at the end of the torn files
	empty      []string
	keys       int
	written    store.Written // in which format; of format 0 where the store does not say
	said       []string      // findings for the log that do not prevent opening
}

// verify reads all tables and write-ahead logs of the store in dir, and values up to
// verifiedAtStart. It changes nothing.
func verify(dir string) (*verdict, error) {
	db, err := badgerfile.Open(dir, nil)
	if err != nil {
		return nil, fmt.Errorf("read the store in %s: %w", dir, err)
	}
	defer db.Close()
	v := &verdict{torn: db.Torn, empty: db.Empty}
	values := valueCheck{v: v, db: db, seen: make(map[uint32]bool), wrong: make(map[string]bool)}
	err = db.Walk(func(it *badgerfile.Item) error {
		v.keys++
		if n, ok := isMessage(it.Key); ok {
			v.state.add(n, true)
		}
		if bytes.Equal(it.Key, keyState) {
			value, ok := unseal(it.Key, it.UserMeta, it.Value)
			if s := new(State); ok && s.decode(value) {
				v.recorded = s
			}
		}
		if bytes.Equal(it.Key, store.KeyFormat) {
			v.readFormat(it)
		}
		if it.Pointer != nil {
			values.check(it)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the store in %s: %w", dir, err)
	}
	for _, p := range db.Problems() {
		v.problems = append(v.problems, p.String())
	}
	if err := values.protectNewest(); err != nil {
		return nil, fmt.Errorf("read the store in %s: %w", dir, err)
	}
	var rescued bool
	if v.expected, rescued, err = readIdentity(dir); err != nil {
		return nil, fmt.Errorf("read %s: %w", IdentityFile(dir), err)
	}
	if rescued && v.keys == 0 && len(v.problems) == 0 {
		v.expected = nil // a new store in the place of one that was rescued
	}
	v.compare(dir)
	return v, nil
}

// readFormat reads in which format the store is. A damaged value is a problem: the store may
// be one that this program would misread.
func (v *verdict) readFormat(it *badgerfile.Item) {
	value, ok := unseal(it.Key, it.UserMeta, it.Value)
	err := error(&store.ValueError{Key: it.Key})
	if ok {
		v.written, err = store.ReadWritten(value)
	}
	if err != nil {
		v.problems = append(v.problems, err.Error())
	}
}

// valueCheck verifies the values in value logs.
type valueCheck struct {
	v     *verdict
	db    *badgerfile.Database
	read  int64
	count int
	seen  map[uint32]bool // value logs of which a value was verified
	wrong map[string]bool // files whose problem was reported
	// tail are the values in the newest value log.
	tail []badgerfile.Pointer
}

func (c *valueCheck) check(it *badgerfile.Item) {
	c.count++
	if it.Pointer.File == c.db.Newest {
		c.tail = append(c.tail, *it.Pointer)
	}
	if c.read > verifiedAtStart && c.count%100 != 0 && c.seen[it.Pointer.File] {
		return
	}
	c.seen[it.Pointer.File] = true
	c.read += int64(it.Pointer.Len)
	_, err := c.db.Value(it)
	switch {
	case errors.Is(err, badgerfile.ErrNoFile), errors.Is(err, badgerfile.ErrForeign):
		// The whole file is missing or belongs elsewhere: one problem for all its values.
		if at, ok := errors.AsType[*badgerfile.PlaceError](err); ok && !c.wrong[at.File] {
			c.wrong[at.File] = true
			c.v.problems = append(c.v.problems, at.File+": "+at.Err.Error())
		}
	case err != nil:
		c.v.unreadable = append(c.v.unreadable, it.Key)
		c.v.said = append(c.v.said, fmt.Sprintf("a value cannot be read: %v", err))
	}
}

// protectNewest looks for values behind the place where Badger would cut the newest
// value log. A crash leaves none there; if there are any, the file is damaged and must
// not be cut.
func (c *valueCheck) protectNewest() error {
	cut, err := c.db.CutAt()
	if err != nil {
		return err
	}
	for _, p := range c.tail {
		if p.Offset >= cut && p.Offset > 0 {
			c.v.park = c.db.Newest
		}
	}
	return nil
}

// compare compares the counted State with the State recorded in the store, and with
// the one in the identity file.
func (v *verdict) compare(dir string) {
	if len(v.problems) > 0 {
		return // damage was found already
	}
	wrong := func(format string, args ...any) {
		v.problems, v.foreign = append(v.problems, fmt.Sprintf(format, args...)), true
	}
	if r := v.recorded; r != nil && (v.state.Messages < r.Messages || v.state.Messages == r.Messages && v.state.Sum != r.Sum) {
		wrong("it says of itself that it holds %d messages, and %d are there, or others: a part of it is missing or of another time", r.Messages, v.state.Messages)
	}
	x := v.expected
	if x == nil {
		return
	}
	file := IdentityFile(dir)
	switch r := v.recorded; {
	case r == nil && v.keys == 0 && x.Messages == 0:
		v.said = append(v.said, fmt.Sprintf("the store is new, and %s speaks of another one, in which no mail was", file))
	case r == nil && v.keys == 0:
		wrong("it is empty, and %s speaks of %d messages", file, x.Messages)
	case r == nil, r.ID != x.ID:
		wrong("it is not the store that %s speaks of, with %d messages", file, x.Messages)
	case r.Commits < x.Commits && len(v.torn) == 0:
		wrong("it is older than it should be: %s speaks of %d changes and %d messages, and there are %d and %d", file, x.Commits, x.Messages, r.Commits, v.state.Messages)
	case r.Commits < x.Commits:
		v.lost = true
		v.said = append(v.said, fmt.Sprintf("the last %d changes are lost: %s ends in the middle of a write, as after a crash of a machine whose disk loses what it has acknowledged. "+
			"There were %d messages, and there are %d. What is left of the write is set aside as .torn", x.Commits-r.Commits, strings.Join(v.torn, ", "), x.Messages, v.state.Messages))
	}
}

// refusal returns the error for a store that must not be opened by this version of the
// program, nil if it may be: a *store.FormatError or a *DamageError.
func (v *verdict) refusal(dir, version string) error {
	if err := v.newer(dir, version); err != nil {
		return err
	}
	if d := v.damage(dir); d != nil {
		return d
	}
	return nil
}

// newer returns the error for a store of a newer format, nil for the others.
func (v *verdict) newer(dir, version string) error {
	if v.written.Format <= store.Format {
		return nil
	}
	return &store.FormatError{Place: dir, Written: v.written, Version: version}
}

// damage returns what is wrong with a store that must not be opened, nil for nothing.
func (v *verdict) damage(dir string) *DamageError {
	if len(v.problems) == 0 {
		return nil
	}
	e := &DamageError{Dir: dir, Foreign: v.foreign, Problems: v.problems, Expected: -1}
	if v.expected != nil {
		e.Expected = int(v.expected.Messages)
	} else if v.recorded != nil {
		e.Expected = int(v.recorded.Messages)
	}
	return e
}

// prepare makes the folder ready for Badger: it sets aside damaged files that hold no
// part of a message, copies torn files before Badger cuts them, and protects the newest
// value log.
func (v *verdict) prepare(dir string) error {
	for name, sound := range map[string]func(string) (bool, error){"DISCARD": discardSound, "KEYREGISTRY": keysSound} {
		file := filepath.Join(dir, name)
		ok, err := sound(file)
		if err == nil && !ok {
			v.said = append(v.said, fmt.Sprintf("%s is damaged. It holds nothing of a message: it is set aside as %s.damaged and made anew", file, name))
			err = os.Rename(file, file+".damaged")
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if v.lost {
		for _, name := range v.torn { // Badger cuts them
			data, err := os.ReadFile(filepath.Join(dir, name))
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, name+".torn"), data, 0o600) //nolint:gosec // name is one of the store's own folder
			}
			if err != nil {
				return err
			}
		}
	}
	for _, name := range v.empty { // no octet is in them
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	if v.park == 0 {
		return nil
	}
	// Badger cuts the newest value log at the first damaged place. With an empty value
	// log after it, the damaged one is no longer the newest and is not cut.
	v.said = append(v.said, fmt.Sprintf("%s is damaged, and sound values lie behind the place; the file stays as it is", valueLog(v.park)))
	next := filepath.Join(dir, valueLog(v.park+1))
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 20)) // a head without a key
	return errors.Join(err, f.Sync(), f.Close(), syncFolder(dir))
}

// discardSound reports whether Badger's DISCARD file is well-formed: it lists value
// logs in any order, each once, with the octets that can be freed. The file has no
// checksum, and a malformed one can make Badger wait forever.
func discardSound(file string) (bool, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return false, err
	}
	if len(data) < 1<<20 || len(data)%16 != 0 {
		return false, nil
	}
	seen := make(map[uint64]bool)
	for ; len(data) > 0; data = data[16:] {
		number, size := binary.BigEndian.Uint64(data), binary.BigEndian.Uint64(data[8:])
		if number == 0 {
			return true, nil
		}
		if number >= 1<<32 || size >= 1<<40 || seen[number] {
			return false, nil
		}
		seen[number] = true
	}
	return false, nil
}

// keysSound reports whether the key registry is that of a store without encryption keys.
func keysSound(file string) (bool, error) {
	const head, text = 16, "Hello Badger"
	data, err := os.ReadFile(file)
	return len(data) == head+len(text) && string(data[head:]) == text, err
}

package badger

import (
	"bytes"
	"encoding/binary"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/stsrelay/stsrelay/internal/store"
)

// edit changes a store past the committer, as another version of the program may have left it.
func edit(t *testing.T, dir string, fn func(*badger.Txn) error) {
	t.Helper()
	db, err := badger.Open(BadgerOptions(dir, nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(fn), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestAStoreOfANewerFormatIsRefusedAndNotTouched(t *testing.T) {
	dir := t.TempDir()
	messages(t, dir, 0, 3)
	edit(t, dir, func(txn *badger.Txn) error {
		return txn.SetEntry(seal(store.KeyFormat, store.Written{Format: store.Format + 1, By: "2.1"}.Encode()))
	})
	before := listing(t, dir)
	for name, open := range map[string]func() error{
		"Open":        func() error { _, err := Open(Options{Dir: dir, Ballast: 1 << 20, Version: "1.4"}); return err },
		"OpenSalvage": func() error { _, err := OpenSalvage(dir, "1.4"); return err },
	} {
		err := open()
		if _, ok := errors.AsType[*store.FormatError](err); !ok ||
			err.Error() != "the store in "+dir+" was written by stsrelay 2.1 (format 2); this is 1.4 (up to format 1): start the newer one, or export there and import here" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if after := listing(t, dir); after != before {
		t.Errorf("the folder was\n%sand is\n%s", before, after)
	}
}

// A damaged format counts as damage: nobody knows whether the store may be read.
func TestAFormatThatCannotBeReadIsDamage(t *testing.T) {
	dir := t.TempDir()
	messages(t, dir, 0, 3)
	edit(t, dir, func(txn *badger.Txn) error { return txn.SetEntry(seal(store.KeyFormat, []byte("what?"))) })
	refused(t, dir, "the format of the store cannot be read", false)
}

func TestAStoreOfAnOlderFormatIsMigrated(t *testing.T) {
	dir := t.TempDir()
	messages(t, dir, 0, 2)
	body := bytes.Repeat([]byte("body "), 60<<10)
	edit(t, dir, func(txn *badger.Txn) error { // values without a proof, and no format
		for i := range byte(5) {
			if err := txn.SetEntry(badger.NewEntry([]byte{'t', '/', i}, []byte{i})); err != nil {
				return err
			}
			if err := txn.SetEntry(badger.NewEntry(append(slices.Clone(store.PrefixBody), 0, 0, 0, 0, 0, 0, 0, i, 0, 0, 0, 0), body)); err != nil {
				return err
			}
		}
		return txn.Delete(store.KeyFormat)
	})
	var log strings.Builder
	s := open(t, Options{Dir: dir, Version: "1.4", Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if !strings.Contains(log.String(), "brought to the present format") || !strings.Contains(log.String(), "from=0 to=1") {
		t.Errorf("the log says\n%s", log.String())
	}
	for i := range byte(5) {
		if v, err := store.Get(s, []byte{'t', '/', i}); err != nil || !bytes.Equal(v, []byte{i}) {
			t.Errorf("value %d is %q, %v", i, v, err)
		}
		v, err := store.Get(s, binary.BigEndian.AppendUint32(append(slices.Clone(store.PrefixBody), 0, 0, 0, 0, 0, 0, 0, i), 0))
		if err != nil || !bytes.Equal(v, body) {
			t.Errorf("body %d has %d octets, %v", i, len(v), err)
		}
	}
	err := s.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.DefaultIteratorOptions)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			if it.Item().UserMeta() == 0 {
				t.Errorf("the value of %q has no proof", it.Item().Key())
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	log.Reset()
	s = open(t, Options{Dir: dir, Version: "1.5", Logger: slog.New(slog.NewTextHandler(&log, nil))})
	defer s.Close()
	value, err := store.Get(s, store.KeyFormat)
	if err != nil {
		t.Fatal(err)
	}
	if w, err := store.ReadWritten(value); err != nil || w != (store.Written{Format: 1, By: "1.5"}) || strings.Contains(log.String(), "present format") {
		t.Errorf("after the next start it says %+v, %v; the log\n%s", w, err, log.String())
	}
}

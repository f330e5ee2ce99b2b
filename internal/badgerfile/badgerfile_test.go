package badgerfile

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/dgraph-io/badger/v4"
)

func open(t *testing.T, dir string) *badger.DB {
	t.Helper()
	db, err := badger.Open(badger.DefaultOptions(dir).WithSyncWrites(true).WithValueThreshold(1 << 10).WithValueLogFileSize(1 << 20).
		WithMemTableSize(1 << 20).WithNumLevelZeroTables(2).WithNumLevelZeroTablesStall(10).WithCompression(0).WithBlockCacheSize(0).WithLogger(nil))
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// What Walk and Value find is what Badger has: after many changes and
// collections, while the database is open and not closed in any way, and after
// it was closed.
func TestTheFilesHoldWhatTheDatabaseHolds(t *testing.T) {
	dir := t.TempDir()
	db := open(t, dir)
	rng := rand.New(rand.NewPCG(1, 2))
	want := make(map[string]string)
	change := func() {
		t.Helper()
		err := db.Update(func(txn *badger.Txn) error {
			for range 1 + rng.IntN(8) {
				k := fmt.Sprintf("k%04d", rng.IntN(3000))
				if rng.IntN(3) == 0 {
					delete(want, k)
					if err := txn.Delete([]byte(k)); err != nil {
						return err
					}
					continue
				}
				v := bytes.Repeat([]byte{byte(rng.Int())}, []int{10, 500, 3000}[rng.IntN(3)])
				want[k] = string(v)
				if err := txn.SetEntry(badger.NewEntry([]byte(k), v).WithMeta(byte(len(v)))); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 2000 {
		change()
		if rng.IntN(50) == 0 {
			_ = db.RunValueLogGC(0.1)
		}
	}
	if err := db.Flatten(1); err != nil { // nothing is moved in the background while the files are read
		t.Fatal(err)
	}
	for range 20 {
		change()
	}
	same := func(when string) {
		t.Helper()
		d, err := Open(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		got := make(map[string]string)
		var order []string
		err = d.Walk(func(it *Item) error {
			v, err := d.Value(it)
			if err != nil || it.UserMeta != byte(len(v)) {
				t.Errorf("%s: %q: user meta %d of %d octets, %v", when, it.Key, it.UserMeta, len(v), err)
			}
			got[string(it.Key)] = string(v)
			order = append(order, string(it.Key))
			return nil
		})
		if err != nil || len(d.Problems()) > 0 {
			t.Errorf("%s: %v, %v", when, err, d.Problems())
		}
		if !maps.Equal(got, want) || !slices.IsSorted(order) {
			t.Errorf("%s: %d keys, want %d", when, len(got), len(want))
		}
	}
	same("open")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	same("closed")
	db = open(t, dir)
	if err := db.Flatten(1); err != nil {
		t.Fatal(err)
	}
	_ = db.Close()
	same("compacted")
}

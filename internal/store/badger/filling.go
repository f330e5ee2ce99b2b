package badger

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"

	"github.com/stsrelay/stsrelay/internal/badgerfile"
	"github.com/stsrelay/stsrelay/internal/store"
)

const (
	// valuesPerFilling is how many octets of deleted values one octet in the memtable
	// stands for at most: a memtable is full when 128 MiB of values were deleted.
	valuesPerFilling = 16
	// worthFilling is how many octets of deleted values are worth a memtable of filling
	// when the store is idle.
	worthFilling = 4 * memTableSize
	// maxTransaction bounds the octets that one transaction writes into the tree,
	// filling included. Badger refuses 15 % of a memtable.
	maxTransaction = 1 << 20
	// fillingSize is the size of one key of filling.
	fillingSize = badgerfile.MaxKey
)

// filling makes memtables full in time. Badger learns that a body is garbage when the
// memtable with its deletion has been written to a table and compacted. A deletion is
// small: a memtable holds those of 7,000 messages. With large messages, many GiB of
// delivered mail would stay on the disk until as many have followed; and on a full disk
// none can follow. So a transaction that deletes values carries filling: deletions of long
// keys that nobody has, of which compaction leaves nothing.
//
// Only the committer uses it, except for deleted and memtables.
type filling struct {
	memtables atomic.Int64 // that have been begun
	// Octets since the memtable was begun: of deleted values, and of what was written into
	// the tree, filling included.
	deleted atomic.Int64
	written int64
	last    int64 // octets of values that the last transaction deleted
	forced  bool  // the memtable is to be filled, whatever was deleted
}

// begun notes that the last transaction has begun a memtable. Its own deletions are in
// the new one.
func (f *filling) begun() {
	f.deleted.Store(f.last)
	f.written, f.forced = 0, false
	f.memtables.Add(1)
}

// add notes a transaction that deletes so many octets of values and writes so many octets
// into the tree, and returns the number of keys of filling that it carries.
func (f *filling) add(deleted, tree int64) (keys int) {
	f.last = deleted
	due := f.deleted.Add(deleted)/valuesPerFilling - f.written - tree
	if f.forced {
		due = memTableSize
	}
	keys = int(max(0, min(due, maxTransaction-tree)) / fillingSize)
	f.written += tree + int64(keys)*fillingSize
	return keys
}

// fill puts so many keys of filling into txn.
func fill(txn *badger.Txn, keys int) error {
	if keys == 0 {
		return nil
	}
	same := slices.Concat(store.PrefixEngine, bytes.Repeat([]byte{0}, fillingSize-len(store.PrefixEngine)-2)) // a table stores it once
	for i := range keys {
		if err := txn.Delete(binary.BigEndian.AppendUint16(slices.Clone(same), uint16(i))); err != nil {
			return err
		}
	}
	return nil
}

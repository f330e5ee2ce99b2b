package badger

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"slices"

	"github.com/dgraph-io/badger/v4"
)

// Every value carries a proof that it was stored under its key, independent of Badger's
// files. The user meta of an entry is the kind of proof. 0 is a value of an earlier
// version, which has none.
const (
	// withKey: the value is followed by its key. It is for large values, which are in
	// a value log. Badger's checksum covers key and value there, but Badger does not
	// compare the key: with the wrong file, a message could get the body of another.
	withKey = 1
	// withSum: the value is followed by a CRC-32C of key and value. It identifies the
	// sound values in a damaged table.
	withSum = 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sumOf(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
}

// seal returns the entry that is stored for a value.
func seal(key, value []byte) *badger.Entry {
	if len(value) < valueThreshold {
		stored := append(make([]byte, 0, len(value)+crc32.Size), value...)
		return badger.NewEntry(key, binary.BigEndian.AppendUint32(stored, sumOf(key, value))).WithMeta(withSum)
	}
	return badger.NewEntry(key, slices.Concat(value, key)).WithMeta(withKey)
}

// unseal returns the value from a stored entry. ok reports whether it is the value of
// that key.
func unseal(key []byte, meta byte, stored []byte) (value []byte, ok bool) {
	switch meta {
	case withKey:
		return bytes.TrimSuffix(stored, key), bytes.HasSuffix(stored, key)
	case withSum:
		n := len(stored) - crc32.Size
		if n < 0 || sumOf(key, stored[:n]) != binary.BigEndian.Uint32(stored[n:]) {
			return nil, false
		}
		return stored[:n:n], true
	}
	return stored, true
}

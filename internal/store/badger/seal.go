package badger

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"slices"

	"github.com/dgraph-io/badger/v4"
)

// Every value says by itself that it is the one that was stored under its key,
// whatever Badger's files have gone through. The user meta of an entry says how;
// 0 is a value of an earlier version, which does not.
const (
	// withKey: the value is followed by its key. It is for large values, which lie in
	// a value log. A checksum of Badger's covers both there, but Badger looks at the
	// place alone: a file that is not the right one must not give a message the body
	// of another.
	withKey = 1
	// withSum: the value is followed by a CRC-32C of key and value. Of a damaged
	// table the values that are sound can be told by it.
	withSum = 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sumOf(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
}

// seal is what is stored for a value.
func seal(key, value []byte) *badger.Entry {
	if len(value) < valueThreshold {
		stored := append(make([]byte, 0, len(value)+crc32.Size), value...)
		return badger.NewEntry(key, binary.BigEndian.AppendUint32(stored, sumOf(key, value))).WithMeta(withSum)
	}
	return badger.NewEntry(key, slices.Concat(value, key)).WithMeta(withKey)
}

// unseal returns the value of what is stored. ok is false where it is not the
// value of that key.
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

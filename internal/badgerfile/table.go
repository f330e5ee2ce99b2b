package badgerfile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/pb"
	"google.golang.org/protobuf/proto"
)

// table is a sorted table: blocks of entries, an index of them, and sums.
type table struct {
	file    *os.File
	blocks  []span
	block   []entry // what is left of the present block
	damaged func(what string)
	// sound, if not nil, lets sound entries of a damaged block be looked for.
	sound func(*entry) bool
	// rest is what follows the last block that was found without an index.
	rest []byte
}

type span struct{ from, len int64 }

var errTable = errors.New("checksum or lengths do not match")

// openTable opens a table. Where its index is damaged, the error says so, and
// the blocks are looked for without it.
func openTable(name string) (*table, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	t := &table{file: f}
	index, err := t.readIndex()
	if err == nil {
		t.blocks, err = spans(index)
	}
	if err != nil {
		err = fmt.Errorf("it is cut off, or its index is damaged: %w", err)
		data, e := io.ReadAll(io.NewSectionReader(f, 0, 1<<32))
		if e != nil {
			_ = f.Close()
			return nil, errors.Join(err, e)
		}
		t.blocks, t.rest = findBlocks(data)
	}
	return t, err
}

// readIndex reads the end of the file: index, its length, checksum, its length.
func (t *table) readIndex() ([]byte, error) {
	st, err := t.file.Stat()
	if err != nil {
		return nil, err
	}
	at := st.Size()
	piece := func(n int64) ([]byte, error) {
		if n < 0 || n > at {
			return nil, errTable
		}
		at -= n
		data := make([]byte, n)
		_, err := t.file.ReadAt(data, at)
		return data, err
	}
	last := func() ([]byte, error) { // a piece behind which its length stands
		n, err := piece(4)
		if err != nil {
			return nil, err
		}
		return piece(int64(binary.BigEndian.Uint32(n)))
	}
	sum, err := last()
	if err != nil {
		return nil, err
	}
	index, err := last()
	if err != nil {
		return nil, err
	}
	return index, verify(index, sum)
}

func verify(data, sum []byte) error {
	var c pb.Checksum
	if err := proto.Unmarshal(sum, &c); err != nil {
		return errTable
	}
	if c.Algo != pb.Checksum_CRC32C || c.Sum != uint64(crc32.Checksum(data, castagnoli)) {
		return errTable
	}
	return nil
}

// spans are the blocks that a sound index names.
func spans(data []byte) (blocks []span, err error) {
	defer func() { // flatbuffers panic where the lengths in them do not fit
		if r := recover(); r != nil {
			err = errTable
		}
	}()
	index := fb.GetRootAsTableIndex(data, 0)
	var b fb.BlockOffset
	for i := range index.OffsetsLength() {
		index.Offsets(&b, i)
		blocks = append(blocks, span{int64(b.Offset()), int64(b.Len())})
	}
	if len(blocks) == 0 {
		return nil, errTable
	}
	return blocks, nil
}

// maxBlock is more than any block has: Badger ends one at 4 KiB.
const maxBlock = 16 << 10

// findBlocks finds the blocks that follow each other from the beginning of a
// table, by their ends: each ends with a checksum and the length of that.
func findBlocks(data []byte) (blocks []span, rest []byte) {
	from := 0
	for end := 8; end <= min(from+maxBlock, len(data)); end++ {
		if n := binary.BigEndian.Uint32(data[end-4:]); n < 2 || n > 16 {
			continue
		}
		if _, err := decodeBlock(data[from:end]); err == nil {
			blocks = append(blocks, span{int64(from), int64(end - from)})
			from = end
			end += 7
		}
	}
	return blocks, data[from:]
}

// next returns the next entry. A block that is damaged is told of, and passed
// over.
func (t *table) next() (entry, bool) {
	for len(t.block) == 0 {
		if len(t.blocks) == 0 && len(t.rest) > 0 && t.sound != nil {
			t.block, t.rest = soundEntries(t.rest, t.sound), nil
			continue
		}
		if len(t.blocks) == 0 {
			return entry{}, false
		}
		s := t.blocks[0]
		t.blocks = t.blocks[1:]
		data := make([]byte, s.len) // entries that are waited for point into it
		_, err := t.file.ReadAt(data, s.from)
		if err == nil {
			t.block, err = decodeBlock(data)
		}
		if err != nil {
			t.block = nil
			t.damaged(fmt.Sprintf("the block at octets %d to %d does not match its checksum", s.from, s.from+s.len))
			if t.sound != nil {
				t.block = soundEntries(data, t.sound)
			}
		}
	}
	e := t.block[0]
	t.block = t.block[1:]
	return e, true
}

// soundEntries looks for entries in a block that is damaged or cut off, of which
// the offsets of the entries are not believed. Where an entry ends is tried.
// Deletions say nothing of themselves and are not found.
func soundEntries(data []byte, sound func(*entry) bool) (found []entry) {
	var first []byte
	if len(data) > 4 {
		first = data[4:min(4+int(binary.NativeEndian.Uint16(data[2:])), len(data))]
	}
	for at := 0; at+4 < len(data); {
		e, size := soundEntry(data[at:], first, sound)
		if size == 0 || len(found) > 0 && found[len(found)-1].compare(&e) >= 0 {
			at++
			continue
		}
		found = append(found, e)
		at += size
	}
	return found
}

// soundEntry decodes the entry that data begins with, in a block whose first
// stored key is first. size is 0 where none begins there.
func soundEntry(data, first []byte, sound func(*entry) bool) (e entry, size int) {
	shared, rest := int(binary.NativeEndian.Uint16(data)), int(binary.NativeEndian.Uint16(data[2:]))
	head := 4 + rest + 3 // meta, user meta, and no time of expiry
	if shared > len(first) || shared+rest > maxStoredKey || head > len(data) || data[head-1] != 0 {
		return entry{}, 0
	}
	key, version, ok := splitKey(append(first[:shared:shared], data[4:4+rest]...))
	if !ok || version > maxVersion {
		return entry{}, 0
	}
	e = entry{key: key, version: version, meta: data[head-3], userMeta: data[head-2]}
	from, to := head, min(head+maxValue, len(data))
	if e.meta&bitValuePointer != 0 {
		from, to = head+pointerSize, min(head+pointerSize, len(data))
	}
	for end := from; end <= to; end++ {
		if e.value = data[head:end:end]; sound(&e) {
			return e, end
		}
	}
	return entry{}, 0
}

// maxValue is the most that a value has that lies in a table.
const maxValue = 2 << 10

// decodeBlock decodes a block: entries, their offsets, the number of those,
// checksum of all that, its length. An entry is the length of what its key
// shares with the first one, the length of the rest, the rest, meta, user meta,
// time of expiry, value.
func decodeBlock(data []byte) (list []entry, err error) {
	defer func() { // a sound checksum over lengths that do not fit
		if r := recover(); r != nil {
			list, err = nil, errTable
		}
	}()
	n := len(data) - 4
	if n < 4 {
		return nil, errTable
	}
	sum := int64(binary.BigEndian.Uint32(data[n:]))
	if sum > int64(n-4) {
		return nil, errTable
	}
	body := data[:n-int(sum)]
	if err := verify(body, data[n-int(sum):n]); err != nil {
		return nil, err
	}
	n = len(body) - 4
	count := int(binary.BigEndian.Uint32(body[n:]))
	start := n - 4*count
	offset := func(i int) int {
		if i == count {
			return start
		}
		return int(binary.NativeEndian.Uint32(body[start+4*i:]))
	}
	var first []byte
	list = make([]entry, 0, count)
	for i := range count {
		e := body[offset(i):offset(i+1)]
		shared, rest := int(binary.NativeEndian.Uint16(e)), int(binary.NativeEndian.Uint16(e[2:]))
		stored := e[4 : 4+rest]
		if i == 0 {
			first = stored
		} else {
			stored = append(first[:shared:shared], stored...)
		}
		v := e[4+rest:]
		_, k := binary.Uvarint(v[2:])
		x := entry{meta: v[0], userMeta: v[1], value: v[2+k:]}
		var ok bool
		if x.key, x.version, ok = splitKey(stored); !ok {
			return nil, errTable
		}
		list = append(list, x)
	}
	return list, nil
}

// CheckTable reads a whole table. The error says what is damaged, or wraps
// os.ErrNotExist.
func CheckTable(dir string, number uint64) error {
	name := tableName(number)
	t, err := openTable(filepath.Join(dir, name))
	if t != nil {
		defer t.file.Close()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	t.damaged = func(what string) { err = fmt.Errorf("%s: %s", name, what) }
	for ok := true; ok; {
		_, ok = t.next()
	}
	return err
}

package badgerfile

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

const (
	// logHead is the number of a key, 0 for none, and octets that only matter
	// with a key.
	logHead = 20
	// maxEntry is the most that one entry takes: values of this program have at
	// most some hundred KiB.
	maxEntry = 64 << 20
	// MaxKey is the longest key that is no damage.
	MaxKey = maxStoredKey - 8
	// maxStoredKey is MaxKey with its version.
	maxStoredKey = 1 << 10
	// maxVersion is more than a database comes to, one for each commit. It lets
	// what is no record be seen before its checksum is made.
	maxVersion = 1 << 48
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is an entry of a write-ahead log or a value log:
//
//	meta, user meta, length of key, length of value, time of expiry (varints), key, value, CRC-32C
type record struct {
	entry
	size int
}

// sizeOf is how long the record is that data begins with, by what its head
// says; ok is false where that is no head.
func sizeOf(data []byte) (head, key, size int, ok bool) {
	if len(data) < 5 {
		return 0, 0, 0, false
	}
	at := 2
	var fields [3]uint64
	for i := range fields {
		v, n := binary.Uvarint(data[at:])
		if n <= 0 {
			return 0, 0, 0, false
		}
		fields[i] = v
		at += n
	}
	// Keys have versions, nothing expires here, and two bits of meta have no
	// meaning yet.
	if fields[0] < 8 || fields[0] > maxStoredKey || fields[1] > maxEntry/2 || fields[2] != 0 || data[0]&0x30 != 0 {
		return 0, 0, 0, false
	}
	return at, int(fields[0]), at + int(fields[0]) + int(fields[1]) + crc32.Size, true
}

// decodeRecord decodes the record that data begins with and checks its sum.
func decodeRecord(data []byte) (record, bool) {
	head, key, size, ok := sizeOf(data)
	if !ok || size > len(data) {
		return record{}, false
	}
	stored, version, ok := splitKey(data[head : head+key])
	if !ok || version > maxVersion {
		return record{}, false
	}
	end := size - crc32.Size
	if crc32.Checksum(data[:end], castagnoli) != binary.BigEndian.Uint32(data[end:]) {
		return record{}, false
	}
	e := entry{key: stored, version: version, meta: data[0], userMeta: data[1], value: data[head+key : end : end]}
	return record{size: size, entry: e}, true
}

// wal is what a write-ahead log holds.
type wal struct {
	entries []entry
	torn    bool   // it ends in the middle of a write
	problem string // it is damaged in a way that no crash leaves
}

// readWAL reads the transactions of a write-ahead log as Badger does, up to the
// first place that is not sound. A crash leaves such a place at the end of what
// was written: nothing but octets of the last transaction can lie behind it.
// Where a later one does, the log is damaged.
func readWAL(data []byte, salvage bool) (l wal) {
	if len(data) < logHead {
		l.problem = fmt.Sprintf("only %d octets of the file are there", len(data))
		return l
	}
	if binary.BigEndian.Uint64(data) != 0 {
		l.problem = "its head is damaged"
		if !salvage {
			return l
		}
	}
	var open []entry      // of the transaction that is being read
	var done, last uint64 // version of the last whole transaction; of the one behind it
	at := logHead
	for {
		r, ok := decodeRecord(data[at:])
		switch {
		case !ok:
		case r.meta&bitTxn != 0:
			if ok = len(open) == 0 || open[0].version == r.version; ok {
				open = append(open, r.entry)
			}
		case r.meta&bitFinTxn != 0:
			version, err := strconv.ParseUint(string(r.value), 10, 64)
			if ok = err == nil && len(open) > 0 && open[0].version == version; ok {
				l.entries = append(l.entries, open...)
				open, done, last = nil, version, version
			}
		default:
			if ok = len(open) == 0; ok {
				l.entries = append(l.entries, r.entry)
			}
		}
		if !ok {
			break
		}
		at += r.size
	}
	l.torn = len(open) > 0 || slices.ContainsFunc(data[at:], func(b byte) bool { return b != 0 })
	behind := recordsIn(data[at:])
	for _, r := range behind {
		switch {
		case r.meta&(bitTxn|bitFinTxn) == 0:
			continue // moved by the collection, with the version that it had
		case len(open) > 0:
			last = open[0].version // the transaction that is torn
		case last == 0:
			last = r.version
		case last == done:
			last++
		}
		if r.version > last {
			l.problem = fmt.Sprintf("it is damaged at octet %d, and more follows", at)
			break
		}
	}
	if salvage {
		l.entries = append(l.entries, open...)
		for _, r := range behind {
			if r.meta&bitFinTxn == 0 {
				l.entries = append(l.entries, r.entry)
			}
		}
	}
	return l
}

// recordsIn finds the sound records in data, wherever they begin.
func recordsIn(data []byte) (found []record) {
	for at := 0; at+crc32.Size < len(data); {
		// Between the records there is nothing but the zeros behind the last one.
		if data[at] == 0 && at+64 <= len(data) && !slices.ContainsFunc(data[at:at+64], func(b byte) bool { return b != 0 }) {
			at += 64
			continue
		}
		r, ok := decodeRecord(data[at:])
		if !ok {
			at++
			continue
		}
		found = append(found, r)
		at += r.size
	}
	return found
}

// eachRecord calls fn for the sound records that follow each other from the
// beginning of a log, with their offsets, and returns the offset behind the last
// one. A record is valid during the call.
func eachRecord(f *os.File, fn func(r *record, at int64)) (int64, error) {
	in := bufio.NewReaderSize(io.NewSectionReader(f, logHead, 1<<32), 1<<20)
	at := int64(logHead)
	var buf []byte
	for {
		head, err := in.Peek(32)
		if err != nil && !errors.Is(err, io.EOF) {
			return at, err
		}
		_, _, size, ok := sizeOf(head)
		if !ok {
			return at, nil
		}
		buf = slices.Grow(buf[:0], size)[:size]
		if _, err := io.ReadFull(in, buf); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return at, nil
			}
			return at, err
		}
		r, ok := decodeRecord(buf)
		if !ok {
			return at, nil
		}
		fn(&r, at)
		at += int64(size)
	}
}

// CheckValueLog reports whether all of a value log is sound, from its beginning
// to its end or to the zeros behind what was written.
func CheckValueLog(dir string, number uint32) (sound bool, err error) {
	f, err := os.Open(filepath.Join(dir, valueLogName(number)))
	if err != nil {
		return false, err
	}
	defer f.Close()
	end, err := eachRecord(f, func(*record, int64) {})
	if err != nil {
		return false, err
	}
	rest := bufio.NewReaderSize(io.NewSectionReader(f, end, 1<<32), 1<<20)
	zero := make([]byte, 64<<10)
	for buf := make([]byte, len(zero)); ; {
		n, err := io.ReadFull(rest, buf)
		if !bytes.Equal(buf[:n], zero[:n]) {
			return false, nil
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
}

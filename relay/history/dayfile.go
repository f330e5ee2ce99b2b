package history

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

const (
	fileSuffix = ".jsonl.zst"

	// A header is a skippable frame (RFC 8878, 3.1.2) before each frame of lines.
	// Readers of zstd skip it, and by it this package finds the frames that it does
	// not need to decompress.
	headerMagic   = 0x184D2A57
	headerContent = 1 + 1 + 4 + 8 + 8 + 4 + 4 + sha256.Size
	headerSize    = 8 + headerContent
	headerVersion = 1

	// maxFrame bounds the lines of one frame, in octets. The writer ends a frame at
	// frameSize; one line may be longer, if a message has very many recipients.
	maxFrame = 64 << 20
)

// chain is a hash chain over the frames of a file: the SHA-256 of the chain before and
// the frame. A change to a frame changes the chain from there on.
type chain [sha256.Size]byte

func (c chain) next(frame []byte) chain {
	return chain(sha256.Sum256(append(c[:], frame...)))
}

// header describes the frame that follows it.
type header struct {
	lines    uint32
	from, to time.Time // of its records
	length   uint32    // of the frame, in octets
	raw      uint32    // of its lines, in octets
	chain    chain
}

func (h *header) encode() []byte {
	b := make([]byte, 0, headerSize)
	b = binary.LittleEndian.AppendUint32(b, headerMagic)
	b = binary.LittleEndian.AppendUint32(b, headerContent)
	b = append(b, headerVersion, 0)
	b = binary.LittleEndian.AppendUint32(b, h.lines)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.from.UnixNano()))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.to.UnixNano()))
	b = binary.LittleEndian.AppendUint32(b, h.length)
	b = binary.LittleEndian.AppendUint32(b, h.raw)
	return append(b, h.chain[:]...)
}

// errNoHeader is the error for a position in a file where no header is.
var errNoHeader = errors.New("no frame begins there")

func decodeHeader(b []byte) (h header, err error) {
	le := binary.LittleEndian
	if len(b) < headerSize || le.Uint32(b) != headerMagic || le.Uint32(b[4:]) != headerContent || b[8] != headerVersion {
		return h, errNoHeader
	}
	b = b[10:]
	h.lines = le.Uint32(b)
	h.from = time.Unix(0, int64(le.Uint64(b[4:]))).UTC()
	h.to = time.Unix(0, int64(le.Uint64(b[12:]))).UTC()
	h.length, h.raw = le.Uint32(b[20:]), le.Uint32(b[24:])
	copy(h.chain[:], b[28:])
	if h.raw > maxFrame || h.length > maxFrame {
		return h, errNoHeader
	}
	return h, nil
}

// place is the position of a frame of lines in a file.
type place struct {
	header
	offset int64 // of the frame, after its header
}

// frames returns the frames of a file in order, and the end of the last whole one. It
// skips damaged parts and continues at the next header. bad is the number of octets
// skipped.
func frames(f io.ReaderAt, size int64) (list []place, end, bad int64, err error) {
	end, bad, err = eachFrame(f, size, func(p place) { list = append(list, p) })
	return list, end, bad, err
}

// eachFrame calls fn for the frames of a file in order. It returns what frames does.
func eachFrame(f io.ReaderAt, size int64, fn func(place)) (end, bad int64, err error) {
	w := window{f: f, size: size}
	for at := int64(0); at+headerSize <= size; {
		b, err := w.at(at, headerSize)
		if err != nil {
			return end, bad, fmt.Errorf("read a header: %w", err)
		}
		h, err := decodeHeader(b)
		if err != nil || at+headerSize+int64(h.length) > size {
			next, err := nextMagic(f, at+1, size)
			if err != nil {
				return end, bad, err
			}
			bad += next - at
			at = next
			continue
		}
		fn(place{h, at + headerSize})
		at += headerSize + int64(h.length)
		end = at
	}
	return end, bad, nil
}

// window reads small parts of a file in order, several at once where they are near to each
// other.
type window struct {
	f      io.ReaderAt
	size   int64
	offset int64
	buf    []byte
}

func (w *window) at(offset int64, n int) ([]byte, error) {
	if offset < w.offset || offset+int64(n) > w.offset+int64(len(w.buf)) {
		const windowSize = 16 << 10
		if w.buf == nil {
			w.buf = make([]byte, windowSize)
		}
		w.offset, w.buf = offset, w.buf[:min(windowSize, w.size-offset)]
		if _, err := w.f.ReadAt(w.buf, offset); err != nil {
			w.buf = w.buf[:0]
			return nil, err
		}
	}
	return w.buf[offset-w.offset:][:n], nil
}

// nextMagic returns the next position, at or after at, where a header may begin, or size
// if there is none.
func nextMagic(f io.ReaderAt, at, size int64) (int64, error) {
	magic := binary.LittleEndian.AppendUint32(nil, headerMagic)
	buf := make([]byte, 64<<10)
	for at < size {
		n, err := f.ReadAt(buf[:min(int64(len(buf)), size-at)], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return size, fmt.Errorf("look for the next frame: %w", err)
		}
		if i := bytes.Index(buf[:n], magic); i >= 0 {
			return at + int64(i), nil
		}
		if n < len(magic) {
			break
		}
		at += int64(n - len(magic) + 1)
	}
	return size, nil
}

// dayFile is the file that is being written.
type dayFile struct {
	f     *os.File
	day   string
	size  int64
	chain chain
}

// openDay opens the file of a day to append to it. If a crash left an unfinished frame at
// the end, it is cut off.
func openDay(dir, day string) (*dayFile, error) {
	f, err := os.OpenFile(filepath.Join(dir, day+fileSuffix), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the history of %s: %w", day, err)
	}
	d := &dayFile{f: f, day: day}
	if err := d.repair(); err != nil {
		return nil, errors.Join(fmt.Errorf("open the history of %s: %w", day, err), f.Close())
	}
	return d, nil
}

func (d *dayFile) repair() error {
	info, err := d.f.Stat()
	if err != nil {
		return err
	}
	list, end, _, err := frames(d.f, info.Size())
	if err != nil {
		return err
	}
	// A crash can leave a header whose frame was not written: the file has the size,
	// but not the octets.
	for len(list) > 0 {
		last := list[len(list)-1]
		frame, err := readFrame(d.f, last)
		if err == nil && sha256OfLast(list, frame) == last.chain {
			break
		}
		list = list[:len(list)-1]
		end = last.offset - headerSize
	}
	if len(list) > 0 {
		d.chain = list[len(list)-1].chain
	}
	if end < info.Size() {
		if err := d.f.Truncate(end); err != nil {
			return err
		}
	}
	d.size = end
	return nil
}

// sha256OfLast returns the chain at the last frame of list.
func sha256OfLast(list []place, frame []byte) chain {
	var before chain
	if len(list) > 1 {
		before = list[len(list)-2].chain
	}
	return before.next(frame)
}

func readFrame(f io.ReaderAt, p place) ([]byte, error) {
	frame := make([]byte, p.length)
	if _, err := f.ReadAt(frame, p.offset); err != nil {
		return nil, fmt.Errorf("read a frame: %w", err)
	}
	return frame, nil
}

// append writes one frame and waits until it is on the disk. If it fails, it restores
// the file's former length.
func (d *dayFile) append(enc *zstd.Encoder, lines []byte, h header) error {
	frame := enc.EncodeAll(lines, nil)
	h.length, h.raw, h.chain = uint32(len(frame)), uint32(len(lines)), d.chain.next(frame)
	_, err := d.f.WriteAt(append(h.encode(), frame...), d.size)
	if err == nil {
		err = d.f.Sync()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write the history of %s: %w", d.day, err), d.f.Truncate(d.size))
	}
	d.size += headerSize + int64(len(frame))
	d.chain = h.chain
	return nil
}

// dayInfo describes a file of the history.
type dayInfo struct {
	day  string
	size int64
}

// days lists the files of a history, the oldest first.
func days(dir string) ([]dayInfo, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the history: %w", err)
	}
	var list []dayInfo
	for _, e := range entries {
		day, ok := strings.CutSuffix(e.Name(), fileSuffix)
		if _, err := time.Parse(time.DateOnly, day); !ok || err != nil {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list the history: %w", err)
		}
		list = append(list, dayInfo{day, info.Size()})
	}
	slices.SortFunc(list, func(a, b dayInfo) int { return strings.Compare(a.day, b.day) })
	return list, nil
}

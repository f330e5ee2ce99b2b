package queue

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"slices"
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
)

// The export file, described in docs/export-format.md: a line that names the
// format and its version, eight random octets, and records, each with a
// checksum of its head and one of its content. The random octets go into the
// checksums of the heads: nothing that a mail contains can look like a record to a reader
// that searches for the next record after a damaged place.
const (
	exportName  = "stsrelay-queue-export "
	exportMagic = exportName + "1\n"
	// maxExportRecord is the size of the largest record: an envelope of very many
	// recipients; a body chunk is smaller.
	maxExportRecord = 16 << 20
	exportHead      = 13
)

// The kinds of records.
const (
	recordMessage = 'M' // exportedMessage
	recordBody    = 'B' // the next octets of its body
	recordEnd     = 'E' // exportedEnd
	recordLast    = 'Z' // exportedLast, the end of the file
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// exportedMessage is a message without its body.
type exportedMessage struct {
	Envelope Envelope        `cbor:"1,keyasint"`
	States   []exportedState `cbor:"2,keyasint"` // by index of Envelope.Recipients
	HeldFor  string          `cbor:"3,keyasint,omitempty"`
	HeldAt   time.Time       `cbor:"4,keyasint,omitzero"`
}

// exportedState is the state of the delivery to one recipient.
type exportedState struct {
	State RecipientState `cbor:"1,keyasint"`
	// NextAttempt and LastAttempt are zero before the first attempt.
	NextAttempt time.Time `cbor:"2,keyasint,omitzero"`
	LastAttempt time.Time `cbor:"3,keyasint,omitzero"`
}

// exportedEnd ends a message.
type exportedEnd struct {
	// LeftOut, if not "", is why the records of the message do not count: it was delivered
	// meanwhile, or could not be read.
	LeftOut string `cbor:"1,keyasint,omitempty"`
	// SHA256 of the message record's content and the body.
	SHA256 []byte `cbor:"2,keyasint,omitempty"`
}

// exportedLast ends the file.
type exportedLast struct {
	Messages int   `cbor:"1,keyasint"` // that are not left out
	Octets   int64 `cbor:"2,keyasint"` // of their bodies
	// Unreadable is the number of messages left out because they could not be read.
	Unreadable int `cbor:"3,keyasint,omitempty"`
}

// exportWriter writes an export file.
type exportWriter struct {
	w     *bufio.Writer
	nonce [8]byte
	sum   hash.Hash
}

func newExportWriter(w io.Writer) (*exportWriter, error) {
	x := &exportWriter{w: bufio.NewWriterSize(w, 64<<10), sum: sha256.New()}
	if _, err := rand.Read(x.nonce[:]); err != nil {
		return nil, err
	}
	_, err := x.w.Write(append([]byte(exportMagic), x.nonce[:]...))
	return x, err
}

func (x *exportWriter) record(kind byte, content []byte) error {
	if len(content) > maxExportRecord {
		return fmt.Errorf("a record of %d octets is too large for the format", len(content))
	}
	switch kind {
	case recordMessage:
		x.sum.Reset()
		x.sum.Write(content)
	case recordBody:
		x.sum.Write(content)
	}
	if _, err := x.w.Write(exportHeadOf(x.nonce, kind, content)); err != nil {
		return err
	}
	_, err := x.w.Write(content)
	return err
}

// end ends a message whose records have all been written.
func (x *exportWriter) end() error {
	return x.record(recordEnd, encode(exportedEnd{SHA256: x.sum.Sum(nil)}))
}

// exportHeadOf returns the head of a record: kind, length, checksum of the content,
// checksum of these three.
func exportHeadOf(nonce [8]byte, kind byte, content []byte) []byte {
	h := append(make([]byte, 0, exportHead), kind)
	h = binary.BigEndian.AppendUint32(h, uint32(len(content)))
	h = binary.BigEndian.AppendUint32(h, crc32.Checksum(content, castagnoli))
	return binary.BigEndian.AppendUint32(h, headSum(nonce, h))
}

func headSum(nonce [8]byte, head []byte) uint32 {
	return crc32.Update(crc32.Checksum(nonce[:], castagnoli), castagnoli, head)
}

// ErrNoExport is returned if a file is no queue export, or one of a newer version.
var ErrNoExport = phrase.Errorf("not a queue export that this version can read")

// errDamaged is wrapped by errors about a record that is not as it was written. The
// records after it can still be read.
var errDamaged = errors.New("damaged")

// exportReader reads records.
type exportReader struct {
	r     *bufio.Reader
	src   *unreader
	nonce [8]byte
	at    int64 // offset of the next octet
	buf   []byte
}

func newExportReader(r io.Reader) (*exportReader, error) {
	src := &unreader{r: r}
	x := &exportReader{r: bufio.NewReaderSize(src, 64<<10), src: src}
	line := make([]byte, len(exportMagic))
	n, err := io.ReadFull(x.r, line)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	if string(line[:n]) != exportMagic {
		if first, _, ok := bytes.Cut(line[:n], []byte("\n")); ok && bytes.HasPrefix(first, []byte(exportName)) {
			return nil, phrase.Errorf("%w: its version is %q, this program reads 1", ErrNoExport, first[len(exportName):])
		}
		return nil, phrase.Errorf("%w: it does not begin with %q", ErrNoExport, exportMagic[:len(exportMagic)-1])
	}
	if _, err := io.ReadFull(x.r, x.nonce[:]); err != nil {
		return nil, cut(err)
	}
	x.at = int64(len(exportMagic) + len(x.nonce))
	return x, nil
}

// next returns the next record; its content is valid until the next call. The error wraps
// errDamaged if the record is not as it was written, io.ErrUnexpectedEOF if the file ends
// within it, and is io.EOF at the end.
func (x *exportReader) next() (kind byte, content []byte, err error) {
	head, err := x.r.Peek(exportHead)
	if len(head) == 0 && errors.Is(err, io.EOF) {
		return 0, nil, io.EOF
	}
	if err != nil {
		return 0, nil, cut(err)
	}
	at := x.at
	if !x.valid(head) {
		if err := x.resync(); err != nil {
			return 0, nil, err
		}
		return 0, nil, fmt.Errorf("octets %d to %d: %w", at, x.at, errDamaged)
	}
	kind = head[0]
	size := int(binary.BigEndian.Uint32(head[1:]))
	sum := binary.BigEndian.Uint32(head[5:])
	x.skip(exportHead)
	if cap(x.buf) < size {
		x.buf = make([]byte, size)
	}
	n, err := io.ReadFull(x.r, x.buf[:size])
	x.at += int64(n)
	if err != nil {
		return 0, nil, cut(err)
	}
	if crc32.Checksum(x.buf[:size], castagnoli) != sum {
		// If octets are missing, the next head is within the octets that were read.
		x.unread(x.buf[:size])
		if err := x.resync(); err != nil {
			return 0, nil, err
		}
		return kind, nil, fmt.Errorf("octets %d to %d: %w", at, x.at, errDamaged)
	}
	return kind, x.buf[:size], nil
}

// unreader is a reader to which octets can be given back.
type unreader struct {
	back []byte
	r    io.Reader
}

func (u *unreader) Read(p []byte) (int, error) {
	if len(u.back) == 0 {
		return u.r.Read(p)
	}
	n := copy(p, u.back)
	u.back = u.back[n:]
	return n, nil
}

func (x *exportReader) unread(content []byte) {
	ahead, _ := x.r.Peek(x.r.Buffered())
	x.src.back = slices.Concat(content, ahead, x.src.back)
	x.r.Reset(x.src)
	x.at -= int64(len(content))
}

func (x *exportReader) valid(head []byte) bool {
	switch head[0] {
	case recordMessage, recordBody, recordEnd, recordLast:
		return binary.BigEndian.Uint32(head[9:]) == headSum(x.nonce, head[:9]) && binary.BigEndian.Uint32(head[1:]) <= maxExportRecord
	}
	return false
}

// resync searches for the next head.
func (x *exportReader) resync() error {
	for {
		head, err := x.r.Peek(exportHead)
		if err != nil {
			return cut(err)
		}
		if x.valid(head) {
			return nil
		}
		x.skip(1)
	}
}

func (x *exportReader) skip(n int) {
	n, _ = x.r.Discard(n) // Peek has read them already
	x.at += int64(n)
}

// cut turns io.EOF into io.ErrUnexpectedEOF.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Package sevenbit turns the 8-bit content of MIME messages into 7-bit content,
// for hosts that do not offer 8BITMIME (RFC 6152, 3): parts that say that they
// are 8bit or binary become quoted-printable (RFC 2045, 6.7). Everything else
// passes as it is, octet for octet. What has 8-bit octets without saying so
// cannot be converted and passes too.
package sevenbit

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"mime"
	"strings"

	"github.com/stsrelay/stsrelay/internal/mailheader"
)

const (
	// maxHeader bounds the header of a part; a larger one is passed on unread.
	maxHeader = 256 << 10
	// maxDepth bounds how deep parts are looked for in parts.
	maxDepth = 50
	// fragment is the most of a line that is looked at together; a boundary has
	// 74 octets at most.
	fragment = 4 << 10
)

// Reader reads a message, converted. Lines end in CRLF or LF.
type Reader struct {
	in  *bufio.Reader
	err error

	out    []byte // of buf, not yet read
	buf    []byte
	header []byte // of the present part; nil: its body is being read
	// boundaries of the multiparts that are open, outermost first.
	boundaries []string
	encode     bool // the body of the present part becomes quoted-printable
	midLine    bool // the next fragment goes on with a line
	column     int  // of the quoted-printable line
}

// NewReader returns a Reader of the message in r.
func NewReader(r io.Reader) *Reader {
	return &Reader{in: bufio.NewReaderSize(r, fragment), header: []byte{}}
}

// Read implements io.Reader. Its errors are those of the message's reader.
func (r *Reader) Read(p []byte) (int, error) {
	for len(r.out) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		r.buf = r.buf[:0]
		line, err := r.in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) && line[len(line)-1] == '\r' {
			// Its LF may come with the next fragment: the two end a line together.
			_ = r.in.UnreadByte() // one was just read
			line = line[:len(line)-1]
		}
		if len(line) > 0 {
			r.take(line)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			r.err = err
			r.buf = append(r.buf, r.header...) // it had no end
			r.header = nil
		}
		r.out = r.buf
	}
	n := copy(p, r.out)
	r.out = r.out[n:]
	return n, nil
}

// take takes in a line, or a fragment of one.
func (r *Reader) take(line []byte) {
	start := !r.midLine
	r.midLine = line[len(line)-1] != '\n'
	switch {
	case start && r.boundary(line):
	case r.header != nil:
		r.header = append(r.header, line...)
		if start && len(bytes.TrimRight(line, "\r\n")) == 0 {
			r.endHeader()
		} else if len(r.header) > maxHeader {
			r.pass(r.header)
			r.header = nil
		}
	case r.encode:
		r.quote(line)
	default:
		r.pass(line)
	}
}

func (r *Reader) pass(p []byte) { r.buf = append(r.buf, p...) }

// boundary says whether line is a boundary of a multipart that is open, and
// begins the part behind it (RFC 2046, 5.1.1). An outer one ends those within.
func (r *Reader) boundary(line []byte) bool {
	rest, ok := bytes.CutPrefix(line, []byte("--"))
	if !ok {
		return false
	}
	rest = bytes.TrimRight(rest, " \t\r\n")
	for i := len(r.boundaries) - 1; i >= 0; i-- {
		after, ok := bytes.CutPrefix(rest, []byte(r.boundaries[i]))
		last := string(after) == "--"
		if !ok || len(after) > 0 && !last {
			continue
		}
		r.pass(r.header)
		r.pass(line)
		r.encode = false
		if last {
			r.boundaries, r.header = r.boundaries[:i], nil
		} else {
			r.boundaries, r.header = r.boundaries[:i+1], []byte{}
		}
		return true
	}
	return false
}

// endHeader decides what becomes of a part by its header, and passes that on.
func (r *Reader) endHeader() {
	header := r.header
	r.header, r.encode = nil, false
	contentType := value(header, "content-type")
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		// What it is still counts where its parameters cannot be read, such as a
		// boundary with "=" that is not quoted: a multipart must never be encoded
		// as a whole. Else it is text/plain (RFC 2045, 5.2).
		kind, _, _ = strings.Cut(contentType, ";")
		kind, params = strings.ToLower(strings.TrimSpace(kind)), nil
	}
	encoding := "7bit"
	switch {
	case len(r.boundaries) >= maxDepth:
		r.pass(header)
		return
	case strings.HasPrefix(kind, "multipart/") && params["boundary"] != "":
		r.boundaries = append(r.boundaries, params["boundary"])
	case kind == "message/rfc822", kind == "message/global":
		r.header = []byte{} // that of the message within
	case strings.HasPrefix(kind, "message/"), strings.HasPrefix(kind, "multipart/"):
		r.pass(header) // these may have no other encoding (RFC 2046, 5.2)
		return
	default:
		encoding = "quoted-printable"
	}
	switch strings.ToLower(value(header, "content-transfer-encoding")) {
	case "8bit", "binary":
		r.encode, r.column = encoding == "quoted-printable", 0
		r.replace(header, "content-transfer-encoding", "Content-Transfer-Encoding: "+encoding+"\r\n")
	default:
		r.pass(header)
	}
}

// value is the value of the first field of a name, unfolded, "" where there is
// none.
func value(header []byte, name string) string {
	for field := range mailheader.Fields(header) {
		if mailheader.Name(field) == name {
			return mailheader.Value(field)
		}
	}
	return ""
}

// replace passes a header on with another field in the place of the first of a
// name.
func (r *Reader) replace(header []byte, name, with string) {
	done := false
	for field := range mailheader.Fields(header) {
		if !done && mailheader.Name(field) == name {
			field, done = []byte(with), true
		}
		r.pass(field)
	}
}

const (
	hex = "0123456789ABCDEF"
	// lineLimit is how long a line of quoted-printable may be, the = of a soft
	// break included.
	lineLimit = 76
)

// quote writes a fragment of a line as quoted-printable (RFC 2045, 6.7).
func (r *Reader) quote(line []byte) {
	text := bytes.TrimSuffix(line, []byte("\n"))
	ended := len(text) < len(line)
	if ended {
		text = bytes.TrimSuffix(text, []byte("\r"))
	}
	for i, b := range text {
		blank := b == ' ' || b == '\t'
		if b > ' ' && b <= '~' && b != '=' || blank && i < len(text)-1 {
			if r.room(1) && b == '-' {
				// What follows a break begins a line: it must not become a boundary.
				r.buf = append(r.buf, "=2D"...)
				r.column += len("=2D")
				continue
			}
			r.buf = append(r.buf, b)
			r.column++
			continue
		}
		r.room(3)
		r.buf = append(r.buf, '=', hex[b>>4], hex[b&15])
		r.column += 3
	}
	if ended {
		r.pass([]byte("\r\n"))
		r.column = 0
	}
}

// room makes room for n octets in the present line, and says whether that took
// a soft break.
func (r *Reader) room(n int) (broke bool) {
	broke = r.column+n > lineLimit-1
	if broke {
		r.pass([]byte("=\r\n"))
		r.column = 0
	}
	return broke
}

// Needed reads r to its first 8-bit octet and reports whether there is one.
func Needed(r io.Reader) (bool, error) {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if bytes.ContainsFunc(buf[:n], func(c rune) bool { return c >= 0x80 }) {
			return true, nil
		}
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
}

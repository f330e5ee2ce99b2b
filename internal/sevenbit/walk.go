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
	// maxDepth bounds the nesting of parts.
	maxDepth = 50
	// fragment bounds the octets of a line that are read together; a boundary has at
	// most 74.
	fragment = 4 << 10
)

// kind is the kind of a part.
type kind uint8

const (
	isLeaf      kind = iota
	isMultipart      // with parts in it
	isMessage        // a message within the message
	isOpaque         // the encoding must stay (RFC 2046, 5.2), or it is nested too deep
)

// part is a part of a message, by its header.
type part struct {
	kind     kind
	encoding string // Content-Transfer-Encoding in lower case, "" where there is none
	message  bool   // the header is that of a message, not of a part of one
	signed   string // the signature of the content: its field or type; "" where there is none
}

// handler gets the elements of a message from a walker, in their order. Slices are valid
// until it returns.
type handler interface {
	// head is the header of a part, with its empty line.
	head(header []byte, p part)
	// body is a line of the body of the present part, or a fragment of one.
	body(fragment []byte)
	// outside is a boundary, or a header that has no end or is too long.
	outside(p []byte)
}

// walker finds the parts of a message (RFC 2046). Lines end in CRLF or LF.
type walker struct {
	to      handler
	header  []byte // of the present part; nil: its body is being read
	message bool   // header is that of a message
	signed  string // what signs it
	open    []open // the multiparts that are open, outermost first
	midLine bool   // the next fragment goes on with a line
}

// open is a multipart whose last boundary has not come.
type open struct {
	boundary string
	digest   bool   // its parts are messages by default (RFC 2046, 5.1.5)
	signed   string // what signs its parts
	outside  string // what signs the multipart itself
}

func newWalker(to handler) *walker { return &walker{to: to, header: []byte{}, message: true} }

// next reads a line, or a fragment of one, and hands it on. The error is the
// reader's; at io.EOF all is handed on.
func (w *walker) next(in *bufio.Reader) error {
	line, err := in.ReadSlice('\n')
	full := errors.Is(err, bufio.ErrBufferFull)
	if full && line[len(line)-1] == '\r' {
		// Its LF may come with the next fragment: the two end a line together.
		_ = in.UnreadByte() // one was just read
		line = line[:len(line)-1]
	}
	if len(line) > 0 {
		w.add(line)
	}
	if err == nil || full {
		return nil
	}
	if w.header != nil { // it had no end
		w.to.outside(w.header)
		w.header = nil
	}
	return err
}

// add handles a line, or a fragment of one.
func (w *walker) add(line []byte) {
	start := !w.midLine
	w.midLine = line[len(line)-1] != '\n'
	switch {
	case start && w.boundary(line):
	case w.header != nil:
		w.header = append(w.header, line...)
		if start && len(bytes.TrimRight(line, "\r\n")) == 0 {
			w.endHeader()
		} else if len(w.header) > maxHeader {
			w.to.outside(w.header)
			w.to.head(nil, part{kind: isOpaque})
			w.header = nil
		}
	default:
		w.to.body(line)
	}
}

// boundary reports whether line is a boundary of a multipart that is open, and
// begins the part behind it (RFC 2046, 5.1.1). An outer one ends those within.
func (w *walker) boundary(line []byte) bool {
	rest, ok := bytes.CutPrefix(line, []byte("--"))
	if !ok {
		return false
	}
	rest = bytes.TrimRight(rest, " \t\r\n")
	for i := len(w.open) - 1; i >= 0; i-- {
		after, ok := bytes.CutPrefix(rest, []byte(w.open[i].boundary))
		last := string(after) == "--"
		if !ok || len(after) > 0 && !last {
			continue
		}
		if len(w.header) > 0 {
			w.to.outside(w.header)
		}
		w.to.outside(line)
		w.signed = w.open[i].signed
		if last {
			w.signed = w.open[i].outside
			w.open, w.header = w.open[:i], nil
			w.to.head(nil, part{kind: isMultipart, signed: w.signed}) // what follows is of no part
		} else {
			w.open, w.header, w.message = w.open[:i+1], []byte{}, false
		}
		return true
	}
	return false
}

// endHeader finds the kind of a part by its header, and passes the header on.
func (w *walker) endHeader() {
	header := w.header
	w.header = nil
	contentType := value(header, "content-type")
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		// What it is still counts where its parameters cannot be read, such as a
		// boundary with "=" that is not quoted: a multipart must never be encoded
		// as a whole. Else it is text/plain (RFC 2045, 5.2).
		kind, _, _ = strings.Cut(contentType, ";")
		kind, params = strings.ToLower(strings.TrimSpace(kind)), nil
	}
	if contentType == "" && len(w.open) > 0 && !w.message && w.open[len(w.open)-1].digest {
		kind = "message/rfc822"
	}
	if w.message && w.signed == "" {
		w.signed = signature(header)
	}
	p := part{message: w.message, signed: w.signed, encoding: strings.ToLower(value(header, "content-transfer-encoding"))}
	encoded := p.encoding == "base64" || p.encoding == "quoted-printable"
	switch {
	case len(w.open) >= maxDepth:
		p.kind = isOpaque
	case strings.HasPrefix(kind, "multipart/") && params["boundary"] != "":
		p.kind = isMultipart
		inner := open{boundary: params["boundary"], digest: kind == "multipart/digest", signed: w.signed, outside: w.signed}
		if kind == "multipart/signed" && inner.signed == "" { // RFC 1847: S/MIME and PGP
			inner.signed = kind
		}
		w.open = append(w.open, inner)
	case (kind == "message/rfc822" || kind == "message/global") && !encoded:
		p.kind = isMessage
	case strings.HasPrefix(kind, "message/"), strings.HasPrefix(kind, "multipart/"):
		p.kind = isOpaque
	}
	w.to.head(header, p)
	if p.kind == isMessage {
		w.header, w.message = []byte{}, true
	}
}

// signature is the field of a message's header that signs its content, "" where
// there is none.
func signature(header []byte) string {
	for field := range mailheader.Fields(header) {
		switch mailheader.Name(field) {
		case "dkim-signature":
			return "DKIM-Signature"
		case "arc-message-signature":
			return "ARC-Message-Signature"
		}
	}
	return ""
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

// setEncoding adds a header to out with another Content-Transfer-Encoding, in the
// place of the first that it has, or at its end. The header of a message gets a
// MIME-Version if it has none: without it readers ignore the encoding.
func setEncoding(out, header []byte, encoding string, message bool) []byte {
	with := "Content-Transfer-Encoding: " + encoding + "\r\n"
	for field := range mailheader.Fields(header) {
		end := len(bytes.TrimRight(field, "\r\n")) == 0
		if with != "" && (end || mailheader.Name(field) == "content-transfer-encoding") {
			out = append(out, with...)
			if with = ""; !end {
				continue
			}
		}
		if end && message && value(header, "mime-version") == "" {
			out = append(out, "MIME-Version: 1.0\r\n"...)
		}
		out = append(out, field...)
	}
	return out
}

// convertor is a handler that converts a message.
type convertor interface {
	handler
	// output returns what was made since the last call; the next call of the
	// handler may use its memory again.
	output() []byte
	// end is called at the end of the message.
	end()
}

// reader reads the output of a convertor.
type reader struct {
	in   *bufio.Reader
	walk *walker
	c    convertor
	out  []byte // not yet read
	err  error
}

func newReader(r io.Reader, c convertor) *reader {
	return &reader{in: bufio.NewReaderSize(r, fragment), walk: newWalker(c), c: c}
}

// Read implements io.Reader. Its errors are those of the message's reader.
func (r *reader) Read(p []byte) (int, error) {
	for len(r.out) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		if r.err = r.walk.next(r.in); r.err != nil {
			r.c.end()
		}
		r.out = r.c.output()
	}
	n := copy(p, r.out)
	r.out = r.out[n:]
	return n, nil
}

package ingress

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// dataFilter takes the content of a message out of DATA or BDAT. Only CRLF ends
// a line, and only a dot alone on a line that a real CRLF has begun ends DATA. A
// bare CR or LF becomes CRLF. Clients that end their lines with LF stuff the dots
// of these as well: two at the beginning of such a line are one. One alone is no
// stuffed dot, and no end either: it is content.
type dataFilter struct {
	lineStart bool // nothing of the present line has been passed on
	begun     newline
	cr        bool // the last octet was a CR, not yet passed on
	bare      int  // bare CRs and LFs so far
	chunks    bool // the content comes by BDAT, without stuffed dots
}

// appendChunk adds a part of a BDAT chunk.
func (f *dataFilter) appendChunk(out, part []byte) []byte {
	for len(part) > 0 {
		n := bytes.IndexByte(part, '\n') + 1
		if n == 0 {
			n = len(part)
		}
		out, _ = f.append(out, part[:n])
		part = part[n:]
	}
	return out
}

// completeLine ends the last line of a message that came by BDAT.
func (f *dataFilter) completeLine(out []byte) []byte {
	if f.cr {
		f.cr = false
		f.bare++
		out = f.newline(out, cr)
	}
	if !f.lineStart {
		out = f.newline(out, cr)
	}
	return out
}

// append adds the content of piece, which has an LF only at its end, to out. end
// reports whether it was the final dot.
func (f *dataFilter) append(out, piece []byte) (_ []byte, end bool) {
	if f.lineStart && f.begun == crlf && !f.cr && !f.chunks && string(piece) == ".\r\n" {
		return out, true
	}
	for len(piece) > 0 {
		if f.cr {
			f.cr = false
			if piece[0] == '\n' {
				out = f.newline(out, crlf)
				piece = piece[1:]
				continue
			}
			f.bare++
			out = f.newline(out, cr)
			continue
		}
		i := bytes.IndexByte(piece, '\r')
		if i < 0 {
			i = len(piece)
			if piece[i-1] == '\n' {
				i--
			}
		}
		out = f.text(out, piece[:i], piece[i:])
		piece = piece[i:]
		if len(piece) == 0 {
			break
		}
		if piece[0] == '\n' {
			f.bare++
			out = f.newline(out, lf)
		} else {
			f.cr = true
		}
		piece = piece[1:]
	}
	return out, false
}

// text passes on a part of a line; rest is what follows it.
func (f *dataFilter) text(out, text, rest []byte) []byte {
	if len(text) == 0 {
		return out
	}
	if f.lineStart && text[0] == '.' && !f.chunks {
		switch {
		case f.begun == crlf && (len(text) > 1 || len(rest) == 0):
			// It was stuffed (RFC 5321, 4.5.2), but for one that stands alone before
			// a bare CR or LF.
			text = text[1:]
		case f.begun == lf && len(text) > 1 && text[1] == '.':
			text = text[1:]
		}
	}
	f.lineStart = false
	return append(out, text...)
}

// newline is how a line ended.
type newline uint8

const (
	crlf newline = iota // as at the beginning
	lf
	cr
)

func (f *dataFilter) newline(out []byte, by newline) []byte {
	f.lineStart, f.begun = true, by
	return append(out, '\r', '\n')
}

// errNUL and errLongLine end a message.
var (
	errNUL      = errors.New("the message has a NUL in it")
	errLongLine = errors.New("the message has a line that is too long")
)

// contentWriter checks the content of a message on its way to the queue: no
// NUL, no line over the limit. Its lines end in CRLF: dataFilter has seen to it.
type contentWriter struct {
	w       io.Writer
	maxLine int // 0: no limit
	length  int // of the present line
	long    int // lines over smtpLine
}

func (c *contentWriter) Write(p []byte) (int, error) {
	if bytes.IndexByte(p, 0) >= 0 {
		return 0, errNUL
	}
	for rest := p; len(rest) > 0; {
		i := bytes.IndexByte(rest, '\n') + 1
		if i == 0 {
			c.length += len(rest)
			rest = nil
		} else {
			c.length += i - len("\r\n")
			rest = rest[i:]
		}
		if c.maxLine > 0 && c.length > c.maxLine {
			return 0, fmt.Errorf("%w (over %d octets)", errLongLine, c.maxLine)
		}
		if i > 0 {
			if c.length > smtpLine {
				c.long++
			}
			c.length = 0
		}
	}
	return c.w.Write(p)
}

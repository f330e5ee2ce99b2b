package ingress

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// dataFilter makes the content of DATA clean before the final dot is looked
// for: only CRLF ends a line, and only a dot alone on a line that a real CRLF
// has begun ends the message. A bare CR or LF becomes CRLF; where a line that
// is made so begins with a dot, the dot is content and is stuffed.
type dataFilter struct {
	lineStart bool // nothing of the present line has been passed on
	made      bool // the present line was begun by a bare CR or LF
	cr        bool // the last octet was a CR, not yet passed on
	bare      int  // bare CRs and LFs so far
}

// append adds piece, which has an LF only at its end, to out. end says that it
// was the final dot.
func (f *dataFilter) append(out, piece []byte) (_ []byte, end bool) {
	if f.lineStart && !f.made && !f.cr && string(piece) == ".\r\n" {
		return append(out, piece...), true
	}
	for len(piece) > 0 {
		if f.cr {
			f.cr = false
			if piece[0] == '\n' {
				out = f.newline(out, false)
				piece = piece[1:]
				continue
			}
			f.bare++
			out = f.newline(out, true)
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
			out = f.newline(out, true)
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
	if f.lineStart && text[0] == '.' {
		// A line that was made, or one that a bare CR or LF would make into a
		// dot alone, must not look like the end.
		alone := len(text) == 1 && len(rest) > 0 && string(rest) != "\r\n"
		if f.made || alone {
			out = append(out, '.')
		}
	}
	f.lineStart = false
	return append(out, text...)
}

func (f *dataFilter) newline(out []byte, made bool) []byte {
	f.lineStart, f.made = true, made
	return append(out, '\r', '\n')
}

// errNUL and errLongLine end a message.
var (
	errNUL      = errors.New("the message has a NUL in it")
	errLongLine = errors.New("the message has a line that is too long")
)

// contentWriter checks the content of a message on its way to the queue: no
// NUL, no line over the limit, and no bare CR or LF, which become CRLF. What
// came by DATA is clean of those already, what came by BDAT is not.
type contentWriter struct {
	w       io.Writer
	maxLine int
	cr      bool
	length  int // of the present line
	bare    int
	buf     []byte
}

func (c *contentWriter) Write(p []byte) (int, error) {
	n := len(p)
	if bytes.IndexByte(p, 0) >= 0 {
		return 0, errNUL
	}
	c.buf = c.buf[:0]
	for len(p) > 0 {
		if c.cr {
			c.cr = false
			if p[0] == '\n' {
				p = p[1:]
			} else {
				c.bare++
			}
			c.buf = append(c.buf, '\r', '\n')
			c.length = 0
			continue
		}
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			i = len(p)
		}
		if j := bytes.IndexByte(p[:i], '\r'); j >= 0 {
			i = j
		}
		c.buf = append(c.buf, p[:i]...)
		if c.length += i; c.length > c.maxLine {
			return 0, fmt.Errorf("%w (over %d octets)", errLongLine, c.maxLine)
		}
		if p = p[i:]; len(p) == 0 {
			break
		}
		if p[0] == '\r' {
			c.cr = true
		} else {
			c.bare++
			c.buf = append(c.buf, '\r', '\n')
			c.length = 0
		}
		p = p[1:]
	}
	if _, err := c.w.Write(c.buf); err != nil {
		return 0, err
	}
	return n, nil
}

// end writes what a message needs at its end: a last line that is ended.
func (c *contentWriter) end() error {
	if !c.cr && c.length == 0 {
		return nil
	}
	if c.cr {
		c.cr = false
		c.bare++
	}
	_, err := c.w.Write([]byte("\r\n"))
	return err
}

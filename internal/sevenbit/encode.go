package sevenbit

import (
	"bytes"
	"encoding/base64"
)

const (
	hex = "0123456789ABCDEF"
	// lineLimit bounds a line of quoted-printable, with the = of a soft break, and a
	// line of base64 (RFC 2045, 6.7 and 6.8).
	lineLimit = 76
)

// quoter writes quoted-printable (RFC 2045, 6.7).
type quoter struct {
	column int // of the line that is written
	hex    int // octets that are left of one that is written as =XX
}

// line adds a fragment of a line.
func (q *quoter) line(out, line []byte) []byte {
	text, ended := cutNewline(line)
	for i, b := range text {
		blank := b == ' ' || b == '\t'
		if b > ' ' && b <= '~' && b != '=' || blank && i < len(text)-1 {
			out = q.plain(out, b)
			continue
		}
		out, _ = q.room(out, 3)
		out = append(out, '=', hex[b>>4], hex[b&15])
		q.column += 3
	}
	if ended {
		out = append(out, "\r\n"...)
		q.column = 0
	}
	return out
}

// again breaks a fragment of a line that is quoted-printable already.
func (q *quoter) again(out, line []byte) []byte {
	text, ended := cutNewline(line)
	for _, b := range text {
		switch {
		case q.hex > 0:
			out, q.hex = append(out, b), q.hex-1
			q.column++
		case b == '=': // stays with what it stands for
			out, _ = q.room(out, 3)
			out, q.hex = append(out, b), 2
			q.column++
		default:
			out = q.plain(out, b)
		}
	}
	if ended {
		out = append(out, "\r\n"...)
		q.column, q.hex = 0, 0
	}
	return out
}

func (q *quoter) plain(out []byte, b byte) []byte {
	out, broke := q.room(out, 1)
	if broke && b == '-' {
		// What follows a break begins a line: it must not become a boundary.
		q.column += len("=2D")
		return append(out, "=2D"...)
	}
	q.column++
	return append(out, b)
}

// room makes room for n octets in the present line, and reports whether that took
// a soft break.
func (q *quoter) room(out []byte, n int) (_ []byte, broke bool) {
	if q.column+n <= lineLimit-1 {
		return out, false
	}
	q.column = 0
	return append(out, "=\r\n"...), true
}

func cutNewline(line []byte) (text []byte, ended bool) {
	text = bytes.TrimSuffix(line, []byte("\n"))
	if ended = len(text) < len(line); ended {
		text = bytes.TrimSuffix(text, []byte("\r"))
	}
	return text, ended
}

// base64er writes base64 (RFC 2045, 6.8).
type base64er struct {
	rest    []byte // fewer octets than make a group, or a line end that may be the boundary's
	column  int
	newline bool // a line end has come that belongs to the content if more follows
}

// line adds a fragment of a line.
func (e *base64er) line(out, line []byte) []byte {
	text, ended := cutNewline(line)
	if e.newline {
		e.rest = append(e.rest, "\r\n"...)
	}
	e.rest = append(e.rest, text...)
	e.newline = ended
	n := len(e.rest) / 3 * 3
	out = e.write(out, e.rest[:n])
	e.rest = append(e.rest[:0], e.rest[n:]...)
	return out
}

// end ends the content, before a boundary, to which the last line end belongs, or
// at the end of the message.
func (e *base64er) end(out []byte, boundary bool) []byte {
	if e.newline && !boundary {
		e.rest = append(e.rest, "\r\n"...)
	}
	out = e.write(out, e.rest)
	if e.column > 0 {
		out = append(out, "\r\n"...)
	}
	*e = base64er{}
	return out
}

func (e *base64er) write(out, p []byte) []byte {
	const group = lineLimit / 4 * 3
	for len(p) > 0 {
		if e.column == lineLimit {
			out = append(out, "\r\n"...)
			e.column = 0
		}
		n := min(len(p), group-e.column/4*3)
		before := len(out)
		out = base64.StdEncoding.AppendEncode(out, p[:n])
		e.column += len(out) - before
		p = p[n:]
	}
	return out
}

// again breaks a fragment of a line that is base64 already.
func (e *base64er) again(out, line []byte) []byte {
	text, _ := cutNewline(line)
	for _, b := range text {
		if b == ' ' || b == '\t' {
			continue
		}
		// A "-" is no base64, and at the beginning of a line it could make a boundary.
		if e.column >= lineLimit && b != '-' {
			out = append(out, "\r\n"...)
			e.column = 0
		}
		out = append(out, b)
		e.column++
	}
	return out
}

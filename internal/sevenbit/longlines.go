package sevenbit

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/stsrelay/stsrelay/internal/mailheader"
)

// Survey has the changes after which no line of a message has more than
// 998 octets (RFC 5321, 4.5.3.1.6). Header fields are folded; the body of a part
// that has longer lines becomes quoted-printable or base64, or is broken anew
// where it was that before. Signed parts stay as they are, and so do parts with an
// unknown encoding.
type Survey struct {
	// Lines is the number of lines that are too long. Kept is the number of those that
	// stay as they are; Why is what the first of these belongs to, such as
	// "DKIM-Signature".
	Lines, Kept int
	Why         string

	parts []change // in the order of the message
}

// change is the action for the body of a part.
type change struct {
	part   int // by number of the headers before it
	action action
}

type action uint8

const (
	pass         action = iota
	toQuoted            // becomes quoted-printable
	toBase64            // becomes base64
	quotedAgain         // is quoted-printable, and broken anew
	base64Again         // is base64, and broken anew
	breakOutside        // belongs to no part: lines are broken
)

// Look reads a message to its end. Lines end in CRLF.
func Look(r io.Reader) (*Survey, error) {
	l := &looker{}
	in, w := bufio.NewReaderSize(r, fragment), newWalker(l)
	for {
		if err := w.next(in); errors.Is(err, io.EOF) {
			l.endPart()
			return &l.survey, nil
		} else if err != nil {
			return nil, err
		}
	}
}

// Reader reads the same message with its lines shortened.
func (s *Survey) Reader(r io.Reader) io.Reader { return newReader(r, &shortener{parts: s.parts}) }

// looker is the handler of Look.
type looker struct {
	survey  Survey
	number  int // of the present part
	part    part
	length  int // of the present line, without its end
	lines   int // of the present part that are too long
	octets  int // of the present part
	escapes int // of them, those that quoted-printable writes as three
	pgp     bool
}

func (l *looker) head(header []byte, p part) {
	l.endPart()
	l.number++
	l.part, l.length, l.lines, l.octets, l.escapes, l.pgp = p, 0, 0, 0, 0, false
	l.look(header, p.signed)
}

func (l *looker) outside(p []byte) { l.look(p, signature(p)) }

// look looks at a header.
func (l *looker) look(header []byte, signed string) {
	for line := range bytes.Lines(header) {
		if text, _ := cutNewline(line); len(text) > mailheader.MaxLine {
			l.survey.found(1, signed)
		}
	}
}

// found counts lines that are too long; why is the reason why they have to stay, or "".
func (s *Survey) found(lines int, why string) {
	s.Lines += lines
	if why != "" {
		s.Kept += lines
		if s.Why == "" {
			s.Why = why
		}
	}
}

var beginPGP = []byte("-----BEGIN PGP SIGNED MESSAGE-----")

func (l *looker) body(fragment []byte) {
	if l.length == 0 && bytes.HasPrefix(fragment, beginPGP) {
		l.pgp = true
	}
	text, ended := cutNewline(fragment)
	l.length += len(text)
	l.octets += len(text)
	for _, b := range text {
		if b < ' ' && b != '\t' || b > '~' || b == '=' {
			l.escapes++
		}
	}
	if ended {
		l.endLine()
	}
}

func (l *looker) endLine() {
	if l.length > mailheader.MaxLine {
		l.lines++
	}
	l.length = 0
}

// endPart chooses the action for the part that ends.
func (l *looker) endPart() {
	l.endLine()
	if l.lines == 0 {
		return
	}
	a, why := l.decide()
	l.survey.found(l.lines, why)
	if a != pass {
		l.survey.parts = append(l.survey.parts, change{l.number, a})
	}
}

func (l *looker) decide() (a action, why string) {
	switch {
	case l.part.signed != "":
		return pass, l.part.signed
	case l.pgp:
		return pass, "PGP signature"
	case l.part.kind == isMultipart:
		return breakOutside, ""
	case l.part.kind != isLeaf:
		return pass, "a part that may have no other encoding"
	}
	switch l.part.encoding {
	case "base64":
		return base64Again, ""
	case "quoted-printable":
		return quotedAgain, ""
	case "", "7bit", "8bit", "binary":
		if l.escapes > l.octets/6 { // base64 is shorter
			return toBase64, ""
		}
		return toQuoted, ""
	}
	return pass, "an unknown Content-Transfer-Encoding"
}

// shortener is the convertor of Survey.Reader.
type shortener struct {
	parts  []change // that are to come
	number int
	buf    []byte

	action action // for the present part
	quoter quoter
	base64 base64er
	column int // of what is of no part
}

func (c *shortener) head(header []byte, p part) {
	c.number++
	c.action, c.quoter, c.base64, c.column = pass, quoter{}, base64er{}, 0
	if len(c.parts) > 0 && c.parts[0].part == c.number {
		c.action, c.parts = c.parts[0].action, c.parts[1:]
	}
	if p.signed == "" {
		header = mailheader.Fold(header)
	}
	switch c.action {
	case toQuoted:
		c.buf = setEncoding(c.buf, header, "quoted-printable", p.message)
	case toBase64:
		c.buf = setEncoding(c.buf, header, "base64", p.message)
	default:
		c.buf = append(c.buf, header...)
	}
}

func (c *shortener) body(fragment []byte) {
	switch c.action {
	case toQuoted:
		c.buf = c.quoter.line(c.buf, fragment)
	case toBase64:
		c.buf = c.base64.line(c.buf, fragment)
	case quotedAgain:
		c.buf = c.quoter.again(c.buf, fragment)
	case base64Again:
		c.buf = c.base64.again(c.buf, fragment)
	case breakOutside:
		c.breakLine(fragment)
	default:
		c.buf = append(c.buf, fragment...)
	}
}

// breakLine breaks lines outside of parts, such as before the first part.
func (c *shortener) breakLine(fragment []byte) {
	for _, b := range fragment {
		// A "-" at the beginning of a line could make a boundary.
		if c.column >= lineLimit && b != '-' && b != '\r' && b != '\n' && b&0xc0 != 0x80 {
			c.buf = append(c.buf, "\r\n"...)
			c.column = 0
		}
		c.buf = append(c.buf, b)
		if c.column++; b == '\n' {
			c.column = 0
		}
	}
}

func (c *shortener) outside(p []byte) {
	c.endPart(true)
	if signature(p) == "" {
		p = mailheader.Fold(p)
	}
	c.buf = append(c.buf, p...)
}

func (c *shortener) end() { c.endPart(false) }

func (c *shortener) endPart(boundary bool) {
	switch c.action {
	case toBase64:
		c.buf = c.base64.end(c.buf, boundary)
	case base64Again:
		if c.base64.column > 0 {
			c.buf = append(c.buf, "\r\n"...)
		}
	}
	c.action = pass
}

func (c *shortener) output() []byte {
	out := c.buf
	c.buf = c.buf[:0]
	return out
}

// Package printable makes text of strangers safe for a terminal. Certificates,
// SMTP replies, DNS records and addresses may hold characters that a terminal
// obeys (ESC, the C1 controls), or that turn the direction of writing. What cannot
// be printed is written as an escape of the character.
package printable

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// String returns s with all that cannot be printed written as \x1b or \u202e.
// Octets that are no UTF-8 are written as \xff.
func String(s string) string {
	if clean(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if printable(r, n) {
			b.WriteRune(r)
		} else {
			escape(&b, r, s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

// printable reports whether a character of n octets may go to a terminal as it
// is.
func printable(r rune, n int) bool {
	return unicode.IsPrint(r) && (r != utf8.RuneError || n > 1)
}

func clean(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

func escape(b *strings.Builder, r rune, octets string) {
	switch {
	case r < utf8.RuneSelf || len(octets) == 1:
		fmt.Fprintf(b, `\x%02x`, octets[0])
	case r > 0xffff:
		fmt.Fprintf(b, `\U%08x`, r)
	default:
		fmt.Fprintf(b, `\u%04x`, r)
	}
}

// Writer writes text as String does; line ends and tabs stay. Only one goroutine may use
// it at a time.
type Writer struct {
	to     io.Writer
	escape func(b *strings.Builder, r rune, octets string)
	rest   []byte // the beginning of a character whose end is in the next write
}

// NewWriter returns a Writer of plain text.
func NewWriter(to io.Writer) *Writer { return &Writer{to: to, escape: escape} }

// NewJSONWriter returns a Writer of JSON texts: what cannot be printed is written
// as JSON escapes, \u202e, so that the text keeps its meaning. In JSON such
// characters stand in strings only.
func NewJSONWriter(to io.Writer) *Writer { return &Writer{to: to, escape: escapeJSON} }

func escapeJSON(b *strings.Builder, r rune, _ string) {
	if high, low := utf16.EncodeRune(r); high != utf8.RuneError {
		fmt.Fprintf(b, `\u%04x\u%04x`, high, low)
		return
	}
	fmt.Fprintf(b, `\u%04x`, r)
}

// plain is how many octets at the beginning of text are ASCII that may be written as it is:
// nearly all of a log.
func plain(text []byte) int {
	for i, c := range text {
		if (c < ' ' || c > '~') && c != '\n' && c != '\t' {
			return i
		}
	}
	return len(text)
}

// Write implements io.Writer.
func (w *Writer) Write(p []byte) (int, error) {
	text := p
	if len(w.rest) > 0 {
		text = append(w.rest, p...)
		w.rest = nil
	}
	if plain(text) == len(text) {
		if _, err := w.to.Write(text); err != nil {
			return 0, err
		}
		return len(p), nil
	}
	var b strings.Builder
	b.Grow(len(text))
	for len(text) > 0 {
		if n := plain(text); n > 0 {
			b.Write(text[:n])
			text = text[n:]
			continue
		}
		if !utf8.FullRune(text) {
			w.rest = append(w.rest, text...)
			break
		}
		r, n := utf8.DecodeRune(text)
		if printable(r, n) || r == '\n' || r == '\t' {
			b.Write(text[:n])
		} else {
			w.escape(&b, r, string(text[:n]))
		}
		text = text[n:]
	}
	if _, err := io.WriteString(w.to, b.String()); err != nil {
		return 0, err
	}
	return len(p), nil
}

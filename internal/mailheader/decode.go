package mailheader

import (
	"io"
	"mime"
	"strings"

	"golang.org/x/text/encoding/htmlindex"
)

// Decoded is the text of a value, its encoded words (RFC 2047) decoded. A value with a word
// that cannot be decoded stays as it is.
func Decoded(value string) string {
	text, err := (&mime.WordDecoder{CharsetReader: charsetReader}).DecodeHeader(value)
	if err != nil {
		return value
	}
	return text
}

// charsetReader reads the character sets that package mime does not know: Outlook writes
// windows-1252 as soon as a subject has a dash or a euro sign. A language may follow the
// name (RFC 2231, 5).
func charsetReader(charset string, input io.Reader) (io.Reader, error) {
	name, _, _ := strings.Cut(charset, "*")
	e, err := htmlindex.Get(name)
	if err != nil {
		return nil, err
	}
	return e.NewDecoder().Reader(input), nil
}

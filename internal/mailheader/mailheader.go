// Package mailheader walks the header of a message as it is, octet for octet
// (RFC 5322, 2.2): nothing is decoded, and lines that are no field are returned
// unchanged.
package mailheader

import (
	"bytes"
	"iter"
	"strings"
)

// Fields are the fields of a header, each with the lines that continue it and
// with its line end. Lines end in CRLF or LF. Put together again, they are b.
func Fields(b []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			end := 0
			for {
				i := bytes.IndexByte(b[end:], '\n')
				if i < 0 {
					end = len(b)
					break
				}
				end += i + 1
				if end == len(b) || b[end] != ' ' && b[end] != '\t' {
					break
				}
			}
			if !yield(b[:end:end]) {
				return
			}
			b = b[end:]
		}
	}
}

// Name is the name of a field in lower case; "" where it has none.
func Name(field []byte) string {
	name, _, ok := bytes.Cut(field, []byte(":"))
	name = bytes.TrimRight(name, " \t")
	if !ok || len(name) == 0 || bytes.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return ""
	}
	return strings.ToLower(string(name))
}

// Value is the text behind the colon of a field, unfolded (RFC 5322, 2.2.3)
// and without the blanks around it; "" where there is no colon.
func Value(field []byte) string {
	_, value, _ := strings.Cut(string(field), ":")
	return strings.TrimSpace(unfold.Replace(value))
}

var unfold = strings.NewReplacer("\r", "", "\n", "")

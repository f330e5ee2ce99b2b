// Package mailheader walks the header of a message as it is, octet for octet
// (RFC 5322, 2.2): only Decoded decodes, and lines that are no field are returned
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
	for _, known := range names {
		if len(name) == len(known) && strings.EqualFold(string(name), known) {
			return known
		}
	}
	return strings.ToLower(string(name))
}

// names are those that the relay asks for in every message. Name makes no copy of them.
var names = [...]string{
	"received", "from", "to", "subject", "date", "message-id", "tls-required", "mime-version", "content-type", "content-transfer-encoding",
}

// Value is the text behind the colon of a field, unfolded (RFC 5322, 2.2.3)
// and without the blanks around it; "" where there is no colon.
func Value(field []byte) string {
	value := trimmed(field)
	if bytes.IndexByte(value, '\n') < 0 && bytes.IndexByte(value, '\r') < 0 {
		return string(value)
	}
	return strings.TrimSpace(unfold.Replace(string(value)))
}

// HasValue reports whether Value returns a text.
func HasValue(field []byte) bool { return len(trimmed(field)) > 0 }

func trimmed(field []byte) []byte {
	_, value, _ := bytes.Cut(field, []byte(":"))
	return bytes.TrimSpace(value)
}

var unfold = strings.NewReplacer("\r", "", "\n", "")

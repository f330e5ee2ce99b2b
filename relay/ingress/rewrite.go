package ingress

import (
	"bytes"
	"strings"

	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/internal/mailheader"
)

// AddressMap has values for addresses: "user@example.com" is for that address,
// "example.com" for all of the domain, and ".example.com" for all domains below it. Names
// are in lower case, and local parts are compared without case.
type AddressMap map[string]string

// find returns the value with the most specific name.
func (a AddressMap) find(m mailbox.Mailbox) (value string, ok bool) {
	if len(a) == 0 {
		return "", false
	}
	if value, ok = a[strings.ToLower(m.Local)+"@"+m.Domain]; ok {
		return value, true
	}
	if value, ok = a[m.Domain]; ok {
		return value, true
	}
	for rest := m.Domain; ; {
		_, after, more := strings.Cut(rest, ".")
		if !more {
			return "", false
		}
		if value, ok = a["."+after]; ok {
			return value, true
		}
		rest = after
	}
}

func (a AddressMap) has(m mailbox.Mailbox) bool {
	_, ok := a.find(m)
	return ok
}

// replace returns what takes the place of an address: the value, which is an address, or a
// domain for its local part. It is done once: the result is not looked up again. Values
// that are no address leave the address as it is.
func (a AddressMap) replace(m mailbox.Mailbox) (out mailbox.Mailbox, replaced bool) {
	to, ok := a.find(m)
	if !ok {
		return m, false
	}
	var err error
	if strings.Contains(to, "@") {
		out, err = mailbox.Parse(to)
	} else {
		out, err = mailbox.FromParts(m.Local, to)
	}
	if err != nil {
		return m, false
	}
	return out, true
}

// field returns a header field with its addresses replaced, if it is one of those that
// name people (RFC 5322, 3.6.2 and 3.6.3) but Bcc. What is quoted, and comments, stay:
// they are texts for people.
func (a AddressMap) field(field []byte) []byte {
	switch mailheader.Name(field) {
	case "from", "sender", "reply-to", "to", "cc":
	default:
		return field
	}
	at := bytes.IndexByte(field, ':') + 1
	out := bytes.Clone(field[:at])
	for at < len(field) {
		n := skip(field[at:])
		if n == 0 {
			n = wordLength(field[at:])
			out = append(out, a.word(field[at:at+n])...)
		} else {
			out = append(out, field[at:at+n]...)
		}
		at += n
	}
	return out
}

// word returns what takes the place of a word of a field.
func (a AddressMap) word(word []byte) []byte {
	if bytes.IndexByte(word, '@') < 0 {
		return word
	}
	m, err := mailbox.Parse(string(word))
	if err != nil {
		return word
	}
	if to, ok := a.replace(m); ok {
		return []byte(to.String())
	}
	return word
}

// skip is the length of what is at the beginning of b and no part of a word: a quoted
// text, a comment, or a character between words. It is 0 before a word.
func skip(b []byte) int {
	switch b[0] {
	case '"':
		return 1 + closing(b[1:], '"', 0)
	case '(':
		return 1 + closing(b[1:], ')', '(')
	}
	if isWord(b[0]) {
		return 0
	}
	return 1
}

// closing is the length of a text up to and with the character that ends it. inner opens
// another one inside (RFC 5322, 3.2.2: comments nest).
func closing(b []byte, end, inner byte) int {
	depth := 1
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '\\':
			i++
		case c == end:
			if depth--; depth == 0 {
				return i + 1
			}
		case inner != 0 && c == inner:
			depth++
		}
	}
	return len(b)
}

func wordLength(b []byte) int {
	n := 0
	for n < len(b) && isWord(b[n]) {
		n++
	}
	return n
}

// isWord reports whether a character may stand in an address that is not quoted.
func isWord(c byte) bool {
	return c > ' ' && c != 0x7f && !strings.ContainsRune(`()<>[]:;,\"`, rune(c))
}

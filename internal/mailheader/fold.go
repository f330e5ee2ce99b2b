package mailheader

import (
	"bytes"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	// MaxLine is the most octets of a line, CRLF not counted (RFC 5322, 2.1.1).
	MaxLine = 998
	// niceLine is the length that lines should not exceed.
	niceLine = 78
)

// Fold breaks the lines of a header that are longer than MaxLine, at white space
// (RFC 5322, 2.2.3): unfolded, the fields are what they were. A field without
// white space is broken behind a comma or between identifiers where that does not change
// its meaning, otherwise anywhere. Lines end in CRLF. Where no line is too long, b itself
// is returned.
func Fold(b []byte) []byte {
	if !slices.ContainsFunc(slices.Collect(bytes.Lines(b)), tooLong) {
		return b
	}
	out := make([]byte, 0, len(b)+len(b)/20)
	for field := range Fields(b) {
		first := true
		for line := range bytes.Lines(field) {
			if tooLong(line) {
				f := folder{structured: structured(Name(field)), first: first}
				line = f.fold(line)
			}
			out = append(out, line...)
			first = false
		}
	}
	return out
}

func tooLong(line []byte) bool { return len(bytes.TrimRight(line, "\r\n")) > MaxLine }

// structured reports whether white space means nothing between the items of a
// field: addresses, identifiers, links.
func structured(name string) bool {
	switch strings.TrimPrefix(name, "resent-") {
	case "from", "sender", "reply-to", "to", "cc", "bcc", "references", "in-reply-to", "disposition-notification-to":
		return true
	}
	return strings.HasPrefix(name, "list-")
}

// folder breaks one line.
type folder struct {
	structured bool
	first      bool // the line has the name of the field
	quoted     bool // what comes next is inside of a quoted string
}

func (f *folder) fold(line []byte) []byte {
	rest := bytes.TrimRight(line, "\r\n \t")
	end := line[len(bytes.TrimRight(line, "\r\n")):]
	var out []byte
	for len(rest) > niceLine {
		if blanks := len(rest) - len(bytes.TrimLeft(rest, " \t")); blanks > niceLine {
			rest = rest[blanks-1:] // else a line would have nothing else
		}
		i := f.place(rest)
		if i < 0 {
			break
		}
		for _, b := range rest[:i] {
			f.quoted = f.quoted != (b == '"')
		}
		out = append(append(out, rest[:i]...), "\r\n"...)
		if rest = rest[i:]; !blank(rest[0]) {
			out = append(out, ' ')
		}
		f.first = false
	}
	return append(append(out, rest...), end...)
}

// place is the position of the next break of a line, -1 where there is none. Both lines
// have text.
func (f *folder) place(s []byte) int {
	least := 0
	if f.first {
		least = bytes.IndexByte(s, ':') + 1
	}
	for least < len(s) && blank(s[least]) {
		least++
	}
	best := -1
	quoted := f.quoted
	for i := 0; i < len(s) && (i <= niceLine || best < 0 && i < MaxLine); i++ {
		white := blank(s[i]) && !blank(s[max(i-1, 0)])
		comma := f.structured && !quoted && i > 0 && (s[i-1] == ',' || s[i-1] == '>' && s[i] == '<') && !blank(s[i])
		if i > least && (white || comma) {
			best = i
		}
		quoted = quoted != (s[i] == '"')
	}
	if best >= 0 || len(s) < MaxLine {
		return best
	}
	// A space is added here: no text for people, and none for programs that know
	// folding, has such a long word.
	for best = MaxLine - 1; best > MaxLine-utf8.UTFMax && !utf8.RuneStart(s[best]); best-- { //nolint:revive // no part of a character
	}
	return best
}

func blank(b byte) bool { return b == ' ' || b == '\t' }

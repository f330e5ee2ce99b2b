package history

import (
	"bytes"
	"iter"
	"slices"
	"strings"
)

// needle is looked for in lines, in any case of its letters. Most places are passed over
// quickly: only those of its rarest octet are compared.
type needle struct {
	want   []byte
	anchor int // index of that octet in want, which is no letter
}

// needles returns what finds each of the values. It returns nil, and all lines must be
// parsed, if one of them has none of the octets that serve as an anchor, or has letters
// outside of ASCII: their cases differ in other ways.
func needles(values ...string) []needle {
	var list []needle
	for _, v := range values {
		anchor := -1
		for _, rare := range []string{"@", "_", "-.:", "\""} {
			if anchor = strings.IndexAny(v, rare); anchor >= 0 {
				break
			}
		}
		if anchor < 0 || strings.ContainsFunc(v, func(r rune) bool { return r >= 0x80 }) {
			return nil
		}
		list = append(list, needle{[]byte(v), anchor})
	}
	return list
}

// in reports whether b contains the needle.
func (n *needle) in(b []byte) bool {
	for begin := n.anchor; begin < len(b); begin++ {
		i := bytes.IndexByte(b[begin:], n.want[n.anchor])
		if i < 0 {
			return false
		}
		begin += i
		if at := begin - n.anchor; at+len(n.want) <= len(b) && sameLetters(b[at:at+len(n.want)], n.want) {
			return true
		}
	}
	return false
}

// sameLetters reports whether two texts of one length differ at most in the case of ASCII
// letters.
func sameLetters(a, b []byte) bool {
	for i, c := range a {
		if d := b[i]; c != d && (c^d != 0x20 || c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return true
}

// candidates yields the lines that have one of the needles, or all lines if there are none.
func candidates(raw []byte, list []needle) iter.Seq[[]byte] {
	has := func(b []byte) bool {
		return len(list) == 0 || slices.ContainsFunc(list, func(n needle) bool { return n.in(b) })
	}
	return func(yield func([]byte) bool) {
		if !has(raw) {
			return // mostly
		}
		for line := range bytes.Lines(raw) {
			if has(line) && !yield(line) {
				return
			}
		}
	}
}

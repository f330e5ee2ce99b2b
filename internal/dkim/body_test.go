package dkim

import (
	"hash"
	"strings"
	"testing"
)

// text is a hash that notes what is hashed.
type text struct {
	hash.Hash
	strings.Builder
}

func (t *text) Write(p []byte) (int, error) { return t.Builder.Write(p) }
func (t *text) Reset()                      { t.Builder.Reset() }

// relaxed is the relaxed form of a body that is written in pieces.
func relaxed(pieces ...string) string {
	var form text
	r := relaxedBody{hash: &form}
	for _, p := range pieces {
		r.write([]byte(p))
	}
	r.end()
	return form.String()
}

func TestRelaxedBody(t *testing.T) {
	for _, tt := range []struct{ name, body, want string }{
		{"RFC 6376, 3.4.5", " C \r\nD \t E\r\n\r\n\r\n", " C\r\nD E\r\n"},
		{"empty", "", ""},
		{"an empty line", "\r\n", ""},
		{"empty lines", "\r\n\r\n\r\n", ""},
		{"white space alone", " \t \r\n\t\r\n ", ""},
		{"no line end at the end", "a", "a\r\n"},
		{"white space at the end, no line end", "a \t", "a\r\n"},
		{"half a line end at the end", "a\r", "a\r\n"},
		{"as it should be", "a b\r\nc d\r\n", "a b\r\nc d\r\n"},
		{"empty lines between", "a\r\n\r\n \r\nb\r\n", "a\r\n\r\n\r\nb\r\n"},
		{"empty lines at the start", "\r\n\r\na\r\n", "\r\n\r\na\r\n"},
		{"white space at the start of a line", "\t  a\r\n  b\r\n", " a\r\n b\r\n"},
		{"white space at the end of a line", "a \r\nb\t\r\n", "a\r\nb\r\n"},
		{"a tab between", "a\tb", "a b\r\n"},
		{"other control characters", "a\x00 \x0bb\x0c\r\n\x00", "a\x00 \x0bb\x0c\r\n\x00\r\n"},
		{"8 bits", "\xff \xa0\r\n", "\xff \xa0\r\n"},
		{"bare LF", "a\nb \n\nc\n\n", "a\r\nb\r\n\r\nc\r\n"},
		{"bare CR", "a\rb \r c\r\n \rd\r\r\r\ne\r\r", "a\rb\r c\r\n\rd\r\r\r\ne\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := relaxed(tt.body); got != tt.want {
				t.Errorf("whole: %q, want %q", got, tt.want)
			}
			if got := relaxed(strings.Split(tt.body, "")...); got != tt.want {
				t.Errorf("octet by octet: %q, want %q", got, tt.want)
			}
			for i := range tt.body {
				if got := relaxed(tt.body[:i], tt.body[i:]); got != tt.want {
					t.Errorf("%q, %q: %q, want %q", tt.body[:i], tt.body[i:], got, tt.want)
				}
			}
		})
	}
}

// A body of line ends alone may be as long as a message. They are counted, not kept.
func TestEmptyLinesTakeNoMemory(t *testing.T) {
	var form text
	r := relaxedBody{hash: &form}
	lines := []byte(strings.Repeat("\r\n", 1000))
	if n := testing.AllocsPerRun(100, func() { r.write(lines) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	r.write([]byte("a"))
	r.end()
	if want := strings.Repeat("\r\n", 101_000) + "a\r\n"; form.String() != want {
		t.Errorf("%d octets, want %d", form.Len(), len(want))
	}
}

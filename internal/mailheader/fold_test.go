package mailheader

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

// unfolded is a header without its folds; where space is false, without any space.
func unfolded(b []byte, space bool) string {
	s := strings.NewReplacer("\r\n ", " ", "\r\n\t", "\t").Replace(string(b))
	if !space {
		s = strings.NewReplacer(" ", "", "\t", "").Replace(s)
	}
	return s
}

func checkFold(t *testing.T, in, out []byte) {
	t.Helper()
	for line := range bytes.Lines(out) {
		text := strings.TrimRight(string(line), "\r\n")
		if len(text) > MaxLine {
			t.Errorf("a line of %d octets: %.60q…", len(text), text)
		}
		if text != "" && strings.Trim(text, " \t") == "" && !bytes.Contains(in, line) {
			t.Errorf("a line of blanks was made of %.60q", in)
		}
		if utf8.Valid(in) && !utf8.ValidString(text) {
			t.Errorf("a character is cut in two: %q", text)
		}
	}
	if unfolded(in, false) != unfolded(out, false) {
		t.Errorf("%.200q became %.200q", in, out)
	}
}

func TestFold(t *testing.T) {
	addresses := strings.Repeat("\"Last, First\" <someone@a.example>, ", 50) + "b@b.example"
	for _, tt := range []struct {
		name, in string
		same     bool // unfolded, it is what it was
		most     int  // octets of a line
	}{
		{"short", "To: a@b.example\r\nSubject: x\r\n", true, 20},
		{"998 octets", "Subject: " + strings.Repeat("x", 989) + "\r\n", true, 998},
		{"addresses", "To: " + addresses + "\r\n", true, 78},
		{"words", "Subject: " + strings.Repeat("word ", 300) + "end\r\nTo: a@b.example\r\n", true, 78},
		{"a long word among others", "Subject: a " + strings.Repeat("x", 900) + " b " + strings.Repeat("y", 300) + "\r\n", true, 910},
		{"folded already, one line too long", "References: <a@b>\r\n\t" + strings.Repeat("<id@b.example> ", 100) + "<c@d>\r\n <e@f>\r\n", true, 78},
		{"addresses without blanks", "Cc: " + strings.Repeat("someone@a.example,", 100) + "b@b.example\r\n", false, 79},
		{"identifiers without blanks", "References: " + strings.Repeat("<id@b.example>", 100) + "\r\n", false, 79},
		{"a comma in quotes", "To: \"" + strings.Repeat("a,", 400) + "\" <a@b.example>," + strings.Repeat("x@b.example,", 20) + "c@d\r\n", false, 998},
		{"one word", "Subject: " + strings.Repeat("x", 3000) + "\r\n", false, 998},
		{"one word of UTF-8", "Subject: x" + strings.Repeat("ü", 3000) + "\r\n", false, 998},
		{"octets that are no UTF-8", "Subject: " + strings.Repeat("\x80", 3000) + "\r\n", false, 998},
		{"blanks", "Subject: a" + strings.Repeat(" ", 3000) + "b" + strings.Repeat("\t ", 1000) + "\r\n", false, 998},
		{"blanks first", "Subject:" + strings.Repeat(" ", 3000) + "b\r\n", false, 998},
		{"blanks only", "Subject:" + strings.Repeat(" ", 3000) + "\r\n", false, 998},
		{"no field", strings.Repeat("x", 1500) + "\r\n", false, 998},
		{"a long name", strings.Repeat("X", 1500) + ": y\r\n", false, 998},
		{"no line end", "Subject: " + strings.Repeat("word ", 300), false, 78},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := Fold([]byte(tt.in))
			checkFold(t, []byte(tt.in), out)
			if tt.same && unfolded(out, true) != tt.in && strings.ReplaceAll(unfolded(out, true), "\t", "\r\n\t") != strings.ReplaceAll(tt.in, "\r\n <", " <") {
				t.Errorf("unfolded it is %q", unfolded(out, true))
			}
			for line := range bytes.Lines(out) {
				if n := len(bytes.TrimRight(line, "\r\n")); n > tt.most {
					t.Errorf("a line of %d octets, want %d at most: %.100q", n, tt.most, line)
				}
			}
			if again := Fold(out); !bytes.Equal(again, out) {
				t.Error("folded once more it is another")
			}
		})
	}
}

func FuzzFold(f *testing.F) {
	f.Add("To: a@b, \"c, d\" <e@f>\r\n g\r\n", 100)
	f.Add("X: \t \r\n", 600)
	f.Fuzz(func(t *testing.T, s string, n int) {
		s = strings.ReplaceAll(strings.ReplaceAll(s, "\r", ""), "\n", "\r\n")
		in := []byte(strings.ReplaceAll(s, "b", strings.Repeat("b", max(0, min(n, 3000)))))
		checkFold(t, in, Fold(in))
	})
}

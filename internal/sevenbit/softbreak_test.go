package sevenbit

import (
	"strings"
	"testing"
)

// A line of text may hold the boundary somewhere in it; a soft break before it
// must not make a boundary of it.
func TestASoftBreakMakesNoBoundary(t *testing.T) {
	text := "ä" + strings.Repeat("x", lineLimit-1-6) + "--b\n"
	out := convert(t, crlf("Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Transfer-Encoding: 8bit\n\n"+text+"--b--\n"))
	if n := strings.Count(out, "\r\n--b"); n != 2 {
		t.Errorf("%d boundaries:\n%s", n, out)
	}
}

package sevenbit

import (
	"io"
	"mime/quotedprintable"
	"strings"
	"testing"
)

// The CRLF of a line may be cut in two by the end of the buffer.
func TestACRLFAtTheEndOfTheBufferStaysOne(t *testing.T) {
	for n := fragment - 4; n <= fragment+2; n++ {
		text := strings.Repeat("x", n-2) + "ä\r\nnext\r\n"
		out := convert(t, "Content-Transfer-Encoding: 8bit\r\n\r\n"+text)
		_, body, _ := strings.Cut(out, "\r\n\r\n")
		got, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(body)))
		if err != nil || string(got) != text {
			t.Errorf("a line of %d octets: %v, it ends in %q", n, err, got[max(len(got)-20, 0):])
		}
	}
}

package ingress

import (
	"strings"
	"testing"
)

// Every content of up to nine octets that could mean anything: CRLF.CRLF ends a
// message and nothing else does, nothing bare comes out, and what comes out can
// be sent on without becoming another message.
func TestOnlyCRLFDotCRLFEnds(t *testing.T) {
	const octets = "\r\n.a"
	for length := 0; length <= 9; length++ {
		raw := make([]byte, length)
		for n := range 1 << (2 * length) {
			for i := range raw {
				raw[i] = octets[n>>(2*i)&3]
			}
			wire := "x\r\n" + string(raw)
			f := dataFilter{lineStart: true}
			var out []byte
			end := -1
			for pos := 0; pos < len(wire) && end < 0; {
				i := strings.IndexByte(wire[pos:], '\n')
				if i < 0 {
					break // the reader waits for the line end
				}
				next := pos + i + 1
				var ended bool
				if out, ended = f.append(out, []byte(wire[pos:next])); ended {
					end = next
				}
				pos = next
			}
			want := -1
			if i := strings.Index(wire, "\r\n.\r\n"); i >= 0 {
				want = i + len("\r\n.\r\n")
			}
			if end != want {
				t.Fatalf("%q ends at %d, want %d", wire, end, want)
			}
			got := strings.ReplaceAll(string(out), "\r\n", "")
			if strings.ContainsAny(got, "\r\n") {
				t.Fatalf("%q: a bare newline in %q", wire, out)
			}
			taken := wire[:strings.LastIndexByte(wire, '\n')+1]
			if end >= 0 {
				taken = wire[:end]
			}
			if strings.Count(got, "a") != strings.Count(taken, "a") {
				t.Fatalf("%q: octets are missing in %q", wire, out)
			}
		}
	}
}

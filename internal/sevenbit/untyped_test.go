package sevenbit

import (
	"strings"
	"testing"
)

// Many programs do not quote a boundary that has a "=" in it.
func TestAMultipartWhoseTypeCannotBeReadIsNotEncodedAsAWhole(t *testing.T) {
	for _, kind := range []string{"multipart/mixed; boundary=--=_b", "multipart/mixed; boundary=\"--=_b\"; boundary=\"--=_b\""} {
		in := crlf("Content-Type: " + kind + "\nContent-Transfer-Encoding: 8bit\n\n----=_b\nContent-Type: text/plain\nContent-Transfer-Encoding: 8bit\n\nä\n----=_b--\n")
		out := convert(t, in)
		if head, _, _ := strings.Cut(out, "\r\n\r\n"); strings.Contains(head, "quoted-printable") || !strings.Contains(out, "\r\n----=_b--\r\n") {
			t.Errorf("%s: a multipart may not be quoted-printable (RFC 2045, 6.4):\n%s", kind, out)
		}
	}
}

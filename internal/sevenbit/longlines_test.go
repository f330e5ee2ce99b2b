package sevenbit

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stsrelay/stsrelay/internal/mailheader"
)

// shortened is a message with its lines shortened, and what was seen of it.
func shortened(t testing.TB, in string) (string, *Survey) {
	t.Helper()
	s, err := Look(strings.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(s.Reader(strings.NewReader(in)))
	if err != nil {
		t.Fatal(err)
	}
	slow, err := io.ReadAll(iotest.OneByteReader(s.Reader(iotest.OneByteReader(strings.NewReader(in)))))
	if err != nil || !bytes.Equal(slow, out) {
		t.Errorf("read slowly it is another: %v", err)
	}
	return string(out), s
}

func longest(s string) (n int) {
	for line := range strings.SplitSeq(s, "\r\n") {
		n = max(n, len(line))
	}
	return n
}

// leafs are the decoded bodies of the leafs of a message.
func leafs(t *testing.T, s string) string {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(s))
	if err != nil {
		t.Fatalf("%v: %.300q", err, s)
	}
	return decoded(t, m.Header, m.Body)
}

func TestLongLines(t *testing.T) {
	long := strings.Repeat("<td>a = b</td>", 400)
	utf := strings.Repeat("日本語", 700)
	lines := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("0123456789"), 3000))
	for _, tt := range []struct {
		name, in string
		lines    int
		want     string // somewhere in the message
	}{
		{"nothing to do", "Subject: x\n\nbody\n", 0, "Subject: x\r\n\r\nbody\r\n"},
		{"998 octets", "Subject: x\n\n" + strings.Repeat("x", 998) + "\n", 0, strings.Repeat("x", 998)},
		{"999 octets", "Subject: x\n\n" + strings.Repeat("x", 999) + "\n", 1, "quoted-printable\r\nMIME-Version: 1.0\r\n\r\n"},
		{"HTML", "MIME-Version: 1.0\nContent-Type: text/html; charset=utf-8\n\nshort -- =\n" + long + "\n.\nlast \n", 1, "Content-Transfer-Encoding: quoted-printable\r\n\r\nshort -- =3D\r\n"},
		{"8-bit text", "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\nX-A: b\n\n" + utf + "\n" + utf, 2, "Content-Transfer-Encoding: base64\r\nX-A: b\r\n\r\n"},
		{"some 8-bit", "MIME-Version: 1.0\nContent-Transfer-Encoding: 8bit\n\n" + long + "ä\n", 1, "quoted-printable"},
		{"base64 on one line", "MIME-Version: 1.0\nContent-Transfer-Encoding: base64\n\n" + lines + "\n", 1, ""},
		{"quoted-printable", "MIME-Version: 1.0\nContent-Transfer-Encoding: quoted-printable\n\n" + strings.Repeat("=3D-x", 400) + "=\n-y\n", 1, ""},
		{"a header", "MIME-Version: 1.0\nTo: " + strings.Repeat("\"N, N\" <a@b.example>, ", 100) + "c@d.example\nContent-Type: text/plain\n\nbody\n", 1, "\r\n\r\nbody\r\n"},
		{"one part of some", `MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=b

preamble
--b
Content-Type: text/plain

short -- as it is
--b
Content-Type: text/html
Content-Description: ` + strings.Repeat("words ", 300) + `

` + long + `
--b
Content-Type: multipart/alternative; boundary=c

--c
Content-Transfer-Encoding: 8bit

` + utf + `

--c--
--b
Content-Type: message/rfc822

Subject: within

` + long + `
--b
Content-Transfer-Encoding: base64

` + lines + `
--b--
epilogue
`, 5, "\r\n--b\r\nContent-Type: text/plain\r\n\r\nshort -- as it is\r\n--b\r\n"},
		{"outside of parts", "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("pre--b ", 300) + "\n--b\n\nx\n--b--\n" + strings.Repeat("-", 1000) + "\n" + strings.Repeat("x--b", 300) + "\n", 3, "\r\n--b\r\n\r\nx\r\n--b--\r\n"},
		{"a digest", "MIME-Version: 1.0\nContent-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: in a digest\n\n" + long + "\n--b--\n", 1, "--b\r\n\r\nSubject: in a digest\r\nContent-Transfer-Encoding: quoted-printable\r\nMIME-Version: 1.0\r\n"},
		{"around what is signed", "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\n" + long + "\n--b\nContent-Type: multipart/signed; boundary=c\n\n--c\n\nsigned\n--c--\n--b\n\n" + long + "\n--b--\n", 2, "--c\r\n\r\nsigned\r\n--c--\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := crlf(tt.in)
			out, s := shortened(t, in)
			if s.Lines != tt.lines || s.Kept != 0 || s.Why != "" {
				t.Errorf("%d lines, %d kept for %q; want %d", s.Lines, s.Kept, s.Why, tt.lines)
			}
			if n := longest(out); n > mailheader.MaxLine && tt.name != "outside of parts" {
				t.Errorf("a line of %d octets", n)
			}
			if !strings.Contains(out, tt.want) {
				t.Errorf("%q is not in\n%.2000s", tt.want, out)
			}
			if tt.lines == 0 && out != in {
				t.Errorf("changed: %.300q", out)
			}
			if was, is := leafs(t, in), leafs(t, out); was != is && tt.name != "a digest" {
				t.Errorf("what a reader sees is another:\n%.500q\n%.500q", was, is)
			}
			if again, s := shortened(t, out); s.Lines > 0 && tt.name != "outside of parts" || again != out {
				t.Errorf("once more: %d lines", s.Lines)
			}
		})
	}
}

func TestWhatIsSignedKeepsItsLongLines(t *testing.T) {
	long := strings.Repeat("x", 2000)
	for _, tt := range []struct {
		name, in, why string
	}{
		{"DKIM", "DKIM-Signature: v=1\nSubject: " + strings.Repeat("word ", 300) + "\n\n" + long + "\n", "DKIM-Signature"},
		{"DKIM, a part", "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\ndkim-signature: v=1\n\n--b\n\n" + long + "\n--b--\n" + long + "\n", "DKIM-Signature"},
		{"ARC", "ARC-Message-Signature: i=1\n\n" + long + "\n", "ARC-Message-Signature"},
		{"S/MIME and PGP/MIME", "MIME-Version: 1.0\nContent-Type: multipart/signed; boundary=b; protocol=\"application/pgp-signature\"\n\n--b\nSubject: " + strings.Repeat("word ", 300) + "\n\n" + long + "\n--b\n\nsig\n--b--\n", "multipart/signed"},
		{"parts of a signed part", "MIME-Version: 1.0\nContent-Type: multipart/signed; boundary=b\n\n--b\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\n" + long + "\n--c--\n--b\n\nsig\n--b--\n", "multipart/signed"},
		{"PGP", "MIME-Version: 1.0\n\n-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n" + long + "\n-----BEGIN PGP SIGNATURE-----\n", "PGP signature"},
		{"a signed message within", "MIME-Version: 1.0\nContent-Type: message/rfc822\n\nDKIM-Signature: v=1\n\n" + long + "\n", "DKIM-Signature"},
		{"an unknown encoding", "MIME-Version: 1.0\nContent-Transfer-Encoding: x-own\n\n" + long + "\n", "an unknown Content-Transfer-Encoding"},
		{"a report", "MIME-Version: 1.0\nContent-Type: message/partial\n\n" + long + "\n", "a part that may have no other encoding"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, s := shortened(t, crlf(tt.in))
			if s.Lines == 0 || s.Kept != s.Lines || s.Why != tt.why || out != crlf(tt.in) {
				t.Errorf("%d lines, %d kept for %q; changed %t", s.Lines, s.Kept, s.Why, out != crlf(tt.in))
			}
		})
	}
}

// Binary content by base64 comes out octet for octet, whether or not a boundary
// follows, and wherever the fragments end.
func TestBase64KeepsEveryLineEnd(t *testing.T) {
	for n := fragment - 4; n <= fragment+4; n++ {
		for _, tail := range []string{"", "\r\n", "\r\n\r\n", "\r\nx"} {
			text := strings.Repeat("\x01", n) + tail
			out, _ := shortened(t, "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n"+text+"\r\n--b--\r\n")
			_, out, _ = strings.Cut(out, "base64\r\n\r\n")
			out, _, _ = strings.Cut(out, "\r\n--b--")
			if got, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(out, "\r\n", "")); string(got) != text || err != nil {
				t.Errorf("%d octets and %q: %v, it ends in %q", n, tail, err, got[max(len(got)-10, 0):])
			}
			out, _ = shortened(t, "MIME-Version: 1.0\r\n\r\n"+text+"\r\n")
			_, out, _ = strings.Cut(out, "MIME-Version: 1.0\r\n")
			if _, body, ok := strings.Cut(out, "\r\n\r\n"); ok {
				if got, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(body, "\r\n", "")); string(got) != text+"\r\n" || err != nil {
					t.Errorf("%d octets and %q at the end: %v, it ends in %q", n, tail, err, got[max(len(got)-10, 0):])
				}
			}
		}
	}
}

func FuzzLongLines(f *testing.F) {
	f.Add("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Transfer-Encoding: base64\n\nL=\n--b--\nL\n", 1000)
	f.Add("Content-Transfer-Encoding: quoted-printable\nTo: L, L\n\n=L=3D-\n", 333)
	f.Fuzz(func(t *testing.T, in string, n int) {
		in = strings.ReplaceAll(strings.ReplaceAll(in, "\r", ""), "\x00", "")
		in = crlf(strings.ReplaceAll(in, "L", strings.Repeat("L", max(0, min(n, 3000)))))
		out, s := shortened(t, in)
		if s.Kept > s.Lines || s.Kept > 0 != (s.Why != "") {
			t.Errorf("%+v", s)
		}
		if s.Lines == 0 && longest(in) <= mailheader.MaxLine && out != in {
			t.Errorf("nothing was to be done:\n%q\n%q", in, out)
		}
		m, err := mail.ReadMessage(strings.NewReader(in))
		if err != nil || len(m.Header["Content-Type"]) > 0 || len(m.Header["Content-Transfer-Encoding"]) > 0 || s.Kept > 0 {
			return
		}
		was, _ := io.ReadAll(m.Body)
		after, err := mail.ReadMessage(strings.NewReader(out))
		if err != nil {
			return // a header that net/mail reads in another way
		}
		body := after.Body
		switch after.Header.Get("Content-Transfer-Encoding") {
		case "quoted-printable":
			body = quotedprintable.NewReader(body)
		case "base64":
			body = base64.NewDecoder(base64.StdEncoding, body)
		}
		if is, err := io.ReadAll(body); err != nil || !bytes.Equal(is, was) {
			t.Errorf("%v\nwas %q\nis  %q", err, was, is)
		}
	})
}

package sevenbit

import (
	"bytes"
	"encoding/base64"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"testing"
	"testing/iotest"
)

func convert(t testing.TB, in string) string {
	t.Helper()
	out, err := io.ReadAll(NewReader(strings.NewReader(in)))
	if err != nil {
		t.Fatal(err)
	}
	slow, err := io.ReadAll(iotest.OneByteReader(NewReader(iotest.OneByteReader(strings.NewReader(in)))))
	if err != nil || !bytes.Equal(slow, out) {
		t.Errorf("read slowly it is another: %v\n%q\n%q", err, slow, out)
	}
	return string(out)
}

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

func TestPartsThatAre8BitBecomeQuotedPrintable(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"plain", "Subject: x\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\nX-After: y\n\nGrüße = \nend",
			"Subject: x\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\nX-After: y\n\nGr=C3=BC=C3=9Fe =3D=20\nend"},
		{"binary, folded, odd case", "content-transfer-encoding:\n BINARY\n\n\tä\t\n", "Content-Transfer-Encoding: quoted-printable\n\n\t=C3=A4=09\n"},
		{"without saying so", "Subject: x\n\nGrüße\n", "Subject: x\n\nGrüße\n"},
		{"7bit", "Content-Transfer-Encoding: 7bit\n\nGrüße = \n", "Content-Transfer-Encoding: 7bit\n\nGrüße = \n"},
		{"base64", "Content-Transfer-Encoding: base64\n\nR3LDvMOfZQ==\n", "Content-Transfer-Encoding: base64\n\nR3LDvMOfZQ==\n"},
		{"multipart", `MIME-Version: 1.0
Content-Type: multipart/mixed;
 boundary="a b"
Content-Transfer-Encoding: 8bit

preamble ä
--a b
Content-Transfer-Encoding: 8bit

ä=
--a b 
Content-Type: application/octet-stream
Content-Transfer-Encoding: base64

w6Q=
--a b
Content-Type: message/rfc822
Content-Transfer-Encoding: 8bit

Subject: within
Content-Type: multipart/alternative; boundary=c
Content-Transfer-Encoding: 8bit

--c
Content-Transfer-Encoding: 8bit

ö
--cc
--c
Content-Type: text/html

<p>
--a b--
epilogue ä
--a b
`, `MIME-Version: 1.0
Content-Type: multipart/mixed;
 boundary="a b"
Content-Transfer-Encoding: 7bit

preamble ä
--a b
Content-Transfer-Encoding: quoted-printable

=C3=A4=3D
--a b 
Content-Type: application/octet-stream
Content-Transfer-Encoding: base64

w6Q=
--a b
Content-Type: message/rfc822
Content-Transfer-Encoding: 7bit

Subject: within
Content-Type: multipart/alternative; boundary=c
Content-Transfer-Encoding: 7bit

--c
Content-Transfer-Encoding: quoted-printable

=C3=B6
--cc
--c
Content-Type: text/html

<p>
--a b--
epilogue ä
--a b
`},
		{"a part without a body", "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Transfer-Encoding: 8bit\n--b--\n",
			"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Transfer-Encoding: 8bit\n--b--\n"},
		{"no end of the header", "Content-Transfer-Encoding: 8bit\n", "Content-Transfer-Encoding: 8bit\n"},
		{"a report", "Content-Type: message/delivery-status\nContent-Transfer-Encoding: 8bit\n\nStatus: ä\n", "Content-Type: message/delivery-status\nContent-Transfer-Encoding: 8bit\n\nStatus: ä\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := convert(t, crlf(tt.in)); got != crlf(tt.want) {
				t.Errorf("got\n%s", got)
			}
		})
	}
}

func TestLinesOfAnyLengthAreBroken(t *testing.T) {
	text := strings.Repeat(strings.Repeat("ä x", 3000)+" \r\n", 3)
	out := convert(t, "Content-Transfer-Encoding: 8bit\r\n\r\n"+text)
	_, body, _ := strings.Cut(out, "\r\n\r\n")
	for line := range strings.SplitSeq(body, "\r\n") {
		if len(line) > lineLimit {
			t.Fatalf("a line has %d octets: %q", len(line), line)
		}
	}
	got, err := io.ReadAll(quotedprintable.NewReader(strings.NewReader(body)))
	if err != nil || string(got) != text {
		t.Errorf("it decodes to something else (%v, %d octets of %d)", err, len(got), len(text))
	}
}

func TestAnErrorOfTheMessageIsPassedOn(t *testing.T) {
	_, err := io.ReadAll(NewReader(io.MultiReader(strings.NewReader("a: b\r\n"), iotest.ErrReader(io.ErrClosedPipe))))
	if err != io.ErrClosedPipe { //nolint:errorlint // exactly that one
		t.Errorf("error %v", err)
	}
}

func TestNeeded(t *testing.T) {
	for text, want := range map[string]bool{"": false, "ascii\r\n": false, strings.Repeat("x", 1<<16) + "ä": true, "\x80": true} {
		if got, err := Needed(strings.NewReader(text)); got != want || err != nil {
			t.Errorf("%.10q: %v, %v", text, got, err)
		}
	}
}

// decoded is what a reader of MIME makes of a message: the types of its leaves
// and their decoded bodies.
func decoded(t *testing.T, header map[string][]string, body io.Reader) string {
	get := func(name string) string {
		if v := header[name]; len(v) > 0 {
			return v[0]
		}
		return ""
	}
	kind, params, err := mime.ParseMediaType(get("Content-Type"))
	if err == nil && strings.HasPrefix(kind, "multipart/") && params["boundary"] != "" {
		r := multipart.NewReader(body, params["boundary"])
		out := "("
		for {
			p, err := r.NextRawPart()
			if err != nil {
				return out + ")"
			}
			out += decoded(t, p.Header, p)
		}
	}
	if kind == "message/rfc822" {
		m, err := mail.ReadMessage(body)
		if err != nil {
			t.Fatal(err)
		}
		return "<" + decoded(t, m.Header, m.Body) + ">"
	}
	switch strings.ToLower(get("Content-Transfer-Encoding")) {
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	}
	text, _ := io.ReadAll(body)
	return "[" + kind + " " + strings.ReplaceAll(string(text), "\r\n", "\n") + "]"
}

// Whatever comes in: what a reader of MIME sees stays the same, parts that said
// that they were 8-bit have no 8-bit octet left, and what has none passes
// untouched but for the header.
func FuzzReader(f *testing.F) {
	f.Add("Content-Transfer-Encoding: 8bit\r\n\r\nä \r\n=\r\n")
	f.Add("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Transfer-Encoding: 8bit\r\n\r\nä\r\n--b--\r\n")
	f.Fuzz(func(t *testing.T, in string) {
		in = crlf(strings.ReplaceAll(strings.ReplaceAll(in, "\r", ""), "\x00", ""))
		out := convert(t, in)
		if !strings.Contains(strings.ToLower(in), "content-transfer-encoding") && out != in {
			t.Errorf("nothing was to be converted:\n%q\n%q", in, out)
		}
		before, err := mail.ReadMessage(strings.NewReader(in))
		if err != nil || len(before.Header["Content-Transfer-Encoding"]) > 1 {
			return
		}
		encoding := strings.ToLower(strings.TrimSpace(before.Header.Get("Content-Transfer-Encoding")))
		if encoding != "8bit" && encoding != "binary" || len(before.Header["Content-Type"]) > 0 {
			return
		}
		after, err := mail.ReadMessage(strings.NewReader(out))
		if err != nil {
			t.Fatalf("the converted message cannot be read: %v\n%q", err, out)
		}
		was, _ := io.ReadAll(before.Body)
		quoted, _ := io.ReadAll(after.Body)
		if needed, _ := Needed(bytes.NewReader(quoted)); needed {
			t.Errorf("8-bit octets are left: %q", quoted)
		}
		is, err := io.ReadAll(quotedprintable.NewReader(bytes.NewReader(quoted)))
		if err != nil || !bytes.Equal(was, is) {
			t.Errorf("%v\nwas %q\nis  %q", err, was, is)
		}
	})
}

func TestAReaderOfMIMESeesTheSame(t *testing.T) {
	in := crlf("Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: multipart/alternative; boundary=i\nContent-Transfer-Encoding: 8bit\n\n--i\nContent-Type: text/plain\nContent-Transfer-Encoding: 8bit\n\nzwölf = 12 \n\n--i\nContent-Type: text/html\nContent-Transfer-Encoding: 8bit\n\n<b>zwölf</b>\n--i--\n--o\nContent-Type: text/x-log\nContent-Transfer-Encoding: binary\n\nfünf\n--o--\n")
	read := func(s string) string {
		m, err := mail.ReadMessage(strings.NewReader(s))
		if err != nil {
			t.Fatal(err)
		}
		return decoded(t, m.Header, m.Body)
	}
	out := convert(t, in)
	if needed, _ := Needed(strings.NewReader(out)); needed {
		t.Errorf("8-bit octets are left:\n%s", out)
	}
	if was, is := read(in), read(out); was != is {
		t.Errorf("was %s\nis  %s", was, is)
	}
}

package compose

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
	"time"
)

var date = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func TestAMessageOfOnePart(t *testing.T) {
	m := Message{
		From: "Mail relay <MAILER-DAEMON@relay.example>", To: "op@example.com", Subject: "relay: all is well", Date: date, ID: "1@relay.example", AutoSubmitted: "auto-generated",
		Parts: []Part{{Type: Text, Encoding: QuotedPrintable, Content: []byte("grün = gut\r\n.\r\n")}},
	}
	want := strings.ReplaceAll(`From: Mail relay <MAILER-DAEMON@relay.example>
To: <op@example.com>
Subject: relay: all is well
Date: Mon, 01 Jun 2026 12:00:00 +0000
Message-ID: <1@relay.example>
Auto-Submitted: auto-generated
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

gr=C3=BCn =3D gut
.
`, "\n", "\r\n")
	if got := string(m.Bytes()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestAMessageOfSeveralParts(t *testing.T) {
	binary := bytes.Repeat([]byte{0, 255, '\n'}, 100)
	m := Message{
		From: "<a@example.com>", To: "b@example.org", Subject: "one\ntwo", Date: date, ID: "1@x", Fields: []Field{{"TLS-Required", "No"}}, AutoSubmitted: "auto-generated",
		Type: "multipart/report; report-type=tlsrpt", Boundary: "=_1",
		Parts: []Part{
			{Type: Text, Encoding: QuotedPrintable, Content: []byte("ä\r\n")},
			{Type: "message/delivery-status", Content: []byte("Reporting-MTA: dns; x\r\n")},
			{Type: "message/global", Encoding: EightBit, Content: []byte("Subject: ä\r\n")},
			{Type: "application/gzip", Encoding: Base64, Disposition: "attachment;\r\n filename=\"x.gz\"", Content: binary},
		},
	}
	data := m.Bytes()
	for line := range strings.Lines(string(data)) {
		if !strings.HasSuffix(line, "\r\n") || len(line) > 80 {
			t.Errorf("line %q", line)
		}
	}
	msg, err := mail.ReadMessage(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if msg.Header.Get("Subject") != "one two" || msg.Header.Get("TLS-Required") != "No" || len(msg.Header) != 9 {
		t.Errorf("%v", msg.Header)
	}
	_, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	if err != nil || params["report-type"] != "tlsrpt" {
		t.Fatal(params, err)
	}
	r := multipart.NewReader(msg.Body, params["boundary"])
	for i, want := range m.Parts {
		p, err := r.NextRawPart()
		if err != nil {
			t.Fatal(i, err)
		}
		if p.Header.Get("Content-Type") != want.Type || p.Header.Get("Content-Transfer-Encoding") != string(want.Encoding) || (p.FileName() == "x.gz") != (want.Disposition != "") {
			t.Errorf("part %d: %v", i, p.Header)
		}
		var content io.Reader = p
		switch want.Encoding {
		case QuotedPrintable:
			content = quotedprintable.NewReader(p)
		case Base64:
			content = base64.NewDecoder(base64.StdEncoding, p)
		}
		if got, err := io.ReadAll(content); err != nil || !bytes.Equal(got, want.Content) {
			t.Errorf("part %d: %q, %v", i, got, err)
		}
	}
	if _, err := r.NextRawPart(); err != io.EOF { //nolint:errorlint // as documented
		t.Error(err)
	}
}

// A subject may be quoted from strangers: it is one field, whatever is in it.
func TestSubjects(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                          "plain",
		"":                               "",
		"ä\r\nBcc: x@example.com":        "=?utf-8?q?=C3=A4=0D?=\r\n Bcc: x@example.com",
		"a\n\n \r\nb":                    "a\r\n b",
		"a\x00b":                         "=?utf-8?q?a=00b?=",
		strings.Repeat("ä", 30):          "=?utf-8?q?" + strings.Repeat("=C3=A4", 10) + "?=\r\n =?utf-8?q?" + strings.Repeat("=C3=A4", 10) + "?=\r\n =?utf-8?q?" + strings.Repeat("=C3=A4", 10) + "?=",
		"Report Domain: a\nSubmitter: b": "Report Domain: a\r\n Submitter: b",
	} {
		if got := subject(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
		m := Message{From: "<a@example.com>", To: "b@example.org", Subject: in, Date: date, ID: "1@x", AutoSubmitted: "auto-replied", Parts: []Part{{Type: Text}}}
		if msg, err := mail.ReadMessage(bytes.NewReader(m.Bytes())); err != nil || len(msg.Header) != 8 {
			t.Errorf("%q: %v, %v", in, msg, err)
		}
	}
}

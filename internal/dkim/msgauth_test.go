package dkim

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"github.com/stsrelay/stsrelay/internal/mailheader"
)

// byGoMsgauth is the signature that go-msgauth makes of a message, of the fields that h= has in
// the signature of this package.
func byGoMsgauth(t *testing.T, k *Key, message, signature string) string {
	t.Helper()
	_, names, _ := strings.Cut(signature, " h=")
	names, _, _ = strings.Cut(names, ";")
	s, err := dkim.NewSigner(&dkim.SignOptions{
		Domain: k.Domain, Selector: k.Selector, Signer: k.Signer, HeaderKeys: strings.Split(names, ":"),
		HeaderCanonicalization: dkim.CanonicalizationRelaxed, BodyCanonicalization: dkim.CanonicalizationRelaxed,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(s, message); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return s.Signature()
}

// sameAsGoMsgauth compares the signatures of the two, at the same time, octet for octet.
// Here the message comes in three pieces.
func sameAsGoMsgauth(t *testing.T, k *Key, message string, cut1, cut2 int) {
	t.Helper()
	cut2 = min(cut2, len(message))
	cut1 = min(cut1, cut2)
	synctest.Test(t, func(t *testing.T) { // for its clock
		fields, err := NewSigner(time.Now, k).Sign(k.Domain, func(w io.Writer) error {
			for _, piece := range []string{message[:cut1], message[cut1:cut2], message[cut2:]} {
				io.WriteString(w, piece)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if want := byGoMsgauth(t, k, message, string(fields)); string(fields) != want {
			t.Errorf("%q:\n%s\nand go-msgauth:\n%s", message, fields, want)
		}
	})
}

func TestTheSignatureIsThatOfGoMsgauth(t *testing.T) {
	for _, k := range []*Key{
		newKey(t, RSA, "example.com", "r1"), newKey(t, Ed25519, "example.com", "e1"),
		newKey(t, RSA, strings.Repeat("long.", 15)+"example.com", "r1"), newKey(t, Ed25519, "example.com", strings.Repeat("e", 60)),
	} {
		for name, m := range messages {
			t.Run(name, func(t *testing.T) { sameAsGoMsgauth(t, k, m, 20, 60) })
		}
	}
}

// regular reports whether a header consists of fields whose lines end in CRLF. The relay signs
// no other, and go-msgauth reads others in its own way.
func regular(header []byte) bool {
	for field := range mailheader.Fields(header) {
		if mailheader.Name(field) == "" || !bytes.HasSuffix(field, []byte("\r\n")) || bytes.Count(field, []byte("\n")) != bytes.Count(field, []byte("\r\n")) {
			return false
		}
	}
	return len(header) > 0
}

func FuzzTheSignatureIsThatOfGoMsgauth(f *testing.F) {
	for _, m := range messages {
		header, body, _ := strings.Cut(m, "\r\n\r\n")
		f.Add([]byte(header+"\r\n"), []byte(body), uint16(10), uint16(50))
	}
	f.Add([]byte("a:\r\n"), []byte("a\nb \r c\r\n\r\n \r\rd \t e\r"), uint16(9), uint16(11))
	f.Add([]byte("From :\r\n\t\r\n a \xff\r b\r\nSUBJECT:x\r\nfrom: y\r\n"), []byte("\n\r\n\r"), uint16(3), uint16(7))
	data, err := Generate(Ed25519)
	if err != nil {
		f.Fatal(err)
	}
	signer, err := Parse(data)
	if err != nil {
		f.Fatal(err)
	}
	k := &Key{Domain: "example.com", Selector: "e1", Signer: signer}
	f.Fuzz(func(t *testing.T, header, body []byte, cut1, cut2 uint16) {
		if !regular(header) {
			t.Skip()
		}
		message := string(header) + "\r\n" + string(body)
		sameAsGoMsgauth(t, k, message, int(cut1), int(cut2))
	})
}

package relay_test

import (
	"bytes"
	"strings"
	"testing"

	godkim "github.com/emersion/go-msgauth/dkim"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// A host that does not offer 8BITMIME is given no 8-bit content, and what has
// none is not touched (RFC 6152, 3).
func TestAHostWithout8BITMIMEGets7BitContent(t *testing.T) {
	w := newWorld(t, "")
	old, modern := w.host("mx.old.example"), w.host("mx.modern.example")
	w.set(old, testnet.Faults{Without: []string{"8BITMIME", "SMTPUTF8"}})
	w.domain("old.example", testnet.Domain{MX: []string{old.Name}})
	w.domain("modern.example", testnet.Domain{MX: []string{modern.Name}})
	const header = "Subject: x\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
	for n, tt := range []struct{ body, encoding, want string }{
		{"Grüße\r\n", "quoted-printable", "Gr=C3=BC=C3=9Fe\r\n"},
		{"ascii = \r\n", "8bit", "ascii = \r\n"},
	} {
		if _, err := sendMail(w.addr, "anna@sender.example", header+tt.body, "kurt@old.example", "eva@modern.example"); err != nil {
			t.Fatal(err)
		}
		for h, want := range map[*testnet.Host][2]string{old: {tt.encoding, tt.want}, modern: {"8bit", tt.body}} {
			got := w.wait(h, n+1)[n]
			if text := string(got.Data); !strings.Contains(text, "Content-Transfer-Encoding: "+want[0]+"\r\n") || !strings.HasSuffix(text, "\r\n\r\n"+want[1]) {
				t.Errorf("%s was given\n%s", h.Name, text)
			}
			if h == old && strings.Contains(got.Params, "BODY=") {
				t.Errorf("MAIL has %q", got.Params)
			}
		}
	}
}

// The relay's signature is of what the host gets, in whichever encoding.
func TestASignatureHoldsIn7BitContent(t *testing.T) {
	w, keys := signedWorld(t)
	old, modern := w.host("mx.old.example"), w.host("mx.modern.example")
	w.set(old, testnet.Faults{Without: []string{"8BITMIME", "SMTPUTF8"}})
	w.domain("old.example", testnet.Domain{MX: []string{old.Name}})
	w.domain("modern.example", testnet.Domain{MX: []string{modern.Name}})
	const message = "From: anna@sender.example\r\nSubject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße\r\n"
	if _, err := sendMail(w.addr, "anna@sender.example", message, "kurt@old.example", "eva@modern.example"); err != nil {
		t.Fatal(err)
	}
	for _, h := range []*testnet.Host{old, modern} {
		data := w.wait(h, 1)[0].Data
		verdicts, err := godkim.VerifyWithOptions(bytes.NewReader(data), &godkim.VerifyOptions{LookupTXT: func(name string) ([]string, error) { return []string{keys[name]}, nil }})
		if err != nil || len(verdicts) != 2 {
			t.Fatalf("%s: %d signatures, %v\n%s", h.Name, len(verdicts), err, data)
		}
		for _, v := range verdicts {
			if v.Err != nil {
				t.Errorf("%s: %v\n%s", h.Name, v.Err, data)
			}
		}
	}
}

package relay_test

import (
	"io"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
)

// A host that takes no line over 998 octets, as Exim's do, gets a message that has
// some; what is signed goes as it is.
func TestAMessageWithLongLinesArrives(t *testing.T) {
	w := e2e.New(t, "")
	strict, lenient := w.Host("mx.strict.example"), w.Host("mx.lenient.example")
	w.SetFaults(lenient, testnet.Faults{LongLines: true})
	w.Domain("strict.example", testnet.Domain{MX: []string{strict.Name}})
	w.Domain("lenient.example", testnet.Domain{MX: []string{lenient.Name}})
	text := "<p>\r\n" + strings.Repeat("<td>cell = value</td>", 250) + "\r\n.\r\n</p>\r\n"
	content := "To: " + strings.Repeat("\"Last, First\" <kurt@strict.example>, ", 50) + "eva@strict.example\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + text
	if _, err := e2e.SendMail(w.Addr, "anna@sender.example", content, "kurt@strict.example"); err != nil {
		t.Fatal(err)
	}
	m, err := mail.ReadMessage(strings.NewReader(string(w.Received(strict, 1)[0].Data)))
	if err != nil {
		t.Fatal(err)
	}
	to, err := m.Header.AddressList("To")
	if err != nil || len(to) != 51 {
		t.Errorf("%d addresses in To, %v", len(to), err)
	}
	if got, err := io.ReadAll(quotedprintable.NewReader(m.Body)); err != nil || string(got) != text {
		t.Errorf("%v: %.300q", err, got)
	}
	content += strings.Repeat("x", 3<<20) + "\r\n" // longer than any buffer
	if _, err := e2e.SendMail(w.Addr, "anna@sender.example", "DKIM-Signature: v=1; d=sender.example\r\n"+content, "eva@lenient.example"); err != nil {
		t.Fatal(err)
	}
	if got := string(w.Received(lenient, 1)[0].Data); !strings.HasSuffix(got, "DKIM-Signature: v=1; d=sender.example\r\n"+content) {
		t.Errorf("what is signed was changed: %.600q", got)
	}
}

// A host that does not offer 8BITMIME is given no 8-bit content, and what has
// none is not touched (RFC 6152, 3).
func TestAHostWithout8BITMIMEGets7BitContent(t *testing.T) {
	w := e2e.New(t, "")
	old, modern := w.Host("mx.old.example"), w.Host("mx.modern.example")
	w.SetFaults(old, testnet.Faults{Without: []string{"8BITMIME", "SMTPUTF8"}})
	w.Domain("old.example", testnet.Domain{MX: []string{old.Name}})
	w.Domain("modern.example", testnet.Domain{MX: []string{modern.Name}})
	const header = "Subject: x\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
	for n, tt := range []struct{ body, encoding, want string }{
		{"Grüße\r\n", "quoted-printable", "Gr=C3=BC=C3=9Fe\r\n"},
		{"ascii = \r\n", "8bit", "ascii = \r\n"},
	} {
		if _, err := e2e.SendMail(w.Addr, "anna@sender.example", header+tt.body, "kurt@old.example", "eva@modern.example"); err != nil {
			t.Fatal(err)
		}
		for h, want := range map[*testnet.Host][2]string{old: {tt.encoding, tt.want}, modern: {"8bit", tt.body}} {
			got := w.Received(h, n+1)[n]
			if text := string(got.Data); !strings.Contains(text, "Content-Transfer-Encoding: "+want[0]+"\r\n") || !strings.HasSuffix(text, "\r\n\r\n"+want[1]) {
				t.Errorf("%s was given\n%s", h.Name, text)
			}
			if h == old && strings.Contains(got.Params, "BODY=") {
				t.Errorf("MAIL has %q", got.Params)
			}
		}
	}
}

package relay_test

import (
	"io"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// A host that takes no line over 998 octets, as Exim's do, gets a message that has
// some; what is signed goes as it is.
func TestAMessageWithLongLinesArrives(t *testing.T) {
	w := newWorld(t, "")
	strict, lenient := w.host("mx.strict.example"), w.host("mx.lenient.example")
	w.set(lenient, testnet.Faults{LongLines: true})
	w.domain("strict.example", testnet.Domain{MX: []string{strict.Name}})
	w.domain("lenient.example", testnet.Domain{MX: []string{lenient.Name}})
	text := "<p>\r\n" + strings.Repeat("<td>cell = value</td>", 250) + "\r\n.\r\n</p>\r\n"
	content := "To: " + strings.Repeat("\"Last, First\" <kurt@strict.example>, ", 50) + "eva@strict.example\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + text
	if _, err := sendMail(w.addr, "anna@sender.example", content, "kurt@strict.example"); err != nil {
		t.Fatal(err)
	}
	m, err := mail.ReadMessage(strings.NewReader(string(w.wait(strict, 1)[0].Data)))
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
	if _, err := sendMail(w.addr, "anna@sender.example", "DKIM-Signature: v=1; d=sender.example\r\n"+content, "eva@lenient.example"); err != nil {
		t.Fatal(err)
	}
	if got := string(w.wait(lenient, 1)[0].Data); !strings.HasSuffix(got, "DKIM-Signature: v=1; d=sender.example\r\n"+content) {
		t.Errorf("what is signed was changed: %.600q", got)
	}
}

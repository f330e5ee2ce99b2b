package relay_test

import (
	"bytes"
	"strings"
	"testing"

	godkim "github.com/emersion/go-msgauth/dkim"

	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
)

// What is signed is the message with its new addresses, by their domain, and the journal
// gets the same octets.
func TestRewrittenMailIsSignedAndJournaled(t *testing.T) {
	w, keys := signedWorld(t)
	w.Edit("[[dkim]]", "[journal]\naddress = \"archive@journal.example\"\n[notices]\noperator = \"ops@sender.example\"\n[[rewrite]]\nfrom = \"host.localdomain\"\nto = \"sender.example\"\n[[dkim]]")
	if restart := w.Reload(); len(restart) > 0 {
		t.Fatalf("%v need a restart", restart)
	}
	mx, journal := w.Host("mx.a.example"), w.Host("mx.journal.example")
	w.Domain("a.example", testnet.Domain{MX: []string{mx.Name}})
	w.Domain("journal.example", testnet.Domain{MX: []string{journal.Name}})
	big := strings.Repeat(strings.Repeat("y", 70)+"\r\n", 10_000) // several chunks
	if _, err := e2e.SendMail(w.Addr, "root@host.localdomain", "From: root@host.localdomain\r\nSubject: x\r\n\r\n"+big, "kurt@a.example", "hidden@a.example"); err != nil {
		t.Fatal(err)
	}
	got, copied := w.Received(mx, 1)[0], w.Received(journal, 1)[0]
	if got.From != "root@sender.example" || copied.From != "ops@sender.example" || copied.To != "archive@journal.example" {
		t.Errorf("from %s; the copy from %s to %s", got.From, copied.From, copied.To)
	}
	added, rest, _ := strings.Cut(string(copied.Data), "DKIM-Signature:")
	if !strings.Contains(added, "X-Envelope-From: <root@sender.example>\r\nX-Envelope-To: <kurt@a.example>,\r\n\t<hidden@a.example>\r\n") {
		t.Errorf("the copy begins with\n%s", added)
	}
	if !strings.HasSuffix(string(got.Data), rest) {
		t.Error("the copy differs from what the recipients got")
	}
	for _, data := range [][]byte{got.Data, copied.Data} {
		verdicts, err := godkim.VerifyWithOptions(bytes.NewReader(data), &godkim.VerifyOptions{LookupTXT: func(name string) ([]string, error) { return []string{keys[name]}, nil }})
		if err != nil || len(verdicts) != 2 {
			t.Fatalf("%d signatures, %v", len(verdicts), err)
		}
		for _, v := range verdicts {
			if v.Err != nil || v.Domain != "sender.example" {
				t.Errorf("%s: %v", v.Domain, v.Err)
			}
		}
	}
}

// What becomes of a copy is told to the operator alone, and nothing about it is copied
// again.
func TestAJournalThatRefusesIsTheOperatorsMatter(t *testing.T) {
	w := e2e.New(t, "[journal]\naddress = \"archive@journal.example\"\n[notices]\noperator = \"ops@own.example\"\n")
	mx, journal, own := w.Host("mx.a.example"), w.Host("mx.journal.example"), w.Host("mx.own.example")
	w.SetFaults(journal, testnet.Faults{Recipients: map[string]string{"archive@journal.example": "550 5.1.1 no such archive"}})
	w.Domain("a.example", testnet.Domain{MX: []string{mx.Name}})
	w.Domain("journal.example", testnet.Domain{MX: []string{journal.Name}})
	w.Domain("own.example", testnet.Domain{MX: []string{own.Name}})
	w.Send("anna@own.example", "kurt@a.example")
	w.Received(mx, 1)
	notice := w.Received(own, 1)[0]
	if notice.To != "ops@own.example" || !strings.Contains(string(notice.Data), "no such archive") {
		t.Errorf("the notice goes to %s:\n%s", notice.To, notice.Data)
	}
	// A bounce from outside that comes back through the relay, and mail to the journal.
	w.Send("", "ops@own.example")
	w.Send("anna@own.example", "archive@journal.example")
	w.Received(own, 3) // and the notice to the sender, who has written to the archive
	w.WaitUntilEmpty()
	if n := len(own.Messages()); n != 3 || len(mx.Messages()) != 1 {
		t.Errorf("%d messages to the operator's domain, %d to the other", n, len(mx.Messages()))
	}
}

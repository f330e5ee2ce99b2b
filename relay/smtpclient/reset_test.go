package smtpclient

import (
	"errors"
	"strings"
	"testing"
)

// A transaction that did not end with accepted content is given up by RSET before
// the next one, and nothing of that one leaves before.
func TestATransactionThatIsNotEndedIsGivenUp(t *testing.T) {
	const (
		mail, rcpt = "<MAIL FROM:<a@example.com>\n", "<RCPT TO:<b@example.org>\n"
		plain      = "220 mx\n<EHLO relay.example.com\n250 mx\n"
		taken      = "354 go\n<x\n<.\n250 taken\n"
	)
	pipelined := strings.Replace(plain, "250 mx", "250-mx\n250 PIPELINING", 1)
	for _, tt := range []struct {
		name, host, refused string
		pipelined           bool
	}{
		{"MAIL", plain, mail + "451 no\n", false},
		{"RCPT", plain, mail + "250 ok\n" + rcpt + "550 no\n", false},
		{"DATA", plain, mail + "250 ok\n" + rcpt + "250 ok\n<DATA\n451 no\n", false},
		{"dot", plain, mail + "250 ok\n" + rcpt + "250 ok\n<DATA\n354 go\n<x\n<.\n554 no\n", false},
		{"MAIL, pipelined", pipelined, mail + rcpt + "<DATA\n550 no\n503 no\n503 no\n", true},
		{"RCPT, pipelined", pipelined, mail + rcpt + "<DATA\n250 ok\n450 no\n503 no\n", true},
		{"RCPT and go ahead, pipelined", pipelined, mail + rcpt + "<DATA\n250 ok\n450 no\n354 go\n<.\n250 taken, for nobody\n", true},
		{"DATA, pipelined", pipelined, mail + rcpt + "<DATA\n250 ok\n250 ok\n554 no\n", true},
		{"dot, pipelined", pipelined, mail + rcpt + "<DATA\n250 ok\n250 ok\n354 go\n<x\n<.\n451 no\n", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			good := mail + "250 ok\n" + rcpt + "250 ok\n<DATA\n" + taken
			reset := "<RSET\n250 ok\n" + good
			if tt.pipelined {
				good = mail + rcpt + "<DATA\n250 ok\n250 ok\n" + taken
				reset = "<RSET\n" + mail + rcpt + "<DATA\n250 ok\n250 ok\n250 ok\n" + taken
			}
			c, done := connect(t, tt.host+tt.refused+reset+good)
			for i := range 3 {
				out, err := c.Send(t.Context(), Transaction{From: "a@example.com", Body: strings.NewReader("x"), Recipients: []Recipient{{Address: "b@example.org"}}})
				if err != nil || !c.Usable() || out.Final.OK() != (i > 0) {
					t.Fatalf("message %d: %+v, %v", i, out, err)
				}
			}
			finish(t, done)
		})
	}
}

func TestARefusedRSETEndsTheSession(t *testing.T) {
	for _, host := range []string{"250 mx", "250-mx\n250 PIPELINING"} {
		for _, reply := range []string{"421 bye", "500 what?", "451 no", "220 hm"} {
			envelope := "<MAIL FROM:<>\n451 no\n"
			if host != "250 mx" {
				envelope = "<MAIL FROM:<>\n<RCPT TO:<b@example.org>\n<DATA\n451 no\n503 no\n503 no\n"
			}
			c, _ := connect(t, "220 mx\n<EHLO relay.example.com\n"+host+"\n"+envelope+"<RSET\n"+reply+"\nhang")
			send := func() (Outcome, error) {
				return c.Send(t.Context(), Transaction{Body: strings.NewReader("x"), Recipients: []Recipient{{Address: "b@example.org"}}})
			}
			if _, err := send(); err != nil {
				t.Fatal(err)
			}
			out, err := send()
			if refused, ok := errors.AsType[*ReplyError](err); !ok || refused.Step != "RSET" || out.Mail.Code != 0 || out.BodySent || c.Usable() {
				t.Errorf("%s: %+v, %v", reply, out, err)
			}
		}
	}
}

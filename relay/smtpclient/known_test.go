package smtpclient

import (
	"errors"
	"strings"
	"testing"
)

// A reply that was read before is out of place where it does not belong, as any other is.
func TestAKnownReplyIsJudgedAtEachStep(t *testing.T) {
	const envelope = "<MAIL FROM:<a@example.com>\n250 ok\n<RCPT TO:<b@example.org>\n250 ok\n<DATA\n"
	c, _ := connect(t, "220 mx\n<EHLO relay.example.com\n250 mx\n"+envelope+"354 go\n<x\n<.\n250 taken\n"+envelope+"250 ok\nhang")
	var told []string
	c.SetTrace(func(sent bool, line string) {
		if !sent {
			told = append(told, line)
		}
	})
	send := func() (Outcome, error) {
		return c.Send(t.Context(), Transaction{From: "a@example.com", Body: strings.NewReader("x"), Recipients: []Recipient{{Address: "b@example.org"}}})
	}
	if _, err := send(); err != nil {
		t.Fatal(err)
	}
	out, err := send()
	if !errors.Is(err, ErrUnexpected) || c.Usable() || out.BodySent || !out.Mail.OK() || out.Data.Code != 0 {
		t.Errorf("%+v, %v", out, err)
	}
	if got, want := strings.Join(told, ", "), "250 ok, 250 ok, 354 go, 250 taken, 250 ok, 250 ok, 250 ok"; got != want {
		t.Errorf("told: %s", got)
	}
}

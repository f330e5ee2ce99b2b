package relay_test

import (
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// A sender who asks for a notice of success (RFC 3461) gets one from this relay
// where the host does not know DSN; else the host has been told to send it.
func TestNoticesOfSuccess(t *testing.T) {
	for _, knows := range []bool{true, false} {
		w := newWorld(t, "")
		h, back := w.host("mx1.success.example"), w.host("mx1.sender.example")
		f := testnet.Faults{}
		if !knows {
			f.Without = []string{"DSN"}
		}
		if err := h.Set(f); err != nil {
			t.Fatal(err)
		}
		w.domain("success.example", testnet.Domain{MX: []string{h.Name}})
		w.domain("sender.example", testnet.Domain{MX: []string{back.Name}})
		if err := w.dialogue([]step{
			{"EHLO client.example", 250}, {"MAIL FROM:<anna@sender.example> RET=HDRS ENVID=order+2B1", 250},
			{"RCPT TO:<kurt@success.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;kurt+2Bx@success.example", 250},
			{"RCPT TO:<other@success.example> NOTIFY=FAILURE", 250}, {"DATA", 354}, {"Subject: order\r\n\r\nHello\r\n.", 250},
		}); err != nil {
			t.Fatal(err)
		}
		got, err := h.Wait(w.context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		if has := strings.Contains(got[0].Params, "ENVID=order+2B1"); has != knows {
			t.Errorf("the host knows DSN: %t; MAIL had %q", knows, got[0].Params)
		}
		if knows {
			if n := back.Counts().Messages; n != 0 {
				t.Errorf("%d notices, and the host sends one", n)
			}
			continue
		}
		notices, err := back.Wait(w.context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		text := string(notices[0].Data)
		for _, want := range []string{"Action: relayed", "Final-Recipient: rfc822; kurt@success.example", "Original-Recipient: RFC822; kurt+x@success.example", "Original-Envelope-Id: order+1"} {
			if !strings.Contains(strings.ReplaceAll(text, ";k", "; k"), want) {
				t.Errorf("no %q in the notice:\n%s", want, text)
			}
		}
		if strings.Contains(text, "other@success.example") {
			t.Error("the notice speaks of a recipient for whom none was asked")
		}
	}
}

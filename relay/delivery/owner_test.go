package delivery

import (
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/relay/reason"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/relay/smtpclient"
)

// reply is a reply in one line: "550 5.1.1 no".
func reply(s string) smtpclient.Reply {
	r := smtpclient.Reply{Code: 100*int(s[0]-'0') + 10*int(s[1]-'0') + int(s[2]-'0')}
	text := strings.TrimSpace(s[3:])
	if first, rest, _ := strings.Cut(text, " "); strings.Count(first, ".") == 2 {
		r.Enhanced, text = first, rest
	}
	r.Lines = []string{text}
	return r
}

func TestWhoseMatterAReplyIs(t *testing.T) {
	fresh, used := situation{tls: security.Established}, situation{used: true, tls: security.Established}
	refused, broken, none := situation{tls: security.Refused}, situation{tls: security.Broken}, situation{}
	for _, tt := range []struct {
		at    step
		reply string
		in    situation
		owner owner
		why   string
		waits bool // whatever the code
	}{
		{stepGreeting, "421 4.7.0 too many", fresh, ofHost, reason.Busy, false},
		{stepGreeting, "554 5.7.1 listed", fresh, ofHost, reason.Greeting, false},
		{stepGreeting, "250 what", fresh, ofHost, reason.Greeting, false},
		{stepEHLO, "451 4.3.0 no", fresh, ofHost, reason.Greeting, false},
		{stepHELO, "550 5.7.1 no", fresh, ofHost, reason.Greeting, false},
		{stepStartTLS, "421 4.3.2 bye", none, ofHost, reason.Busy, false},
		{stepAuth, "454 4.7.0 temporary", fresh, ofHost, reason.Busy, false},
		{stepAuth, "535 5.7.8 wrong", fresh, ofHost, reason.RouteAuth, true},
		{stepReset, "500 what", used, ofSession, "", false},
		{stepReset, "421 bye", used, ofSession, "", false},
		{stepMail, "421 bye", used, ofSession, "", false},
		{stepMail, "503 5.5.1 EHLO first", used, ofSession, "", false},
		{stepMail, "550 5.7.1 no", used, ofSession, "", false},
		{stepMail, "451 4.7.0 reconnect", used, ofSession, "", false},
		{stepMail, "421 bye", fresh, ofHost, reason.Busy, false},
		{stepMail, "503 5.5.1 what", fresh, ofHostAlone, reason.Content, false},
		{stepMail, "550 5.7.1 no", fresh, ofHostAlone, reason.Content, false},
		{stepMail, "530 5.7.0 Must issue a STARTTLS command first", refused, ofHost, reason.TLSNone, true},
		{stepMail, "530 5.7.0 Must issue a STARTTLS command first", broken, ofHost, reason.Handshake, true},
		{stepMail, "530 5.7.0 Must issue a STARTTLS command first", none, ofHost, reason.TLSNone, true},
		{stepMail, "530 no", broken, ofHost, reason.Handshake, true},
		{stepMail, "530 no", none, ofHostAlone, reason.Content, false},
		{stepMail, "530 5.7.0 Authentication required", broken, ofHostAlone, reason.Content, false},
		{stepMail, "530 5.7.0 Must issue a STARTTLS command first", fresh, ofHostAlone, reason.Content, false},
		{stepMail, "552 5.3.4 larger than 1000", fresh, ofHostAlone, reason.Content, false},
		{stepMail, "552 too large", fresh, ofHostAlone, reason.Content, false},
		{stepMail, "550 5.6.7 no SMTPUTF8", fresh, ofHostAlone, reason.Content, false},
		{stepMail, "555 5.5.4 unknown parameter", fresh, ofHostAlone, reason.Content, false},
		{stepMail, "554 no", fresh, ofHostAlone, reason.Content, false},
		{stepMail, "452 4.3.1 disk full", fresh, ofHostAlone, reason.Content, false},
		{stepMail, "451 4.7.1 later", fresh, ofHostAlone, reason.Content, false},
		{stepMail, "550 5.1.8 no such sender domain", fresh, ofTransaction, reason.Content, false},
		{stepMail, "450 4.1.8 no such sender domain", fresh, ofTransaction, reason.Content, false},
		{stepMail, "553 no such sender", fresh, ofTransaction, reason.Content, false},
		{stepMail, "553 5.7.1 not from you", fresh, ofHostAlone, reason.Content, false},
		{stepRcpt, "552 5.3.4 too large", fresh, ofRecipient, reason.Recipient, false},
		{stepRcpt, "550 5.7.1 not from you", fresh, ofRecipient, reason.Recipient, false},
		{stepData, "452 no room", fresh, ofHostAlone, reason.Content, false},
		{stepData, "554 5.6.3 cannot convert", fresh, ofHostAlone, reason.Content, false},
		{stepContent, "452 4.3.1 no room", fresh, ofHostAlone, reason.Content, false},
		{stepContent, "552 5.2.2 mailbox full", fresh, ofTransaction, reason.Content, false},
		{stepContent, "552 too much", fresh, ofTransaction, reason.Content, false},
		{stepContent, "554 5.7.1 spam", fresh, ofTransaction, reason.Content, false},
		{stepContent, "550 5.6.1 no such type", fresh, ofTransaction, reason.Content, false},
		{stepRcpt, "554 5.7.1 Session encryption is required", broken, ofHost, reason.Handshake, true},
		{stepRcpt, "550 5.7.1 your TLS is old", broken, ofRecipient, reason.Recipient, false},
		{stepRcpt, "421 bye", used, ofSession, "", false},
		{stepRcpt, "421 bye", fresh, ofHost, reason.Busy, false},
		{stepRcpt, "503 5.5.1 MAIL first", used, ofSession, "", false},
		{stepRcpt, "503 5.5.1 no", fresh, ofRecipient, reason.Recipient, false},
		{stepRcpt, "550 5.1.1 no such user", used, ofRecipient, reason.Recipient, false},
		{stepRcpt, "450 4.2.0 grey", used, ofRecipient, reason.Recipient, false},
		{stepRcpt, "452 too many", fresh, ofCount, reason.Recipient, true},
		{stepRcpt, "452 4.5.3 Recipients belong to multiple regions", fresh, ofCount, reason.Recipient, true},
		{stepRcpt, "452 4.2.2 mailbox full", fresh, ofRecipient, reason.Recipient, false},
		{stepRcpt, "452 4.1.1 aborted, too many recipients", fresh, ofCount, reason.Recipient, true},
		{stepRcpt, "552 5.5.3 no", fresh, ofCount, reason.Recipient, true},
		{stepRcpt, "552 Too Many Recipients", fresh, ofCount, reason.Recipient, true},
		{stepRcpt, "552 5.2.2 mailbox full", fresh, ofRecipient, reason.Recipient, false},
		{stepRcpt, "550 5.7.1 too many recipients today", fresh, ofRecipient, reason.Recipient, false},
		{stepData, "421 bye", used, ofSession, "", false},
		{stepData, "421 bye", fresh, ofHost, reason.Busy, false},
		{stepData, "503 5.5.1 what", used, ofSession, "", false},
		{stepData, "451 4.7.1 grey", used, ofTransaction, reason.Content, false},
		{stepData, "554 5.7.1 no", fresh, ofTransaction, reason.Content, false},
		{stepContent, "421 bye", used, ofHost, reason.Busy, false},
		{stepContent, "503 what", used, ofTransaction, reason.Content, false},
		{stepContent, "552 5.3.4 too big", fresh, ofHostAlone, reason.Content, false},
	} {
		l := rule(tt.at, reply(tt.reply), tt.in)
		if l.owner != tt.owner || l.why != tt.why || l.waits != tt.waits {
			t.Errorf("%s, %s, %+v: %+v", tt.at, tt.reply, tt.in, l)
		}
	}
}

// Every refusal at every step has a line of the table.
func TestEveryRefusalHasAnOwner(t *testing.T) {
	for _, at := range []step{stepGreeting, stepEHLO, stepHELO, stepAuth, stepReset, stepMail, stepRcpt, stepData, stepContent} {
		for code := 400; code < 600; code++ {
			for _, used := range []bool{false, true} {
				l := rule(at, smtpclient.Reply{Code: code}, situation{used: used})
				if l.steps == nil || l.why == "" && l.owner != ofSession {
					t.Errorf("%s %d, used %t: %+v", at, code, used, l)
				}
			}
		}
	}
}

func TestARefusalThatWaitsIsTemporary(t *testing.T) {
	l := rule(stepRcpt, reply("552 5.5.3 too many"), situation{})
	if f := l.failure("mx", reply("552 5.5.3 too many")); f.permanent || f.status != "4.5.3" || f.reply != "552 5.5.3 too many" {
		t.Errorf("%+v", f)
	}
}

package delivery

import (
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/relay/failure"
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
		why   failure.Reason
		waits bool // whatever the code
	}{
		{stepGreeting, "421 4.7.0 too many", fresh, ofHost, failure.Busy, false},
		{stepGreeting, "554 5.7.1 listed", fresh, ofHost, failure.Greeting, false},
		{stepGreeting, "421 4.7.0 our system has detected an unusual rate of unsolicited mail originating from your IP address", fresh, ofHost, failure.Blocked, false},
		{stepGreeting, "554 5.7.1 192.0.2.1 is listed at zen.spamhaus.org", fresh, ofHost, failure.Blocked, false},
		{stepRcpt, "450 4.7.1 Client host rejected: cannot find your reverse hostname, no PTR record", fresh, ofRecipient, failure.Blocked, false},
		{stepRcpt, "550 5.1.1 this user is on no blacklist, and is not here", fresh, ofRecipient, failure.Recipient, false},
		{stepContent, "550 5.7.1 this message is likely unsolicited mail", fresh, ofTransaction, failure.Content, false},
		{stepContent, "421 4.7.28 unusual rate of mail from your IP address, much of it spam", fresh, ofHost, failure.Blocked, false},
		{stepGreeting, "250 what", fresh, ofHost, failure.Greeting, false},
		{stepEHLO, "451 4.3.0 no", fresh, ofHost, failure.Greeting, false},
		{stepHELO, "550 5.7.1 no", fresh, ofHost, failure.Greeting, false},
		{stepStartTLS, "421 4.3.2 bye", none, ofHost, failure.Busy, false},
		{stepAuth, "454 4.7.0 temporary", fresh, ofHost, failure.Busy, false},
		{stepAuth, "535 5.7.8 wrong", fresh, ofHost, failure.RouteAuth, true},
		{stepReset, "500 what", used, ofSession, 0, false},
		{stepReset, "421 bye", used, ofSession, 0, false},
		{stepMail, "421 bye", used, ofSession, 0, false},
		{stepMail, "503 5.5.1 EHLO first", used, ofSession, 0, false},
		{stepMail, "550 5.7.1 no", used, ofSession, 0, false},
		{stepMail, "451 4.7.0 reconnect", used, ofSession, 0, false},
		{stepMail, "421 bye", fresh, ofHost, failure.Busy, false},
		{stepMail, "503 5.5.1 what", fresh, ofHostAlone, failure.Content, false},
		{stepMail, "550 5.7.1 no", fresh, ofHostAlone, failure.Content, false},
		{stepMail, "530 5.7.0 Must issue a STARTTLS command first", refused, ofHost, failure.TLSNone, true},
		{stepMail, "530 5.7.0 Must issue a STARTTLS command first", broken, ofHost, failure.Handshake, true},
		{stepMail, "530 5.7.0 Must issue a STARTTLS command first", none, ofHost, failure.TLSNone, true},
		{stepMail, "530 no", broken, ofHost, failure.Handshake, true},
		{stepMail, "530 no", none, ofHostAlone, failure.Content, false},
		{stepMail, "530 5.7.0 Authentication required", broken, ofHostAlone, failure.Content, false},
		{stepMail, "530 5.7.0 Must issue a STARTTLS command first", fresh, ofHostAlone, failure.Content, false},
		{stepMail, "552 5.3.4 larger than 1000", fresh, ofHostAlone, failure.Content, false},
		{stepMail, "552 too large", fresh, ofHostAlone, failure.Content, false},
		{stepMail, "550 5.6.7 no SMTPUTF8", fresh, ofHostAlone, failure.Content, false},
		{stepMail, "555 5.5.4 unknown parameter", fresh, ofHostAlone, failure.Content, false},
		{stepMail, "554 no", fresh, ofHostAlone, failure.Content, false},
		{stepMail, "452 4.3.1 disk full", fresh, ofHostAlone, failure.Content, false},
		{stepMail, "451 4.7.1 later", fresh, ofHostAlone, failure.Content, false},
		{stepMail, "550 5.1.8 no such sender domain", fresh, ofTransaction, failure.Content, false},
		{stepMail, "450 4.1.8 no such sender domain", fresh, ofTransaction, failure.Content, false},
		{stepMail, "553 no such sender", fresh, ofTransaction, failure.Content, false},
		{stepMail, "553 5.7.1 not from you", fresh, ofHostAlone, failure.Content, false},
		{stepRcpt, "552 5.3.4 too large", fresh, ofRecipient, failure.Recipient, false},
		{stepRcpt, "550 5.7.1 not from you", fresh, ofRecipient, failure.Recipient, false},
		{stepData, "452 no room", fresh, ofHostAlone, failure.Content, false},
		{stepData, "554 5.6.3 cannot convert", fresh, ofHostAlone, failure.Content, false},
		{stepContent, "452 4.3.1 no room", fresh, ofHostAlone, failure.Content, false},
		{stepContent, "552 5.2.2 mailbox full", fresh, ofTransaction, failure.Content, false},
		{stepContent, "552 too much", fresh, ofTransaction, failure.Content, false},
		{stepContent, "554 5.7.1 spam", fresh, ofTransaction, failure.Content, false},
		{stepContent, "550 5.6.1 no such type", fresh, ofTransaction, failure.Content, false},
		{stepRcpt, "554 5.7.1 Session encryption is required", broken, ofHost, failure.Handshake, true},
		{stepRcpt, "550 5.7.1 your TLS is old", broken, ofRecipient, failure.Recipient, false},
		{stepRcpt, "421 bye", used, ofSession, 0, false},
		{stepRcpt, "421 bye", fresh, ofHost, failure.Busy, false},
		{stepRcpt, "503 5.5.1 MAIL first", used, ofSession, 0, false},
		{stepRcpt, "503 5.5.1 no", fresh, ofRecipient, failure.Recipient, false},
		{stepRcpt, "550 5.1.1 no such user", used, ofRecipient, failure.Recipient, false},
		{stepRcpt, "450 4.2.0 grey", used, ofRecipient, failure.Recipient, false},
		{stepRcpt, "452 too many", fresh, ofCount, failure.Recipient, true},
		{stepRcpt, "452 4.5.3 Recipients belong to multiple regions", fresh, ofCount, failure.Recipient, true},
		{stepRcpt, "452 4.2.2 mailbox full", fresh, ofRecipient, failure.Recipient, false},
		{stepRcpt, "452 4.1.1 aborted, too many recipients", fresh, ofCount, failure.Recipient, true},
		{stepRcpt, "552 5.5.3 no", fresh, ofCount, failure.Recipient, true},
		{stepRcpt, "552 Too Many Recipients", fresh, ofCount, failure.Recipient, true},
		{stepRcpt, "552 5.2.2 mailbox full", fresh, ofRecipient, failure.Recipient, false},
		{stepRcpt, "550 5.7.1 too many recipients today", fresh, ofRecipient, failure.Recipient, false},
		{stepData, "421 bye", used, ofSession, 0, false},
		{stepData, "421 bye", fresh, ofHost, failure.Busy, false},
		{stepData, "503 5.5.1 what", used, ofSession, 0, false},
		{stepData, "451 4.7.1 grey", used, ofTransaction, failure.Content, false},
		{stepData, "554 5.7.1 no", fresh, ofTransaction, failure.Content, false},
		{stepContent, "421 bye", used, ofHost, failure.Busy, false},
		{stepContent, "503 what", used, ofTransaction, failure.Content, false},
		{stepContent, "552 5.3.4 too big", fresh, ofHostAlone, failure.Content, false},
	} {
		l := rule(tt.at, reply(tt.reply), tt.in)
		if l.owner != tt.owner || l.reason != tt.why || l.waits != tt.waits {
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
				if l.steps == nil || l.reason == 0 && l.owner != ofSession {
					t.Errorf("%s %d, used %t: %+v", at, code, used, l)
				}
			}
		}
	}
}

func TestARefusalThatWaitsIsTemporary(t *testing.T) {
	l := rule(stepRcpt, reply("552 5.5.3 too many"), situation{})
	if f := l.failure("mx", reply("552 5.5.3 too many")); f.permanent || f.enhanced() != "4.5.3" || f.reply != "552 5.5.3 too many" {
		t.Errorf("%+v", f)
	}
}

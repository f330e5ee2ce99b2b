package delivery

import (
	"slices"
	"strings"

	"github.com/stsrelay/stsrelay/relay/failure"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/relay/smtpclient"
)

// owner is what a reply that refuses is about, and so who or what is asked next.
type owner uint8

const (
	// ofHost: the host cannot take mail now. The next host is asked. Where none does
	// better, the mail waits, and with ruling.backoff the domain's other mail too.
	ofHost owner = iota + 1
	// ofHostAlone: this host cannot or will not take the message. The next host is asked.
	// Where none takes it, the reply is the result.
	ofHostAlone
	// ofSession: only the session is over. Another session with the same host is opened at
	// once, and its reply counts.
	ofSession
	// ofTransaction: it is about the message and all its recipients.
	ofTransaction
	// ofCount: the host takes no more recipients in one transaction. The others follow at
	// once in the next one, as long as some are taken each time.
	ofCount
	// ofRecipient: it is about one recipient.
	ofRecipient
)

// step is the step of a session that a reply answers.
type step string

// The steps. stepContent is the end of the content; a chunk before the last one is
// answered at stepData.
const (
	stepGreeting step = "greeting"
	stepEHLO     step = "EHLO"
	stepHELO     step = "HELO"
	stepStartTLS step = "STARTTLS"
	stepAuth     step = "AUTH"
	stepReset    step = "RSET"
	stepMail     step = "MAIL"
	stepRcpt     step = "RCPT"
	stepData     step = "DATA"
	stepContent  step = "content"
)

// situation is what counts besides step and reply.
type situation struct {
	used bool // the session had carried a transaction before
	tls  security.StartTLS
}

// ruling is a line of the table of whose matter replies are.
type ruling struct {
	steps   []step
	codes   string // "421 4xx"; an x is any digit
	only    func(smtpclient.Reply, situation) bool
	owner   owner
	reason  failure.Reason // where the reply is the result
	backoff bool           // where no other host does better, the domain backs off
	waits   bool           // the mail waits, even where the code is permanent
}

// rulings is the one table of whose matter a reply is. The first line that fits counts.
// Postfix knows the same kinds (smtp_site_fail, smtp_mesg_fail, smtp_rcpt_fail).
//
// EHLO and STARTTLS are said on fresh sessions only. Refusals of STARTTLS other than 421
// are not in the table: the session goes on in clear, and package security judges it (RFC
// 3207, 4). After every 5xx to EHLO, package smtpclient says HELO.
var rulings = []ruling{
	// RFC 5321, 3.8: with 421 the host ends the session. Before the message it is about
	// the host, or about a session that has lasted too long. After the envelope it may be
	// about this message.
	{steps: []step{stepGreeting, stepEHLO, stepHELO, stepStartTLS, stepAuth}, codes: "421", owner: ofHost, reason: failure.Busy, backoff: true},
	{steps: []step{stepMail, stepRcpt, stepData}, codes: "421", only: onUsed, owner: ofSession},
	{steps: []step{stepMail, stepRcpt}, codes: "421", owner: ofHost, reason: failure.Busy, backoff: true},
	{steps: []step{stepData, stepContent}, codes: "421", owner: ofHost, reason: failure.Busy},
	// RFC 5321, 3.1 and 4.2.4.2: a host that takes no mail says so in its greeting.
	// Postfix and Exim ask the next host. EHLO is also the one within TLS.
	{steps: []step{stepGreeting, stepEHLO, stepHELO}, codes: "xxx", owner: ofHost, reason: failure.Greeting, backoff: true},
	// RFC 4954, 6: 454 is a temporary failure of the server. 5xx is about name and
	// password, or about the mechanism.
	{steps: []step{stepAuth}, codes: "4xx", owner: ofHost, reason: failure.Busy, backoff: true},
	{steps: []step{stepAuth}, codes: "xxx", owner: ofHost, reason: failure.RouteAuth, backoff: true, waits: true},
	// RFC 5321, 4.1.1.5: RSET is answered with 250. After anything else Postfix gives the
	// session up.
	{steps: []step{stepReset}, codes: "xxx", owner: ofSession},
	// Hosts limit the messages of a session, or get out of step, and say so with 421, 450,
	// 451, 452, 503, 550 or 554 to MAIL.
	{steps: []step{stepMail}, codes: "4xx 5xx", only: onUsed, owner: ofSession},
	{steps: []step{stepRcpt, stepData}, codes: "503", only: onUsed, owner: ofSession},
	{steps: []step{stepRcpt, stepData}, codes: "4xx 5xx", only: wantsTLSOnUsed, owner: ofSession},
	// RFC 3207, 4: 530 asks for STARTTLS. The host may offer it again later, or somebody on
	// the way takes the offer out.
	{steps: []step{stepMail, stepRcpt, stepData}, codes: "4xx 5xx", only: wantsTLSThatBroke, owner: ofHost, reason: failure.Handshake, backoff: true, waits: true},
	{steps: []step{stepMail, stepRcpt, stepData}, codes: "4xx 5xx", only: wantsTLS, owner: ofHost, reason: failure.TLSNone, backoff: true, waits: true},
	// RFC 5321, 4.5.3.1.10: 452, or 552 from older hosts.
	{steps: []step{stepRcpt}, codes: "4xx 5xx", only: saysTooMany, owner: ofCount, reason: failure.Recipient, waits: true},
	// RFC 5321, 3.3 and 4.3.2.
	{steps: []step{stepRcpt}, codes: "4xx 5xx", owner: ofRecipient, reason: failure.Recipient},
	// RFC 3463, 3.4: X.3.x is about the host's system: it is full, cannot do something, or
	// the message is too large. X.6.3 and X.6.7 are what it cannot convert (RFC 6531, 3.5).
	{steps: []step{stepMail, stepData, stepContent}, codes: "4xx 5xx", only: saysSystem, owner: ofHostAlone, reason: failure.Content},
	// At MAIL a host knows the relay, the sender and the parameters. A refusal of the
	// sender's address holds for the other hosts too. Everything else is this host's own
	// policy or limit: Postfix asks the next host after any 4xx, and after a 5xx another
	// host may know the relay better, or have more room.
	{steps: []step{stepMail}, codes: "4xx 5xx", only: notOfSender, owner: ofHostAlone, reason: failure.Content},
	// Everything else is about the message, and final.
	{steps: []step{stepMail, stepData, stepContent}, codes: "4xx 5xx", owner: ofTransaction, reason: failure.Content},
}

// rule returns the line of the table for a reply to a step. Every refusal that smtpclient
// returns has one.
func rule(at step, r smtpclient.Reply, in situation) ruling {
	for _, l := range rulings {
		if slices.Contains(l.steps, at) && l.fits(r.Code) && (l.only == nil || l.only(r, in)) {
			if l.reason != 0 && l.reason != failure.RouteAuth && refusesAddress(r) {
				l.reason = failure.Blocked
			}
			return l
		}
	}
	return ruling{owner: ofHost, reason: failure.Connect}
}

// fits reports whether a code is one of the line's.
func (l *ruling) fits(code int) bool {
	digits := [3]byte{byte('0' + code/100), byte('0' + code/10%10), byte('0' + code%10)}
	return slices.ContainsFunc(strings.Fields(l.codes), func(pattern string) bool {
		for i, d := range digits {
			if pattern[i] != 'x' && pattern[i] != d {
				return false
			}
		}
		return true
	})
}

func onUsed(_ smtpclient.Reply, in situation) bool { return in.used }

// wantsTLS reports whether a host refuses mail that does not come over TLS.
func wantsTLS(r smtpclient.Reply, in situation) bool {
	if in.tls == security.Established {
		return false
	}
	text := strings.ToLower(strings.Join(r.Lines, " "))
	switch {
	case strings.HasSuffix(r.Enhanced, ".7.10"), strings.Contains(text, "starttls"): // RFC 8689, 4.2.1: encryption needed
		return true
	case strings.Contains(text, "tls"), strings.Contains(text, "encrypt"):
		return r.Code == 530 || strings.Contains(text, "requir")
	}
	// Without a word of it: 530 is about AUTH as well (RFC 4954, 6).
	return r.Code == 530 && in.tls != security.NotOffered && !strings.Contains(text, "auth") && !strings.Contains(text, "log")
}

func wantsTLSOnUsed(r smtpclient.Reply, in situation) bool { return in.used && wantsTLS(r, in) }

func wantsTLSThatBroke(r smtpclient.Reply, in situation) bool {
	return in.tls == security.Broken && wantsTLS(r, in)
}

// saysTooMany reports whether a host refuses a recipient because the transaction
// has too many: by the enhanced code X.5.3 (RFC 3463), in words, or by a 452 whose
// enhanced code speaks of nothing else.
func saysTooMany(r smtpclient.Reply, _ situation) bool {
	_, detail, _ := strings.Cut(r.Enhanced, ".")
	subject, _, _ := strings.Cut(detail, ".")
	text := strings.ToLower(strings.Join(r.Lines, " "))
	other := subject == "1" || subject == "2" || subject == "7" // the address, the mailbox, a policy
	switch {
	case detail == "5.3":
		return true
	case slices.ContainsFunc([]string{"too many recipients", "too many rcpt", "too many addresses", "recipient limit", "recipients limit", "recipients per message", "number of recipients"},
		func(words string) bool { return strings.Contains(text, words) }):
		return !other || r.Code == 552 || r.Code/100 == 4
	}
	return r.Code == 452 && !other
}

// saysSystem reports whether a reply is about the host's own system.
func saysSystem(r smtpclient.Reply, _ situation) bool {
	_, detail, _ := strings.Cut(r.Enhanced, ".")
	switch {
	case strings.HasPrefix(detail, "3."), detail == "6.3", detail == "6.7":
		return true
	}
	return detail == "" && r.Code == 452 // RFC 5321, 4.2.3: insufficient system storage
}

// notOfSender reports whether a reply to MAIL is about something else than the
// sender's address: that is X.1.x, or 553 without more words.
func notOfSender(r smtpclient.Reply, _ situation) bool {
	_, detail, _ := strings.Cut(r.Enhanced, ".")
	return !strings.HasPrefix(detail, "1.") && (detail != "" || r.Code != 553)
}

// ourAddress are words by which replies speak of the client's address, or of its standing.
var ourAddress = []string{
	"spamhaus", "blocklist", "block list", "blacklist", "black list", "denylist", "dnsbl", "spamcop", "barracudacentral", "reputation",
	"reverse dns", "ptr record", "rdns", "no ptr", "reverse lookup", "banned sending ip", "originating from your ip",
}

// unwanted are words about mail that nobody wants: they are about the address only where the
// reply names it.
var unwanted = []string{"unsolicited", "spam", "complaint", "unusual rate", "abuse"}

// fromUs are the words by which a reply names the address.
var fromUs = []string{"your ip", "your address", "your server", "your network", "your host", "ip address", "from your"}

// refusesAddress reports whether a refusal is about this relay's address: its standing, a
// block list, its name in the DNS. Hosts say so in words, and with an enhanced code of
// security or policy, X.7.x (RFC 3463, 3.8), or none.
func refusesAddress(r smtpclient.Reply) bool {
	if _, detail, ok := strings.Cut(r.Enhanced, "."); ok && !strings.HasPrefix(detail, "7.") {
		return false
	}
	text := strings.ToLower(strings.Join(r.Lines, " "))
	says := func(words []string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(text, w) })
	}
	return says(ourAddress) || says(unwanted) && says(fromUs)
}

// failure is what a reply came to that is the last word.
func (l *ruling) failure(host string, r smtpclient.Reply) *attemptError {
	f := replyFailure(l.reason, host, r)
	f.domainWide, f.elsewhere = l.backoff, l.owner == ofHostAlone
	if l.waits {
		f.permanent = false
	}
	return f
}

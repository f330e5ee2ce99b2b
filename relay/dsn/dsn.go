// Package dsn writes delivery status notifications (RFC 3464): the message
// that tells a sender what became of his own.
//
// It decides to whom a notice is owed (RFC 3461) and what stands in it; when
// one is due is decided by those who deliver.
package dsn

import (
	"bytes"
	"fmt"
	"io"
	"mime/quotedprintable"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/queue"
)

// maxReturned is the most of a message that comes back whole; of a longer one
// only the headers do. maxHeader bounds those.
const (
	maxReturned = 50 << 10
	maxHeader   = 64 << 10
)

// Action is what a notice says of a recipient (RFC 3464, 2.3.3).
type Action string

// The actions of this relay's notices.
const (
	Failed  Action = "failed"
	Delayed Action = "delayed"
)

// Reporter writes notices in the name of one relay.
type Reporter struct {
	// Hostname is the Reporting-MTA and the domain of MAILER-DAEMON.
	Hostname string
	// Expire is when a delayed message is given up, counted from its arrival.
	Expire func() time.Duration
	// Now is the wall clock; nil: time.Now.
	Now func() time.Time
	// Content opens the message that the notice is about; it may be nil.
	Content func(id queue.ID) (io.Reader, error)
}

// Failure is the notice that recipients of w were given up; ok is false where
// none is owed. states are by position in w.Recipients.
func (r *Reporter) Failure(w *queue.Work, states []queue.RecipientState) (queue.NewMessage, bool) {
	return r.notice(Failed, &w.Envelope, w.Recipients, states, func(i int) bool { return states[i].State == queue.Bounced })
}

// Delay is the notice that recipients of w are still being tried; ok is false
// where none is owed.
func (r *Reporter) Delay(w *queue.Work, states []queue.RecipientState) (queue.NewMessage, bool) {
	return r.notice(Delayed, &w.Envelope, w.Recipients, states, func(i int) bool {
		return states[i].State == queue.Queued && !states[i].Delayed
	})
}

// Removed is the notice that the operator gave a message up.
func (r *Reporter) Removed(m queue.Message, reason string) (queue.NewMessage, bool) {
	var indexes []int
	var states []queue.RecipientState
	for i, s := range m.States {
		if s.State != queue.Queued {
			continue
		}
		indexes = append(indexes, i)
		s.LastError = "5.7.0 the operator of this mail server gave the message up"
		if reason != "" {
			s.LastError += ": " + reason
		}
		s.LastReply = ""
		states = append(states, s)
	}
	return r.notice(Failed, &m.Envelope, indexes, states, func(int) bool { return true })
}

func (r *Reporter) notice(action Action, env *queue.Envelope, recipients []int, states []queue.RecipientState, owed func(int) bool) (queue.NewMessage, bool) {
	// Nothing is ever sent to the null sender (RFC 5321, 4.5.5).
	if env.From == "" || env.Kind != queue.Mail {
		return queue.NewMessage{}, false
	}
	n := notice{reporter: r, action: action, env: env}
	for i := range recipients {
		rcpt := env.Recipients[recipients[i]]
		if owed(i) && asked(rcpt, action) {
			n.entries = append(n.entries, entry{recipient: rcpt, state: states[i]})
		}
	}
	if len(n.entries) == 0 {
		return queue.NewMessage{}, false
	}
	to, err := mailbox.Parse(env.From)
	if err != nil {
		return queue.NewMessage{}, false // it was checked when the message came in
	}
	body := n.write()
	return queue.NewMessage{
		Envelope: queue.Envelope{
			Kind: queue.Notice, From: "",
			Recipients: []queue.Recipient{{Address: env.From, Domain: to.Domain, Notify: []string{"NEVER"}}},
			Client:     r.Hostname + " (notice)",
			EightBit:   !isASCII(body),
			SMTPUTF8:   !isASCII([]byte(env.From)),
		},
		Body: body,
	}, true
}

// asked says whether the sender wants to know (RFC 3461, 4.1): without NOTIFY of
// failures and delays, with it of what it lists.
func asked(rcpt queue.Recipient, action Action) bool {
	if len(rcpt.Notify) == 0 {
		return true
	}
	want := "FAILURE"
	if action == Delayed {
		want = "DELAY"
	}
	return slices.ContainsFunc(rcpt.Notify, func(n string) bool { return strings.EqualFold(n, want) })
}

type entry struct {
	recipient queue.Recipient
	state     queue.RecipientState
}

type notice struct {
	reporter *Reporter
	action   Action
	env      *queue.Envelope
	entries  []entry
}

func (n *notice) now() time.Time {
	if n.reporter.Now != nil {
		return n.reporter.Now()
	}
	return time.Now()
}

// write makes the multipart/report (RFC 6522).
func (n *notice) write() []byte {
	var b bytes.Buffer
	boundary := "=_" + n.env.ID.String()
	original, whole := n.original()
	host := n.reporter.Hostname
	now := n.now().UTC()
	fmt.Fprintf(&b, "From: Mail Delivery System <MAILER-DAEMON@%s>\r\n", host)
	fmt.Fprintf(&b, "To: <%s>\r\n", n.env.From)
	fmt.Fprintf(&b, "Subject: %s\r\n", n.subject())
	fmt.Fprintf(&b, "Date: %s\r\n", now.Format(time.RFC1123Z))
	fmt.Fprintf(&b, "Message-ID: <%s.%d@%s>\r\n", n.env.ID, now.UnixNano(), host)
	b.WriteString("Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n")
	fmt.Fprintf(&b, "Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=%q\r\n\r\n", boundary)
	b.WriteString("This is a MIME-encapsulated message.\r\n")
	part := func(contentType, extra string) {
		fmt.Fprintf(&b, "\r\n--%s\r\nContent-Type: %s\r\n%s\r\n", boundary, contentType, extra)
	}
	part("text/plain; charset=utf-8", "Content-Transfer-Encoding: quoted-printable\r\n")
	n.writeText(&b)
	part("message/delivery-status", "")
	n.writeStatus(&b)
	if whole {
		part("message/rfc822", encodingOf(original))
	} else {
		part("text/rfc822-headers", encodingOf(original))
	}
	b.Write(original)
	fmt.Fprintf(&b, "\r\n--%s--\r\n", boundary)
	return b.Bytes()
}

func (n *notice) subject() string {
	if n.action == Delayed {
		return "Delayed: your message is still waiting"
	}
	return "Undelivered: your message could not be delivered"
}

func (n *notice) writeText(b *bytes.Buffer) {
	w := quotedprintable.NewWriter(b)
	fmt.Fprintf(w, "This is the mail server %s.\r\n\r\n", n.reporter.Hostname)
	if n.action == Delayed {
		fmt.Fprintf(w, "Your message of %s has not been delivered yet to:\r\n\r\n", n.env.ReceivedAt.Format(time.RFC1123Z))
	} else {
		fmt.Fprintf(w, "Your message of %s could not be delivered to:\r\n\r\n", n.env.ReceivedAt.Format(time.RFC1123Z))
	}
	for _, e := range n.entries {
		fmt.Fprintf(w, "  <%s>\r\n%s\r\n", e.recipient.Address, wrap(e.state.LastError, "    ", 72))
	}
	if n.action == Delayed {
		fmt.Fprintf(w, "You need not send it again: this server goes on trying until %s,\r\nand tells you if it gives up.\r\n", n.until().Format(time.RFC1123Z))
	} else {
		fmt.Fprint(w, "The message was given up and is not tried again. Check the address, or\r\nsend this notice to the postmaster of the recipient.\r\n")
	}
	_ = w.Close() // into a buffer
}

// wrap breaks a text into indented lines of at most width columns, where it has
// words that allow it.
func wrap(text, indent string, width int) string {
	var b strings.Builder
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(indent)+len(line)+1+len(word) > width {
			b.WriteString(indent + line + "\r\n")
			line = ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return b.String() + indent + line + "\r\n"
}

// writeStatus is RFC 3464, 2.2 and 2.3.
func (n *notice) writeStatus(b *bytes.Buffer) {
	if n.env.EnvID != "" {
		fmt.Fprintf(b, "Original-Envelope-Id: %s\r\n", oneLine(n.env.EnvID))
	}
	fmt.Fprintf(b, "Reporting-MTA: dns; %s\r\n", n.reporter.Hostname)
	fmt.Fprintf(b, "Arrival-Date: %s\r\n", n.env.ReceivedAt.Format(time.RFC1123Z))
	for _, e := range n.entries {
		b.WriteString("\r\n")
		if e.recipient.ORcpt != "" {
			fmt.Fprintf(b, "Original-Recipient: %s\r\n", oneLine(e.recipient.ORcpt))
		}
		fmt.Fprintf(b, "Final-Recipient: rfc822; %s\r\n", e.recipient.Address)
		fmt.Fprintf(b, "Action: %s\r\n", n.action)
		fmt.Fprintf(b, "Status: %s\r\n", n.status(e.state))
		if e.state.LastReply != "" {
			if e.state.Host != "" {
				fmt.Fprintf(b, "Remote-MTA: dns; %s\r\n", e.state.Host)
			}
			fmt.Fprintf(b, "Diagnostic-Code: smtp; %s\r\n", oneLine(e.state.LastReply))
		}
		fmt.Fprintf(b, "Last-Attempt-Date: %s\r\n", n.now().UTC().Format(time.RFC1123Z))
		fmt.Fprintf(b, "Final-Log-ID: %s\r\n", n.env.ID)
		if n.action == Delayed {
			fmt.Fprintf(b, "Will-Retry-Until: %s\r\n", n.until().Format(time.RFC1123Z))
		}
	}
}

func (n *notice) until() time.Time {
	if n.reporter.Expire == nil {
		return n.env.ReceivedAt
	}
	return n.env.ReceivedAt.Add(n.reporter.Expire())
}

// status is the enhanced status code that the error begins with, in the class
// of the action (RFC 3463).
func (n *notice) status(s queue.RecipientState) string {
	class := "5"
	if n.action == Delayed {
		class = "4"
	}
	code, _, _ := strings.Cut(s.LastError, " ")
	if parts := strings.Split(code, "."); len(parts) == 3 && isDigits(parts[0]+parts[1]+parts[2]) {
		return class + "." + parts[1] + "." + parts[2]
	}
	return class + ".0.0"
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// original is what comes back of the message: the whole of a small one where
// the sender asked for it (RET=FULL), else its header.
func (n *notice) original() (data []byte, whole bool) {
	if n.reporter.Content == nil {
		return nil, false
	}
	r, err := n.reporter.Content(n.env.ID)
	if err != nil {
		return nil, false
	}
	whole = n.action == Failed && strings.EqualFold(n.env.Ret, "FULL") && n.env.Size <= maxReturned && !n.env.RequireTLS
	if whole {
		if data, err = io.ReadAll(r); err == nil {
			return data, true
		}
		return nil, false
	}
	data, _ = io.ReadAll(io.LimitReader(r, maxHeader))
	if i := bytes.Index(data, []byte("\r\n\r\n")); i >= 0 {
		return data[:i+2], false
	}
	i := bytes.LastIndexByte(data, '\n') // a cut header: whole lines only
	return data[:i+1], false
}

func encodingOf(data []byte) string {
	if isASCII(data) {
		return ""
	}
	return "Content-Transfer-Encoding: 8bit\r\n"
}

func isASCII(data []byte) bool {
	return !slices.ContainsFunc(data, func(c byte) bool { return c >= 0x80 })
}

func oneLine(s string) string {
	return textproto.TrimString(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s))
}

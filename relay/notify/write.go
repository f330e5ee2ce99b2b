package notify

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/compose"
	"github.com/stsrelay/stsrelay/internal/mailheader"
	"github.com/stsrelay/stsrelay/queue"
)

// maxReturned bounds the octets of a message that is returned whole; of a longer one only
// the header is returned. maxHeader bounds that.
const (
	maxReturned = 50 << 10
	maxHeader   = 64 << 10
)

type notice struct {
	reporter *Reporter
	action   Action
	env      *queue.Envelope
	entries  []entry
	note     string    // of the operator
	until    time.Time // when the message is given up; only of Delayed
	now      time.Time
}

// global reports whether the notice needs the forms of RFC 6533: an address of it has
// letters that are not ASCII, or the message is internationalized.
func (n *notice) global() bool {
	return n.env.SMTPUTF8 || !isASCII([]byte(n.env.From)) || slices.ContainsFunc(n.entries, func(e entry) bool {
		return !isASCII([]byte(e.recipient.Address + e.recipient.ORcpt))
	})
}

// write makes the multipart/report (RFC 6522).
func (n *notice) write() []byte {
	original, whole := n.original()
	p := n.page(original)
	host := n.reporter.Hostname
	report, returned := "message/delivery-status", "text/rfc822-headers"
	if whole {
		returned = "message/rfc822"
	}
	if n.global() {
		report, returned = "message/global-delivery-status", "message/global-headers"
		if whole {
			returned = "message/global"
		}
	}
	var b bytes.Buffer
	n.writeStatus(&b)
	status := mailheader.Fold(b.Bytes())
	m := compose.Message{
		From: sender(host), To: n.env.From, Subject: n.subject(p), Date: n.now, ID: fmt.Sprintf("%s.%d@%s", n.env.ID, n.now.UnixNano(), host),
		AutoSubmitted: "auto-replied", Type: "multipart/report; report-type=" + strings.TrimPrefix(report, "message/"), Boundary: "=_" + n.env.ID.String(),
		Parts: []compose.Part{
			{Type: compose.Text, Encoding: compose.QuotedPrintable, Content: n.text(p)},
			{Type: report, Encoding: encodingOf(status), Content: status},
			{Type: returned, Encoding: encodingOf(original), Content: original},
		},
	}
	return m.Bytes()
}

// sender is the From field of notices.
func sender(hostname string) string { return "Mail Delivery System <MAILER-DAEMON@" + hostname + ">" }

// writeStatus is RFC 3464, 2.2 and 2.3.
func (n *notice) writeStatus(b *bytes.Buffer) {
	if n.env.EnvID != "" {
		fmt.Fprintf(b, "Original-Envelope-Id: %s\r\n", n.value(n.env.EnvID))
	}
	fmt.Fprintf(b, "Reporting-MTA: dns; %s\r\n", n.reporter.Hostname)
	fmt.Fprintf(b, "Arrival-Date: %s\r\n", n.env.ReceivedAt.UTC().Format(time.RFC1123Z))
	for _, e := range n.entries {
		b.WriteString("\r\n")
		if kind, addr, ok := strings.Cut(e.recipient.ORcpt, ";"); ok {
			if !isASCII([]byte(addr)) {
				kind = "utf-8"
			}
			fmt.Fprintf(b, "Original-Recipient: %s; %s\r\n", n.value(kind), n.value(addr))
		}
		kind := "rfc822"
		if !isASCII([]byte(e.recipient.Address)) {
			kind = "utf-8" // RFC 6533, 3
		}
		fmt.Fprintf(b, "Final-Recipient: %s; %s\r\n", kind, e.recipient.Address)
		fmt.Fprintf(b, "Action: %s\r\n", n.action)
		fmt.Fprintf(b, "Status: %s\r\n", n.status(e.state))
		if e.state.LastReply != "" && !e.state.Earlier { // else this relay decided
			if e.state.Host != "" {
				fmt.Fprintf(b, "Remote-MTA: dns; %s\r\n", n.value(e.state.Host))
			}
			fmt.Fprintf(b, "Diagnostic-Code: smtp; %s\r\n", n.value(e.state.LastReply))
		} else if e.state.LastError != "" {
			fmt.Fprintf(b, "Diagnostic-Code: x-stsrelay; %s\r\n", n.value(e.state.LastError))
		}
		if !e.untried { // else the time is not known (RFC 3464, 2.3.7)
			fmt.Fprintf(b, "Last-Attempt-Date: %s\r\n", n.now.Format(time.RFC1123Z))
		}
		fmt.Fprintf(b, "Final-Log-ID: %s\r\n", n.env.ID)
		if n.action == Delayed {
			fmt.Fprintf(b, "Will-Retry-Until: %s\r\n", n.until.Format(time.RFC1123Z))
		}
	}
}

// maxField bounds the text of strangers in a field of the report, below the 998 octets of
// a line.
const maxField = 900

// value is a value for a field of the report: one line, and ASCII where the form
// of the report allows for nothing else.
func (n *notice) value(s string) string {
	s = oneLine(strings.ToValidUTF8(s, "?"))
	if !n.global() {
		s = escaped(s)
	}
	if len(s) > maxField {
		s = strings.ToValidUTF8(s[:maxField], "")
	}
	return s
}

// escaped is s in ASCII, with the octets of all other characters as "\xff".
func escaped(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c > '~' {
			fmt.Fprintf(&b, `\x%02x`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// status is the enhanced status code of the error in the class of the action
// (RFC 3463).
func (n *notice) status(s queue.RecipientState) string {
	class := map[Action]string{Failed: "5", Delayed: "4", Relayed: "2"}[n.action]
	if _, detail, ok := strings.Cut(s.Status, "."); ok && n.action != Relayed {
		return class + "." + detail
	}
	return class + ".0.0"
}

// original is the part of the message that is returned: the whole of a small one that
// failed where the sender asked for it (RET=FULL), otherwise its header.
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

func encodingOf(data []byte) compose.Encoding {
	if isASCII(data) {
		return compose.SevenBit
	}
	return compose.EightBit
}

func isASCII(data []byte) bool {
	return !slices.ContainsFunc(data, func(c byte) bool { return c >= 0x80 })
}

package tlsrpt

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"mime/quotedprintable"
	"strings"
	"time"
)

// Mail is a report as mail (RFC 8460, 5.3).
type Mail struct {
	From, To string
	// Body is the whole message, signed.
	Body []byte
}

// letter is what a mail is made of.
type letter struct {
	identity Identity
	to       string
	domain   string // the policy domain
	unique   string // of the report-id, letters and digits
	digest   *digest
	report   []byte // compressed
	date     time.Time
	advice   func(code string) string // see Options
}

// write makes the message. Field names and values are short or folded: a
// domain may have 253 octets, a line 998.
func (l *letter) write() []byte {
	var b bytes.Buffer
	b.Grow(4<<10 + len(l.report)*3/2)
	submitter := l.identity.Submitter()
	id := l.digest.report.ReportID
	boundary := "=_tlsrpt_" + l.unique
	field := func(name, format string, args ...any) { fmt.Fprintf(&b, name+": "+format+"\r\n", args...) }
	field("From", "<%s>", l.identity.Sender)
	field("To", "<%s>", l.to)
	field("Date", "%s", l.date.UTC().Format(time.RFC1123Z))
	field("Message-ID", "<%s@%s>", id, submitter)
	field("Subject", "Report Domain: %s\r\n Submitter: %s\r\n Report-ID: <%s@%s>", l.domain, submitter, id, submitter)
	field("TLS-Report-Domain", "%s", l.domain)
	field("TLS-Report-Submitter", "%s", submitter)
	field("TLS-Required", "No") // RFC 8689, 5
	field("Auto-Submitted", "auto-generated")
	field("MIME-Version", "1.0")
	field("Content-Type", "multipart/report; report-type=\"tlsrpt\";\r\n boundary=%q", boundary)
	b.WriteString("\r\nThis is a multi-part message in MIME format.\r\n")

	fmt.Fprintf(&b, "\r\n--%s\r\n", boundary)
	field("Content-Type", "text/plain; charset=utf-8")
	field("Content-Transfer-Encoding", "quoted-printable")
	b.WriteString("\r\n")
	var text strings.Builder
	l.digest.write(&text, l.identity, l.domain, l.advice)
	q := quotedprintable.NewWriter(&b)
	_, _ = io.WriteString(q, strings.ReplaceAll(text.String(), "\n", "\r\n"))
	_ = q.Close() // into a buffer

	fmt.Fprintf(&b, "\r\n--%s\r\n", boundary)
	field("Content-Type", "application/tlsrpt+gzip")
	field("Content-Transfer-Encoding", "base64")
	field("Content-Disposition", "attachment;\r\n filename=\"%s\"", fileName(submitter, l.digest.report, l.domain, l.unique))
	b.WriteString("\r\n")
	const line = 57 // octets that become 76 characters
	for rest := l.report; len(rest) > 0; {
		n := min(len(rest), line)
		b.Write(base64.StdEncoding.AppendEncode(b.AvailableBuffer(), rest[:n]))
		b.WriteString("\r\n")
		rest = rest[n:]
	}
	fmt.Fprintf(&b, "\r\n--%s--\r\n", boundary)
	return b.Bytes()
}

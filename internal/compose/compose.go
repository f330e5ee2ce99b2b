// Package compose writes the mail that the relay sends in its own name: notices, alerts,
// TLS reports (RFC 5322, RFC 2045). It knows the form of a message; what stands in it is
// the caller's matter, as is the envelope.
package compose

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/mailheader"
)

// Field is a field of a header.
type Field struct{ Name, Value string }

// Message is a message to be written.
type Message struct {
	// From is the value of the field, "Mail relay <a@example.com>"; To is an address.
	From, To string
	// Subject is any text. It is folded at its line breaks, and encoded where it has
	// characters that a header must not have (RFC 2047).
	Subject string
	Date    time.Time
	// ID is the Message-ID without its brackets.
	ID string
	// Fields are those of its own kind.
	Fields []Field
	// AutoSubmitted is "auto-replied" or "auto-generated" (RFC 3834).
	AutoSubmitted string
	// Type is the media type of several parts without its boundary, "" where the message is
	// its only part. Boundary occurs in no part.
	Type, Boundary string
	Parts          []Part
}

// Encoding is a Content-Transfer-Encoding (RFC 2045, 6).
type Encoding string

// The encodings. SevenBit is the one that is not named; content in it, and in EightBit, goes
// as it is.
const (
	SevenBit        Encoding = ""
	EightBit        Encoding = "8bit"
	QuotedPrintable Encoding = "quoted-printable"
	Base64          Encoding = "base64"
)

// Text is the media type of what people read.
const Text = "text/plain; charset=utf-8"

// Part is a part of a message.
type Part struct {
	Type     string
	Encoding Encoding
	// Disposition is the field Content-Disposition, "" for none.
	Disposition string
	// Content is not encoded yet. The lines of a text end in CRLF.
	Content []byte
}

// Bytes returns the message, with CRLF line ends.
func (m *Message) Bytes() []byte {
	size := 2 << 10
	for i := range m.Parts {
		size += 256 + len(m.Parts[i].Content)*3/2
	}
	b := bytes.NewBuffer(make([]byte, 0, size))
	field(b, "From", m.From)
	field(b, "To", "<"+m.To+">")
	field(b, "Subject", subject(m.Subject))
	field(b, "Date", m.Date.Format(time.RFC1123Z))
	field(b, "Message-ID", "<"+m.ID+">")
	for _, f := range m.Fields {
		field(b, f.Name, f.Value)
	}
	field(b, "Auto-Submitted", m.AutoSubmitted)
	field(b, "MIME-Version", "1.0")
	if m.Type == "" {
		m.Parts[0].write(b)
		return b.Bytes()
	}
	field(b, "Content-Type", fmt.Sprintf("%s;\r\n\tboundary=%q", m.Type, m.Boundary))
	b.WriteString("\r\nThis is a MIME-encapsulated message.\r\n")
	for i := range m.Parts {
		b.WriteString("\r\n--" + m.Boundary + "\r\n")
		m.Parts[i].write(b)
	}
	b.WriteString("\r\n--" + m.Boundary + "--\r\n")
	return b.Bytes()
}

func field(b *bytes.Buffer, name, value string) {
	b.Write(mailheader.Fold([]byte(name + ": " + value + "\r\n")))
}

// subject returns the value of a subject field.
func subject(text string) string {
	var lines []string
	for l := range strings.SplitSeq(text, "\n") {
		if strings.TrimSpace(l) != "" {
			lines = append(lines, strings.ReplaceAll(mime.QEncoding.Encode("utf-8", l), "?= =?", "?=\r\n =?"))
		}
	}
	return strings.Join(lines, "\r\n ")
}

// write writes the header of a part and its content.
func (p *Part) write(b *bytes.Buffer) {
	field(b, "Content-Type", p.Type)
	if p.Encoding != SevenBit {
		field(b, "Content-Transfer-Encoding", string(p.Encoding))
	}
	if p.Disposition != "" {
		field(b, "Content-Disposition", p.Disposition)
	}
	b.WriteString("\r\n")
	switch p.Encoding {
	case QuotedPrintable:
		q := quotedprintable.NewWriter(b)
		_, _ = q.Write(p.Content) // into a buffer, which takes all
		_ = q.Close()
	case Base64:
		const line = 57 // octets that become 76 characters
		for rest := p.Content; len(rest) > 0; {
			n := min(len(rest), line)
			b.Write(base64.StdEncoding.AppendEncode(b.AvailableBuffer(), rest[:n]))
			b.WriteString("\r\n")
			rest = rest[n:]
		}
	default:
		b.Write(p.Content)
	}
}

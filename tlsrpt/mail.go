package tlsrpt

import (
	"fmt"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/compose"
)

// Mail is a report as mail (RFC 8460, 5.3).
type Mail struct {
	From, To string
	// Body is the whole message, signed.
	Body []byte
}

// message has the parts of the mail of a report.
type message struct {
	identity Identity
	to       string
	domain   string // the policy domain
	unique   string // of the report-id, letters and digits
	summary  *summary
	report   []byte // compressed
	date     time.Time
	advice   func(code string) string // see Options
}

// write makes the message. Values are short or folded: a domain may have 253 octets, a line
// 998.
func (l *message) write() []byte {
	submitter := l.identity.Submitter()
	id := l.summary.report.ReportID + "@" + submitter
	var text strings.Builder
	l.summary.write(&text, l.identity, l.domain, l.advice)
	m := compose.Message{
		From: "<" + l.identity.Sender + ">", To: l.to, Date: l.date.UTC(), ID: id,
		Subject: fmt.Sprintf("Report Domain: %s\nSubmitter: %s\nReport-ID: <%s>", l.domain, submitter, id),
		Fields: []compose.Field{
			{Name: "TLS-Report-Domain", Value: l.domain},
			{Name: "TLS-Report-Submitter", Value: submitter},
			{Name: "TLS-Required", Value: "No"}, // RFC 8689, 5
		},
		AutoSubmitted: "auto-generated", Type: `multipart/report; report-type="tlsrpt"`, Boundary: "=_tlsrpt_" + l.unique,
		Parts: []compose.Part{
			{Type: compose.Text, Encoding: compose.QuotedPrintable, Content: []byte(strings.ReplaceAll(text.String(), "\n", "\r\n"))},
			{Type: "application/tlsrpt+gzip", Encoding: compose.Base64, Content: l.report,
				Disposition: fmt.Sprintf("attachment;\r\n filename=\"%s\"", fileName(submitter, l.summary.report, l.domain, l.unique))},
		},
	}
	return m.Bytes()
}

package inbound

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/mailheader"
)

// Mail is what the header of a mail says of it. Texts are those of the sender, shortened to
// 300 characters.
type Mail struct {
	From, Subject, MessageID string
	Date                     time.Time // zero where it cannot be read
	// ReportDomain and Submitter are TLS-Report-Domain and TLS-Report-Submitter (RFC 8460,
	// 5.3).
	ReportDomain, Submitter string
}

// submitter returns the domain that the mail says it comes from.
func (m *Mail) submitter() string {
	if m.Submitter != "" {
		return domainName(m.Submitter)
	}
	if a, err := mail.ParseAddress(m.From); err == nil {
		return domainName(a.Address[strings.LastIndexByte(a.Address, '@')+1:])
	}
	return ""
}

// maxHeader is the size of a mail's header that is read, in octets.
const maxHeader = 256 << 10

// message looks at the parts of a mail.
func (s *scan) message(r io.Reader, nesting int) {
	if nesting > maxNesting {
		return
	}
	outer, signed := s.mail, s.signed
	defer func() { s.signed = signed }()
	b := bufio.NewReaderSize(s.verified(r), 4096)
	h := readHeader(b)
	if len(h) == 0 {
		return
	}
	s.mail = newMail(h)
	if s.mail.ReportDomain == "" && outer != nil { // a report in a mail that was passed on
		s.mail.ReportDomain = outer.ReportDomain
	}
	s.part(h, b, nesting)
	s.mail = outer
	if outer == nil && s.found == 0 { // what is told of a mail without a report needs its header
		s.mail = newMail(h)
	}
}

// maxVerified is the size of a mail that is verified, in octets: it lies in memory for that.
const maxVerified = 8 << 20

// verified has a mail verified, and returns a reader that begins where r has begun.
func (s *scan) verified(r io.Reader) io.Reader {
	if s.verify == nil {
		return r
	}
	start, err := io.ReadAll(io.LimitReader(r, maxVerified+1))
	if err != nil || len(start) > maxVerified {
		return io.MultiReader(bytes.NewReader(start), r) // where it fails again, if it has
	}
	s.signed = cmp.Or(s.verify(bytes.NewReader(start)), s.signed)
	return bytes.NewReader(start)
}

func newMail(h map[string]string) *Mail {
	m := &Mail{
		From: word(h["from"]), Subject: word(h["subject"]), MessageID: short(h["message-id"]),
		ReportDomain: short(h["tls-report-domain"]), Submitter: short(h["tls-report-submitter"]),
	}
	if t, err := mail.ParseDate(h["date"]); err == nil {
		m.Date = t.UTC()
	}
	return m
}

// word decodes a header text (RFC 2047).
func word(text string) string {
	return short(mailheader.Decoded(text))
}

// readHeader reads the fields of a header, by their names in lower case: the first of each
// name, unfolded. A line that is neither a field nor begins with white space is taken for
// a part of the field before it: some programs lose the white space.
func readHeader(b *bufio.Reader) map[string]string {
	h, last, first := make(map[string]string), "", ""
	for size := 0; size < maxHeader; {
		line, err := b.ReadString('\n')
		size += len(line)
		text := strings.TrimRight(line, "\r\n")
		if text == "" {
			break
		}
		name, value, ok := strings.Cut(text, ":")
		switch {
		case text[0] == ' ' || text[0] == '\t' || !ok || !isFieldName(name):
			if last == "" {
				return nil // no header begins so
			}
			if first == last {
				h[last] += " " + strings.TrimSpace(text)
			}
		default:
			last = strings.ToLower(strings.TrimSpace(name))
			if first = ""; h[last] == "" {
				h[last], first = strings.TrimSpace(value), last
			}
		}
		if err != nil {
			break
		}
	}
	return h
}

func isFieldName(name string) bool {
	name = strings.TrimRight(name, " \t")
	for i := range len(name) {
		if name[i] <= ' ' || name[i] >= 0x7f || name[i] == '=' || name[i] == '"' || name[i] == ';' {
			return false
		}
	}
	return name != ""
}

// part looks at a mail or a part of it, which has a header and a body.
func (s *scan) part(h map[string]string, body io.Reader, nesting int) {
	kind, params, err := mime.ParseMediaType(h["content-type"])
	if err != nil && params == nil {
		kind, params = looseMediaType(h["content-type"])
	}
	if strings.HasPrefix(kind, "multipart/") && params["boundary"] != "" {
		s.parts(body, params["boundary"], nesting)
		return
	}
	body = decode(body, h["content-transfer-encoding"])
	if kind == "message/rfc822" {
		s.message(bounded{s, body}, nesting+1)
		return
	}
	name := params["name"]
	if _, p, err := mime.ParseMediaType(h["content-disposition"]); err == nil && p["filename"] != "" {
		name = p["filename"]
	}
	s.file(body, word(name), nesting+1)
}

// looseMediaType reads a Content-Type that breaks RFC 2045.
func looseMediaType(text string) (kind string, params map[string]string) {
	parts := strings.Split(text, ";")
	params = make(map[string]string)
	for _, p := range parts[1:] {
		name, value, _ := strings.Cut(p, "=")
		params[strings.ToLower(strings.TrimSpace(name))] = strings.Trim(strings.TrimSpace(value), `"`)
	}
	return strings.ToLower(strings.TrimSpace(parts[0])), params
}

func (s *scan) parts(body io.Reader, boundary string, nesting int) {
	if nesting >= maxNesting {
		return
	}
	m := multipart.NewReader(body, boundary)
	for range maxEntries {
		p, err := m.NextRawPart()
		if err != nil { // the end, or what cannot be read on from here
			if errors.Is(err, ErrTooLarge) {
				s.give(Found{Err: err})
			}
			return
		}
		if s.ended {
			return
		}
		h := make(map[string]string, len(p.Header))
		for name, values := range p.Header {
			h[strings.ToLower(name)] = values[0]
		}
		s.part(h, p, nesting+1)
	}
}

// decode decodes a Content-Transfer-Encoding.
func decode(r io.Reader, encoding string) io.Reader {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "base64":
		return base64.NewDecoder(base64.StdEncoding, base64Only{r})
	case "quoted-printable":
		return quotedprintable.NewReader(r)
	}
	return r
}

// base64Only leaves out what is no base64, as RFC 2045, 6.8, asks for.
type base64Only struct{ from io.Reader }

// Read implements io.Reader.
func (b base64Only) Read(p []byte) (int, error) {
	for {
		n, err := b.from.Read(p)
		kept := 0
		for _, c := range p[:n] {
			if c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '+' || c == '/' || c == '=' {
				p[kept] = c
				kept++
			}
		}
		if kept > 0 || err != nil {
			return kept, err
		}
	}
}

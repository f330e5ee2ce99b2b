package ingress

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/mailheader"
	"github.com/stsrelay/stsrelay/queue"
)

// maxHeader bounds the size of a message's header; Exchange allows 256 KiB.
const maxHeader = 256 << 10

var errLongHeader = errors.New("the header of the message is larger than 256 KiB")

// headerReader is a writer that passes a message on to w and parses its header. It buffers
// the header until it is whole, adds the missing fields, and streams the rest.
type headerReader struct {
	w        io.Writer
	complete func(h header) (add []byte, err error)
	keep     func(field []byte) bool   // reports whether a field stays; nil: all do
	change   func(field []byte) []byte // returns what takes the place of a field; nil: none changes
	buf      []byte
	done     bool
}

// header has the properties of a message's header that the relay needs.
type header struct {
	received       int
	hasDate        bool
	messageID      string   // "" if there is none
	subject        string   // "" if there is none
	from           [][]byte // the From fields that are not empty
	tlsRequiredNo  bool
	tlsRequiredAll int // number of TLS-Required fields
	nonASCII       bool
}

func (h *headerReader) Write(p []byte) (int, error) {
	if h.done {
		return h.w.Write(p)
	}
	if len(h.buf) == 0 {
		if end := headerEnd(p, 0); end >= 0 { // the usual case: nothing to buffer
			return len(p), h.flush(p[:end], p[end:])
		}
	}
	from := max(len(h.buf)-3, 0) // the part before was searched
	h.buf = append(h.buf, p...)
	end := headerEnd(h.buf, from)
	if end < 0 {
		if len(h.buf) > maxHeader {
			return 0, errLongHeader
		}
		return len(p), nil
	}
	return len(p), h.flush(h.buf[:end], h.buf[end:])
}

// finish completes a message that ended within its header. It is called at the end of
// every message.
func (h *headerReader) finish() error {
	if h.done {
		return nil
	}
	return h.flush(h.buf, nil)
}

// flush passes on the completed header and the octets received after it.
func (h *headerReader) flush(head, rest []byte) error {
	h.done, h.buf = true, nil
	head = withoutMbox(head)
	if len(head) > 0 && mailheader.Name(head) == "" {
		// A text without a header. The fields that are added become its header, so
		// an empty line is needed between them and the text.
		head, rest = nil, slices.Concat([]byte("\r\n"), head, rest)
	}
	if h.change != nil {
		var changed []byte
		for field := range mailheader.Fields(head) {
			changed = append(changed, h.change(field)...)
		}
		head = changed
	}
	add, err := h.complete(parseHeader(head))
	if err != nil {
		return err
	}
	if _, err := h.w.Write(add); err != nil {
		return err
	}
	for field := range mailheader.Fields(head) {
		if empty(field) || h.keep != nil && !h.keep(field) {
			continue
		}
		if _, err := h.w.Write(field); err != nil {
			return err
		}
	}
	_, err = h.w.Write(rest)
	return err
}

// headerEnd returns the index after the header's last line, -1 if b does not contain it.
// The search starts at from.
func headerEnd(b []byte, from int) int {
	if bytes.HasPrefix(b, []byte("\r\n")) {
		return 0
	}
	if i := bytes.Index(b[from:], []byte("\r\n\r\n")); i >= 0 {
		return from + i + 2
	}
	return -1
}

func parseHeader(b []byte) (h header) {
	h.nonASCII = !isASCII(b)
	for field := range mailheader.Fields(b) {
		switch mailheader.Name(field) {
		case "received":
			h.received++
		case "from":
			if !empty(field) {
				h.from = append(h.from, field)
			}
		case "date":
			h.hasDate = h.hasDate || !empty(field)
		case "message-id":
			if h.messageID == "" {
				h.messageID = mailheader.Value(field)
			}
		case "subject":
			if h.subject == "" {
				h.subject = mailheader.Value(field)
			}
		case "tls-required":
			h.tlsRequiredAll++
			h.tlsRequiredNo = strings.EqualFold(mailheader.Value(field), "no")
		}
	}
	return h
}

// empty reports whether a field has no value although every message needs one
// (RFC 5322, 3.6). Such a field is removed, and one with a value takes its place.
func empty(field []byte) bool {
	switch mailheader.Name(field) {
	case "from", "date", "message-id":
		return !mailheader.HasValue(field)
	}
	return false
}

// withoutMbox removes the separator lines of mbox files from a header, such as
// "From root@copier Mon Jan  1 …". Other programs would take such a line for the end of
// the header. Only lines before a field are removed, so a text that happens to have a
// line beginning with "From " stays whole.
func withoutMbox(head []byte) []byte {
	if !bytes.Contains(head, []byte("From ")) {
		return head
	}
	var out, lines []byte // lines are mbox lines if a field follows them
	rest := head
	for field := range mailheader.Fields(head) {
		switch {
		case mailheader.Name(field) != "":
			out, lines = append(out, field...), nil
		case bytes.HasPrefix(bytes.TrimLeft(field, ">"), []byte("From ")):
			lines = append(lines, field...)
		default: // the header has ended
			return slices.Concat(out, lines, rest)
		}
		rest = rest[len(field):]
	}
	return slices.Concat(out, lines)
}

// Headers configures which header fields of incoming messages are removed.
type Headers struct {
	// Strip are the names of fields to remove; a final * matches any ending.
	Strip []string
	// HideInternalHops removes the Received fields of servers before this relay.
	HideInternalHops bool
}

// keeps returns a function that reports whether a field stays, nil if all fields stay.
func (h *Headers) keeps(hostname string) func([]byte) bool {
	if len(h.Strip) == 0 && !h.HideInternalHops {
		return nil
	}
	return func(field []byte) bool {
		name := mailheader.Name(field)
		if h.HideInternalHops && name == "received" {
			// The relay's own fields stay: they are needed to detect loops.
			return bytes.Contains(field, []byte("by "+hostname+" with "))
		}
		return !slices.ContainsFunc(h.Strip, func(s string) bool {
			if stem, ok := strings.CutSuffix(s, "*"); ok {
				return len(name) >= len(stem) && strings.EqualFold(name[:len(stem)], stem)
			}
			return strings.EqualFold(name, s)
		})
	}
}

func isASCII(b []byte) bool {
	return !slices.ContainsFunc(b, func(c byte) bool { return c >= 0x80 })
}

// received appends the Received field (RFC 5321, 4.4; RFC 3848 for the protocol) to b.
func (s *session) received(b []byte, env *queue.Envelope, id string, now time.Time) []byte {
	b = append(append(append(b, "Received: from "...), s.helo...), " (["...)
	if s.conn.remote.Is6() {
		b = append(b, "IPv6:"...)
	}
	b = append(s.conn.remote.AppendTo(b), "])"...)
	b = append(b, s.overTLS()...)
	b = append(append(append(b, "\r\n\tby "...), s.server.hostname...), " with "...)
	switch {
	case !s.conn.dialogue.esmtp:
		b = append(b, "SMTP"...)
	case env.SMTPUTF8:
		b = append(b, "UTF8SMTP"...)
	default:
		b = append(b, "ESMTP"...)
	}
	if s.conn.dialogue.esmtp && s.conn.tls != nil {
		b = append(b, 'S')
	}
	if s.conn.dialogue.esmtp && s.user.Name != "" {
		b = append(b, 'A')
	}
	b = append(append(b, " id "...), id...)
	if len(env.Recipients) == 1 && len(env.Recipients[0].Address) <= longAddress {
		b = append(append(append(b, "\r\n\tfor <"...), env.Recipients[0].Address...), '>')
	}
	return append(now.AppendFormat(append(b, ";\r\n\t"...), time.RFC1123Z), "\r\n"...)
}

// overTLS returns the line of the Received field about TLS, "" for a session in clear. It is
// made once for a session.
func (s *session) overTLS() string {
	if t := s.conn.tls; t != s.described.of {
		s.described.of = t
		s.described.text = fmt.Sprintf("\r\n\t(using %s with cipher %s)", tls.VersionName(t.Version), tls.CipherSuiteName(t.CipherSuite))
	}
	return s.described.text
}

package ingress

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/mail"
	"slices"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/queue"
)

// maxHeader bounds the header of a message; Exchange allows 256 KiB.
const maxHeader = 256 << 10

var errLongHeader = errors.New("the header of the message is larger than 256 KiB")

// headerReader lets a message through to w and looks at its header on the way:
// it holds the header back until it is whole, completes it and goes on
// streaming.
type headerReader struct {
	w        io.Writer
	complete func(h header) (add string, err error)
	buf      []byte
	done     bool
}

// header is what the relay needs to know of a message's header.
type header struct {
	received       int
	hasDate        bool
	hasMessageID   bool
	tlsRequiredNo  bool
	tlsRequiredAll int // fields of that name
	nonASCII       bool
	from           string // the first From field, unfolded
}

func (h *headerReader) Write(p []byte) (int, error) {
	if h.done {
		return h.w.Write(p)
	}
	h.buf = append(h.buf, p...)
	end := headerEnd(h.buf)
	if end < 0 {
		if len(h.buf) > maxHeader {
			return 0, errLongHeader
		}
		return len(p), nil
	}
	return len(p), h.flush(end)
}

// end is called at the end of the message: it may have had no body.
func (h *headerReader) end() error {
	if h.done {
		return nil
	}
	return h.flush(len(h.buf))
}

func (h *headerReader) flush(end int) error {
	h.done = true
	add, err := h.complete(parseHeader(h.buf[:end]))
	if err != nil {
		return err
	}
	if _, err := io.WriteString(h.w, add); err != nil {
		return err
	}
	_, err = h.w.Write(h.buf)
	h.buf = nil
	return err
}

// headerEnd is the index behind the header's last line, -1 while it has not
// been seen. A first line that is no field ends a header that is not there.
func headerEnd(b []byte) int {
	if bytes.HasPrefix(b, []byte("\r\n")) {
		return 0
	}
	if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
		return i + 2
	}
	return -1
}

func parseHeader(b []byte) (h header) {
	h.nonASCII = !isASCII(b)
	inFrom := false
	for line := range bytes.Lines(b) {
		folded := line[0] == ' ' || line[0] == '\t'
		if folded && inFrom {
			h.from += string(line)
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || folded {
			continue
		}
		inFrom = false
		switch strings.ToLower(strings.TrimRight(string(name), " \t")) {
		case "received":
			h.received++
		case "from":
			inFrom = h.from == ""
			if inFrom {
				h.from = string(value)
			}
		case "date":
			h.hasDate = true
		case "message-id":
			h.hasMessageID = true
		case "tls-required":
			h.tlsRequiredAll++
			h.tlsRequiredNo = strings.EqualFold(strings.TrimSpace(string(value)), "no")
		}
	}
	return h
}

// fromDomain is the domain of the first address of a From field, in A-labels, ""
// where there is none.
func fromDomain(field string) string {
	list, err := mail.ParseAddressList(strings.TrimSpace(strings.ReplaceAll(field, "\r\n", "")))
	if err != nil || len(list) == 0 {
		return ""
	}
	m, err := mailbox.FromUnquoted(list[0].Address)
	if err != nil {
		return ""
	}
	return m.Domain
}

func isASCII(b []byte) bool {
	return !slices.ContainsFunc(b, func(c byte) bool { return c >= 0x80 })
}

// received is the trace line (RFC 5321, 4.4; RFC 3848 for the protocol).
func (s *session) received(env *queue.Envelope, id string, now time.Time) string {
	protocol := "SMTP"
	if s.conn.esmtp {
		protocol = "ESMTP"
		if env.SMTPUTF8 {
			protocol = "UTF8SMTP"
		}
		if s.conn.tls != nil {
			protocol += "S"
		}
		if s.user != "" {
			protocol += "A"
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Received: from %s ([%s])", s.helo, literal(s.conn.remote.String()))
	if t := s.conn.tls; t != nil {
		fmt.Fprintf(&b, "\r\n\t(using %s with cipher %s)", tls.VersionName(t.Version), tls.CipherSuiteName(t.CipherSuite))
	}
	fmt.Fprintf(&b, "\r\n\tby %s with %s id %s", s.server.hostname, protocol, id)
	if len(env.Recipients) == 1 {
		fmt.Fprintf(&b, "\r\n\tfor <%s>", env.Recipients[0].Address)
	}
	fmt.Fprintf(&b, ";\r\n\t%s\r\n", now.Format(time.RFC1123Z))
	return b.String()
}

// literal is an address as it stands in an address literal.
func literal(addr string) string {
	if strings.Contains(addr, ":") {
		return "IPv6:" + addr
	}
	return addr
}

package smtpclient

import (
	"bufio"
	"bytes"
	"io"
)

// bodyWriter writes a message the way DATA wants it (RFC 5321, 4.5.2): lines
// that begin with a dot get a second one, the message ends with CRLF, and no
// bare CR or LF goes out: one that is found becomes CRLF.
type bodyWriter struct {
	w         *bufio.Writer
	midLine   bool // the present line has begun
	pendingCR bool // a CR was seen and not yet written
}

func (b *bodyWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if b.pendingCR {
			b.pendingCR = false
			if err := b.endLine(); err != nil {
				return 0, err
			}
			if p[0] == '\n' {
				p = p[1:]
				continue
			}
		}
		if !b.midLine && p[0] == '.' {
			if err := b.w.WriteByte('.'); err != nil {
				return 0, err
			}
		}
		run, rest := b.line(p)
		if len(run) > 0 {
			b.midLine = true
			if _, err := b.w.Write(run); err != nil {
				return 0, err
			}
		}
		if p = rest; len(p) == 0 {
			break
		}
		if p[0] == '\r' {
			b.pendingCR = true
		} else if err := b.endLine(); err != nil {
			return 0, err
		}
		p = p[1:]
	}
	return n, nil
}

// line returns what p holds of the present line, and what follows, from its CR
// or LF on.
func (b *bodyWriter) line(p []byte) (run, rest []byte) {
	i := bytes.IndexByte(p, '\n')
	if i < 0 {
		i = len(p)
	}
	if j := bytes.IndexByte(p[:i], '\r'); j >= 0 {
		i = j
	}
	return p[:i], p[i:]
}

func (b *bodyWriter) endLine() error {
	b.midLine = false
	_, err := b.w.WriteString("\r\n")
	return err
}

// end writes what is missing up to and with the final dot.
func (b *bodyWriter) end() error {
	if b.midLine || b.pendingCR {
		b.pendingCR = false
		if err := b.endLine(); err != nil {
			return err
		}
	}
	_, err := b.w.WriteString(".\r\n")
	return err
}

var _ io.Writer = (*bodyWriter)(nil)

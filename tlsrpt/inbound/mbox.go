package inbound

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// readMbox reads the mails of an mbox file (RFC 4155), each with bounds of its own.
func readMbox(b *bufio.Reader, verify func(io.Reader) string, yield func(Found) bool) {
	for n := 1; ; n++ {
		m := &mboxMail{from: b}
		s := &scan{left: MaxSize, where: fmt.Sprintf("mail %d", n), verify: verify, yield: yield}
		if !m.skipLine() {
			if n == 1 {
				s.nothing()
			}
			return
		}
		s.file(m, "", 0)
		s.nothing()
		if _, err := io.Copy(io.Discard, m); err != nil || s.ended {
			return
		}
	}
}

// mboxMail reads one mail of an mbox file: to the line before the next that begins with
// "From " after an empty one. A line may come in pieces.
type mboxMail struct {
	from  *bufio.Reader
	piece []byte // of a line, not read so far
	// within reports whether the next piece is not the beginning of a line.
	within bool
	// empty reports whether the line before was empty.
	empty bool
	ended bool
}

// skipLine skips the "From " line before a mail.
func (m *mboxMail) skipLine() bool {
	for {
		_, err := m.from.ReadSlice('\n')
		if err == nil {
			return true
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return false
		}
	}
}

// Read implements io.Reader.
func (m *mboxMail) Read(p []byte) (int, error) {
	if len(m.piece) == 0 {
		if m.ended {
			return 0, io.EOF
		}
		if !m.within && m.empty {
			if next, _ := m.from.Peek(5); string(next) == "From " {
				m.ended = true
				return 0, io.EOF
			}
		}
		piece, err := m.from.ReadSlice('\n')
		if len(piece) == 0 {
			return 0, err
		}
		m.empty = !m.within && len(bytes.TrimRight(piece, "\r\n")) == 0
		m.within = errors.Is(err, bufio.ErrBufferFull)
		m.piece = piece
	}
	n := copy(p, m.piece)
	m.piece = m.piece[n:]
	return n, nil
}

package smtpclient

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// The limits of a reply. RFC 5321 allows 512 octets a line; hosts in the wild
// send more.
const (
	maxReplyLine  = 4 << 10
	maxReplyLines = 100
	maxReplyText  = 500 // of Reply.String
)

// Reply is the answer of a host to a command (RFC 5321, 4.2).
type Reply struct {
	// Code is the three-digit code; 0: there was no reply.
	Code int
	// Enhanced is the enhanced status code (RFC 2034), "5.1.1", or "".
	Enhanced string
	// Lines are the texts behind code and enhanced code, with bytes that are no
	// printable ASCII escaped.
	Lines []string
}

// Temporary reports a 4xx reply.
func (r Reply) Temporary() bool { return r.Code/100 == 4 }

// Permanent reports a 5xx reply.
func (r Reply) Permanent() bool { return r.Code/100 == 5 }

// OK reports a 2xx reply.
func (r Reply) OK() bool { return r.Code/100 == 2 }

// String is the reply in one line of at most 500 characters, "" where there was
// none.
func (r Reply) String() string {
	if r.Code == 0 {
		return ""
	}
	s := fmt.Sprintf("%d ", r.Code)
	if r.Enhanced != "" {
		s += r.Enhanced + " "
	}
	s = strings.TrimSpace(s + strings.Join(r.Lines, " "))
	if len(s) > maxReplyText {
		s = s[:maxReplyText-1] + "…"
	}
	return s
}

// ErrProtocol is wrapped by errors about bytes that are no SMTP.
var ErrProtocol = errors.New("not an SMTP reply")

// ErrUnexpected is wrapped by errors about replies that cannot be ones to what was
// said, such as 250 to DATA.
var ErrUnexpected = errors.New("the host says what does not belong there")

// readReply reads one reply, of one line or several.
func readReply(br *bufio.Reader) (Reply, error) {
	var r Reply
	for n := range maxReplyLines {
		line, err := readLine(br)
		if err != nil {
			return Reply{}, err
		}
		code, last, text, ok := splitLine(line)
		if !ok || n > 0 && code != r.Code {
			return Reply{}, fmt.Errorf("%w: %q", ErrProtocol, cutText(line, 80))
		}
		r.Code = code
		enhanced, text := cutEnhanced(text, code)
		if n == 0 {
			r.Enhanced = enhanced
		}
		r.Lines = append(r.Lines, escape(text))
		if last {
			return r, nil
		}
	}
	return Reply{}, fmt.Errorf("%w: more than %d lines", ErrProtocol, maxReplyLines)
}

// readLine reads to the next LF. An endless line is an error, not a memory.
func readLine(br *bufio.Reader) (string, error) {
	line, err := br.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull) || len(line) > maxReplyLine:
		return "", fmt.Errorf("%w: a line of more than %d octets", ErrProtocol, maxReplyLine)
	case err == io.EOF && len(line) > 0:
		return "", io.ErrUnexpectedEOF
	case err != nil:
		return "", err
	}
	return strings.TrimRight(string(line), "\r\n"), nil
}

// splitLine takes "250-text" or "250 text" or "250" apart.
func splitLine(line string) (code int, last bool, text string, ok bool) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' {
		return 0, false, "", false
	}
	for i := range 3 {
		if line[i] < '0' || line[i] > '9' {
			return 0, false, "", false
		}
		code = 10*code + int(line[i]-'0')
	}
	if len(line) == 3 {
		return code, true, "", true
	}
	return code, line[3] == ' ', line[4:], line[3] == ' ' || line[3] == '-'
}

// cutEnhanced takes an enhanced status code of the reply's class off the text.
func cutEnhanced(text string, code int) (enhanced, rest string) {
	first, rest, _ := strings.Cut(text, " ")
	parts := strings.Split(first, ".")
	if len(parts) != 3 || parts[0] != string(rune('0'+code/100)) {
		return "", text
	}
	for _, p := range parts[1:] {
		if p == "" || len(p) > 3 || strings.Trim(p, "0123456789") != "" {
			return "", text
		}
	}
	return first, rest
}

func escape(s string) string {
	clean := true
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f {
			fmt.Fprintf(&b, `\x%02x`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func cutText(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

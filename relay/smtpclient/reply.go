package smtpclient

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/stsrelay/stsrelay/internal/phrase"
)

// The limits of a reply. RFC 5321 allows 512 octets a line, and hosts send more. What
// exceeds the first two is thrown away, and the code still counts. What exceeds the
// next three is no reply.
const (
	keptLine      = 4 << 10 // octets of a line
	keptLines     = 100
	maxLine       = 64 << 10
	maxLines      = 1000
	maxReplyBytes = 512 << 10
	maxReplyText  = 500 // of Reply.String
)

// Reply is the answer of a host to a command (RFC 5321, 4.2).
type Reply struct {
	// Code is the three-digit code; 0: there was no reply. Where the lines have
	// different codes, it is that of the last one.
	Code int
	// Enhanced is the enhanced status code (RFC 2034), "5.1.1", or "".
	Enhanced string
	// Lines are the texts behind code and enhanced code, valid UTF-8 (RFC 6531,
	// 3.5), with all that cannot be printed escaped: "\xff".
	Lines []string

	whole string // the only line as it was said; "" for other replies
}

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
	s := r.whole
	if s == "" {
		s = strconv.Itoa(r.Code) + " " + strings.TrimSpace(r.Enhanced+" "+strings.Join(r.Lines, " "))
	}
	s = strings.TrimSpace(s)
	if utf8.RuneCountInString(s) > maxReplyText {
		s = string([]rune(s)[:maxReplyText-1]) + "…"
	}
	return s
}

// line returns a line of the reply as it is told.
func (r *Reply) line(i int) string {
	if r.whole != "" {
		return r.whole
	}
	mark := "-"
	if i == len(r.Lines)-1 {
		mark = " "
	}
	enhanced := r.Enhanced
	if enhanced != "" {
		enhanced += " "
	}
	return strconv.Itoa(r.Code) + mark + enhanced + r.Lines[i]
}

// maxKnown bounds the replies of a host that are kept, and maxKnownLine the octets of each.
const (
	maxKnown     = 16
	maxKnownLine = 200
)

// knownReplies are replies of one line that a host has given before, by their octets: to the
// envelopes of most messages it says the same.
type knownReplies map[string]Reply

// read reads a reply like readReply. remember reports whether it may be kept.
func (k *knownReplies) read(br *bufio.Reader, remember bool) (Reply, error) {
	if _, err := br.Peek(1); err != nil {
		return Reply{}, err
	}
	line, _ := br.Peek(br.Buffered())
	line = line[:bytes.IndexByte(line, '\n')+1]
	if r, ok := (*k)[string(line)]; ok {
		_, _ = br.Discard(len(line))
		return r, nil
	}
	key := ""
	if remember && len(line) <= maxKnownLine && len(*k) < maxKnown {
		key = string(line)
	}
	r, err := readReply(br)
	if key != "" && err == nil && r.whole != "" {
		if *k == nil {
			*k = make(knownReplies)
		}
		(*k)[key] = r
	}
	return r, err
}

// ErrProtocol is wrapped by errors about octets that are not SMTP.
var ErrProtocol = phrase.Errorf("not an SMTP reply")

// ErrUnexpected is wrapped by errors about replies that a step cannot have, such as 250
// to DATA.
var ErrUnexpected = phrase.Errorf("the host says what does not belong there")

// readReply reads one reply, of one line or several. Hosts differ from RFC 5321, 4.2.1
// in what they put between the first line and the last one. The code of the last line
// counts.
func readReply(br *bufio.Reader) (Reply, error) {
	var first [1]replyLine
	lines := first[:0]
	for n, total := 0, 0; n < maxLines; n++ {
		line, size, err := readLine(br, min(maxLine, maxReplyBytes-total))
		if err != nil {
			return Reply{}, err
		}
		total += size
		l, ok := splitLine(line)
		switch {
		case !ok && len(lines) == 0:
			return Reply{}, phrase.Errorf("%w: %q", ErrProtocol, cutText(line, 80))
		case !ok:
			l = replyLine{text: line, more: true} // a line of text without a code
		}
		l.whole = line
		if len(lines) < keptLines {
			lines = append(lines, l)
		}
		if !l.more {
			return newReply(l.code, lines), nil
		}
	}
	return Reply{}, phrase.Errorf("%w: more than %d lines", ErrProtocol, maxLines)
}

// newReply makes a reply of the given code from lines.
func newReply(code int, lines []replyLine) Reply {
	r := Reply{Code: code, Lines: make([]string, len(lines))}
	for i, l := range lines {
		enhanced, text := cutEnhanced(l.text, l.code)
		if r.Enhanced == "" && enhanced != "" && l.code/100 == code/100 {
			r.Enhanced = enhanced
		}
		r.Lines[i] = escape(text)
	}
	if len(lines) == 1 && len(lines[0].whole) > len("250 ") {
		r.whole = escape(lines[0].whole)
	}
	return r
}

// readLine reads to the next LF. It returns the first octets of the line, and how many
// it had. More octets than limit are an error.
func readLine(br *bufio.Reader, limit int) (line string, size int, err error) {
	for {
		part, err := br.ReadSlice('\n')
		if size += len(part); size > limit {
			return "", 0, phrase.Errorf("%w: it is too long", ErrProtocol)
		}
		line += string(part[:min(len(part), keptLine-len(line))])
		switch {
		case err == nil:
			return strings.TrimRight(line, "\r\n"), size, nil
		case err == io.EOF && size > 0:
			return "", 0, io.ErrUnexpectedEOF
		case !errors.Is(err, bufio.ErrBufferFull):
			return "", 0, err
		}
	}
}

// replyLine is one line of a reply.
type replyLine struct {
	code int // 0: it has none
	text string
	more bool // another line follows

	whole string // the line itself
}

// splitLine takes "250-text" or "250 text" or "250" apart. Some hosts have a tab in the place of
// the space.
func splitLine(line string) (l replyLine, ok bool) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' {
		return l, false
	}
	for i := range 3 {
		if line[i] < '0' || line[i] > '9' {
			return l, false
		}
		l.code = 10*l.code + int(line[i]-'0')
	}
	if len(line) == 3 {
		return l, true
	}
	l.text, l.more = line[4:], line[3] == '-'
	return l, l.more || line[3] == ' ' || line[3] == '\t'
}

// cutEnhanced takes an enhanced status code of the reply's class off the text.
func cutEnhanced(text string, code int) (enhanced, rest string) {
	first, rest, _ := strings.Cut(text, " ")
	class, detail, _ := strings.Cut(first, ".")
	subject, detail, _ := strings.Cut(detail, ".")
	if class != string(rune('0'+code/100)) {
		return "", text
	}
	for _, p := range [...]string{subject, detail} {
		if p == "" || len(p) > 3 || strings.Trim(p, "0123456789") != "" {
			return "", text
		}
	}
	return first, rest
}

// escape makes s readable: octets that are not printable characters in UTF-8 become
// "\xff".
func escape(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r != utf8.RuneError && unicode.IsPrint(r) {
			b.WriteString(s[:n])
		} else {
			for _, c := range []byte(s[:n]) {
				fmt.Fprintf(&b, `\x%02x`, c)
			}
		}
		s = s[n:]
	}
	return b.String()
}

func cutText(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

package ingress

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/emersion/go-smtp"

	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/queue"
)

// This file parses the arguments of MAIL and RCPT. go-smtp checks the order of the
// commands, but its own parser accepts invalid addresses (RFC 5321, 4.1.2), reads only
// 32 bits of a size, and refuses mail for a malformed parameter that does not matter. So
// conn gives go-smtp a command with a placeholder, and the session uses the arguments
// from here.

// The maximum length of a parameter's value, in octets (RFC 3461, 4.2, 4.4).
const (
	maxORcpt = 500
	maxEnvID = 100
)

// args are the arguments of a MAIL or RCPT command.
type args struct {
	path   string   // the address between the brackets, without source route
	params []string // as received
	err    error    // the reason why the path is invalid
}

// takeArgs parses the arguments of MAIL or RCPT into c.args. It returns the line for
// go-smtp: a command with a placeholder for the path, or the line itself if it is
// neither command. It must not be changed.
func (c *conn) takeArgs(line []byte) []byte {
	c.args = args{}
	keyword, placeholder := "FROM:", placeholderMail
	if c.dialogue.verb == "RCPT" {
		keyword, placeholder = "TO:", placeholderRcpt
	}
	arg := strings.TrimLeft(string(line[len(c.dialogue.verb):]), blanks)
	if len(arg) < len(keyword) || !strings.EqualFold(arg[:len(keyword)], keyword) {
		return line
	}
	c.args = parseArgs(strings.TrimRight(arg[len(keyword):], "\r\n"))
	return placeholder
}

// The commands with a placeholder. Nobody changes them.
var (
	placeholderMail = []byte("MAIL FROM:<>\r\n")
	placeholderRcpt = []byte("RCPT TO:<x@x>\r\n")
)

const blanks = " \t"

// parseArgs parses a path and the parameters after it. It accepts a path without
// brackets or with blanks before it, because many devices send that.
func parseArgs(s string) (a args) {
	s = strings.TrimLeft(s, blanks)
	var rest string
	if inner, ok := strings.CutPrefix(s, "<"); ok {
		end := pathEnd(inner, ">")
		if end == len(inner) {
			a.err = errors.New("the address has no > at its end")
			return a
		}
		a.path, rest = inner[:end], inner[end+1:]
		if rest != "" && !strings.ContainsAny(rest[:1], blanks) {
			a.err = errors.New("something stands behind the > of the address")
			return a
		}
	} else {
		end := pathEnd(s, blanks)
		a.path, rest = s[:end], s[end:]
		if a.path == "" {
			a.err = errors.New("there is no address")
			return a
		}
	}
	a.params = strings.FieldsFunc(rest, func(r rune) bool { return strings.ContainsRune(blanks, r) })
	if strings.HasPrefix(a.path, "@") {
		a.path, a.err = withoutRoute(a.path)
	}
	return a
}

// pathEnd returns the index in s of the first unquoted character from chars, or the
// length of s.
func pathEnd(s, chars string) int {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch b := s[i]; {
		case b == '\\' && quoted:
			i++
		case b == '"':
			quoted = !quoted
		case !quoted && strings.IndexByte(chars, b) >= 0:
			return i
		}
	}
	return len(s)
}

// withoutRoute removes a source route, which is ignored (RFC 5321, 4.1.1.3).
func withoutRoute(path string) (string, error) {
	route, rest, ok := strings.Cut(path, ":")
	for hop := range strings.SplitSeq(route, ",") {
		domain, at := strings.CutPrefix(hop, "@")
		if _, err := mailbox.ParseName(domain); !ok || !at || err != nil {
			return "", errors.New("the address begins with a source route that cannot be read")
		}
	}
	return rest, nil
}

// param splits a parameter into its keyword, in upper case, and its value.
func param(s string) (keyword, value string) {
	keyword, value, _ = strings.Cut(s, "=")
	return strings.ToUpper(keyword), value
}

// size returns the SIZE of a MAIL command (RFC 1870, 6), 0 if it has none. A size that
// is too large for an int64 counts as the largest int64.
func (a *args) size() (size int64) {
	for _, p := range a.params {
		if keyword, value := param(p); keyword == "SIZE" {
			n, err := strconv.ParseUint(value, 10, 64)
			if err == nil || errors.Is(err, strconv.ErrRange) { // with ErrRange, n is the largest uint64
				size = int64(min(n, math.MaxInt64))
			}
		}
	}
	return size
}

// mailParams puts the parameters of MAIL into the envelope. A malformed parameter that
// delivery does not depend on is dropped and logged.
func (s *session) mailParams(env *queue.Envelope) *smtp.SMTPError {
	for _, p := range s.conn.args.params {
		keyword, value := param(p)
		ok := true
		switch keyword {
		case "SIZE":
			ok = value != "" && strings.Trim(value, "0123456789") == ""
		case "BODY":
			switch strings.ToUpper(value) {
			case "8BITMIME":
				env.EightBit = true
			case "7BIT":
			case "BINARYMIME":
				return reply(504, 5, 5, 4, "BODY=BINARYMIME is not offered")
			default:
				ok = false
			}
		case "SMTPUTF8":
			env.SMTPUTF8 = true
		case "REQUIRETLS":
			env.RequireTLS = true
		case "AUTH": // ignored: clients are not trusted with it (RFC 4954, 5)
		case "RET":
			if v := strings.ToUpper(value); v == "FULL" || v == "HDRS" {
				env.Ret = v
			} else {
				ok = false
			}
		case "ENVID":
			var id string
			if id, ok = xtext(value); ok && len(value) <= maxEnvID && printableASCII(id) {
				env.EnvID = strings.Clone(id)
			} else {
				ok = false
			}
		default:
			return reply(555, 5, 5, 4, "a parameter of MAIL is not known")
		}
		if !ok {
			s.dropped(keyword, value)
		}
	}
	return nil
}

// rcptParams puts the parameters of RCPT into a recipient, like mailParams.
func (s *session) rcptParams(r *queue.Recipient) *smtp.SMTPError {
	for _, p := range s.conn.args.params {
		keyword, value := param(p)
		var ok bool
		switch keyword {
		case "NOTIFY":
			r.Notify, ok = parseNotify(value)
		case "ORCPT":
			r.ORcpt, ok = parseORcpt(value)
		case "RRVS", "BY", "MT-PRIORITY":
			return reply(555, 5, 5, 4, "%s is not offered", keyword)
		default:
			return reply(555, 5, 5, 4, "a parameter of RCPT is not known")
		}
		if !ok {
			s.dropped(keyword, value)
		}
	}
	return nil
}

func (s *session) dropped(keyword, value string) {
	s.server.log.Info("a parameter that cannot be read was dropped", "client", s.conn.remote.String(), "helo", s.helo,
		"command", s.conn.dialogue.verb, "parameter", keyword, "value", value[:min(len(value), 100)])
}

// parseNotify parses the value of NOTIFY (RFC 3461, 4.1).
func parseNotify(value string) ([]string, bool) {
	var out []string
	given := make(map[string]bool)
	for v := range strings.SplitSeq(strings.ToUpper(value), ",") {
		if given[v] {
			continue
		}
		given[v] = true
		switch v {
		case "NEVER":
			out = append(out, "NEVER")
		case "SUCCESS":
			out = append(out, "SUCCESS")
		case "FAILURE":
			out = append(out, "FAILURE")
		case "DELAY":
			out = append(out, "DELAY")
		default:
			return nil, false
		}
	}
	if given["NEVER"] && len(out) > 1 {
		return nil, false
	}
	return out, true
}

// parseORcpt parses the value of ORCPT (RFC 3461, 4.2; RFC 6533, 3), an address of any
// type. It accepts an unencoded "=", although RFC 3461 wants it encoded.
func parseORcpt(value string) (string, bool) {
	kind, addr, ok := strings.Cut(value, ";")
	if !ok || len(value) > maxORcpt || kind == "" || strings.ContainsFunc(kind, func(r rune) bool { return !isAtom(r) }) {
		return "", false
	}
	if strings.EqualFold(kind, "utf-8") {
		addr, ok = utf8Address(addr)
	} else {
		addr, ok = xtext(addr)
		ok = ok && printableASCII(addr)
	}
	if !ok || addr == "" {
		return "", false
	}
	return kind + ";" + addr, true
}

func isAtom(r rune) bool {
	return r > ' ' && r <= '~' && !strings.ContainsRune(`()<>@,;:\"/[]?=+`, r)
}

// xtext decodes a value (RFC 3461, 4).
func xtext(s string) (string, bool) {
	if !strings.Contains(s, "+") {
		return s, true
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '+' {
			b.WriteByte(s[i])
			continue
		}
		if len(s) < i+3 || strings.Trim(s[i+1:i+3], "0123456789ABCDEF") != "" {
			return "", false
		}
		n, _ := strconv.ParseUint(s[i+1:i+3], 16, 8) // no error: the two characters are hexadecimal digits
		b.WriteByte(byte(n))
		i += 2
	}
	return b.String(), true
}

// utf8Address decodes utf-8-addr-xtext and utf-8-addr-unitext (RFC 6533, 3).
func utf8Address(s string) (string, bool) {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(s, `\x{`)
		b.WriteString(before)
		if !ok {
			break
		}
		hex, after, ok := strings.Cut(rest, "}")
		n, err := strconv.ParseUint(hex, 16, 21)
		if !ok || err != nil {
			return "", false
		}
		b.WriteRune(rune(n))
		s = after
	}
	out := b.String()
	return out, utf8.ValidString(out) && !strings.ContainsFunc(out, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError })
}

func printableASCII(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// helloLine returns the EHLO or HELO line for go-smtp. go-smtp refuses the command
// without a name, and some harmless devices send none, so the line then has the name
// "unknown".
func helloLine(verb, arg string) []byte {
	name, _, _ := strings.Cut(strings.Trim(arg, blanks), " ")
	if name == "" {
		name = "unknown"
	}
	return []byte(verb + " " + name + "\r\n")
}

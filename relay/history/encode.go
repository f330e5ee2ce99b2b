package history

import (
	"strconv"
	"time"
	"unicode/utf8"
)

// The lines are written by hand: there are two of them for each message, and reflection
// costs several times as much. TestLinesAreThoseOfEncodingJSON holds them against
// encoding/json.

// object writes the fields of a JSON object.
type object struct {
	b     []byte
	comma bool
}

func (o *object) key(name string) {
	if o.comma {
		o.b = append(o.b, ',')
	}
	o.comma = true
	o.b = append(append(append(o.b, '"'), name...), '"', ':')
}

// text writes a field that is left out where it is empty.
func (o *object) text(name, value string) {
	if value != "" {
		o.key(name)
		o.b = appendText(o.b, value)
	}
}

func (o *object) number(name string, value int64) {
	if value != 0 {
		o.key(name)
		o.b = strconv.AppendInt(o.b, value, 10)
	}
}

func (o *object) time(name string, at time.Time) {
	o.key(name)
	o.b = append(at.AppendFormat(append(o.b, '"'), time.RFC3339Nano), '"')
}

func (o *object) texts(name string, list []string) {
	if len(list) == 0 {
		return
	}
	o.key(name)
	o.b = append(o.b, '[')
	for i, s := range list {
		if i > 0 {
			o.b = append(o.b, ',')
		}
		o.b = appendText(o.b, s)
	}
	o.b = append(o.b, ']')
}

// appendText appends s as a JSON string. < and > are not escaped: Message-IDs stay as
// they are.
func appendText(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	begin := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				b = append(append(b, s[begin:i]...), `\ufffd`...)
				begin = i + size
			} else if r == '\u2028' || r == '\u2029' {
				b = append(append(b, s[begin:i]...), `\u202`...)
				b = append(b, hex[r&0xf])
				begin = i + size
			}
			i += size
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		b = append(b, s[begin:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		case '\b':
			b = append(b, '\\', 'b')
		case '\f':
			b = append(b, '\\', 'f')
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
		}
		i++
		begin = i
	}
	return append(append(b, s[begin:]...), '"')
}

// line appends r as it stands in a file, with its line feed.
func (r *Record) line(to []byte) []byte {
	o := object{b: append(to, '{')}
	o.time("at", r.At)
	o.key("event")
	o.b = appendText(o.b, string(r.Kind))
	o.text("queue_id", r.QueueID)
	o.text("message_id", r.MessageID)
	o.text("from", r.From)
	o.texts("to", r.To)
	o.text("domain", r.Domain)
	o.number("size", r.Size)
	o.text("subject", r.Subject)
	o.text("client", r.Client)
	o.text("user", r.User)
	o.text("client_tls", r.ClientTLS)
	o.text("verdict", r.Verdict)
	o.text("why", r.Why)
	o.text("host", r.Host)
	o.text("ip", r.IP)
	o.text("reply", r.Reply)
	o.text("status", r.Status)
	o.text("error", r.Error)
	o.number("attempt", int64(r.Number))
	if r.Took != 0 {
		o.key("took_seconds")
		o.b = strconv.AppendFloat(o.b, r.Took, 'f', -1, 64)
	}
	if r.TLS != nil {
		o.key("tls")
		o.b = r.TLS.encode(o.b)
	}
	o.text("what", r.What)
	o.text("by", r.By)
	o.text("notice", r.Notice)
	if r.MissingFrom != nil {
		o.time("missing_from", *r.MissingFrom)
	}
	if r.MissingTo != nil {
		o.time("missing_to", *r.MissingTo)
	}
	o.number("lines", int64(r.Lines))
	return append(o.b, '}', '\n')
}

func (t *TLS) encode(to []byte) []byte {
	o := object{b: append(to, '{')}
	o.text("version", t.Version)
	o.text("cipher", t.Cipher)
	o.text("group", t.Group)
	if t.OfferedAndBroke {
		o.key("offered_and_broke")
		o.b = append(o.b, "true"...)
	}
	o.key("proof")
	o.b = appendText(o.b, string(t.Proof))
	o.text("policy_id", t.PolicyID)
	o.text("policy_mode", t.PolicyMode)
	if t.PolicyFetched != nil {
		o.time("policy_fetched", *t.PolicyFetched)
	}
	o.text("tlsa", t.TLSA)
	if t.Certificate != nil {
		o.key("certificate")
		o.b = t.Certificate.encode(o.b)
	}
	return append(o.b, '}')
}

func (c *Certificate) encode(to []byte) []byte {
	if c.encoded != nil {
		return append(to, c.encoded...)
	}
	o := object{b: append(to, '{')}
	o.key("sha256")
	o.b = appendText(o.b, c.SHA256)
	o.text("subject", c.Subject)
	o.texts("names", c.Names)
	o.text("issuer", c.Issuer)
	o.text("serial", c.Serial)
	o.time("not_before", c.NotBefore)
	o.time("not_after", c.NotAfter)
	return append(o.b, '}')
}

// Package mailbox reads and writes e-mail addresses in the form of SMTP
// commands (RFC 5321, 4.1.2; RFC 6531, 3.3). It does not read header fields.
package mailbox

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"github.com/stsrelay/stsrelay/internal/phrase"
)

// Mailbox is an address in parts.
type Mailbox struct {
	// Local is the local part without quoting.
	Local string
	// Domain is lower case, in A-labels, without final dot; or an address
	// literal, "[192.0.2.1]" or "[IPv6:2001:db8::1]".
	Domain string
}

// maxDomain is the limit of RFC 5321, 4.5.3.1.2, in octets. That of local parts,
// 64, is not applied: addresses that other systems make for their own use (VERP, SRS,
// IMCEAEX) are longer, and RFC 5321 asks for "techniques that impose no limits".
const maxDomain = 255

// Parse reads an address in the form of the wire, with quoting.
func Parse(s string) (Mailbox, error) {
	local, domain, err := cut(s)
	if err != nil {
		return Mailbox{}, err
	}
	if strings.HasPrefix(local, `"`) {
		if local, err = unquote(local); err != nil {
			return Mailbox{}, fmt.Errorf("address %q: %w", s, err)
		}
	} else if !isDotString(local) {
		return Mailbox{}, fmt.Errorf("address %q: the part before the @ has characters that need quoting", s)
	}
	return FromParts(local, domain)
}

// FromUnquoted reads an address whose local part is unquoted already: everything before
// the last @ is the local part.
func FromUnquoted(s string) (Mailbox, error) {
	local, domain, err := cut(s)
	if err != nil {
		return Mailbox{}, err
	}
	return FromParts(local, domain)
}

func cut(s string) (local, domain string, err error) {
	i := strings.LastIndexByte(s, '@')
	if i < 0 {
		return "", "", fmt.Errorf("address %q has no domain", s)
	}
	return s[:i], s[i+1:], nil
}

// FromParts checks an unquoted local part and a domain, which may have a final
// dot.
func FromParts(local, domain string) (Mailbox, error) {
	fail := func(why string) (Mailbox, error) {
		return Mailbox{}, fmt.Errorf("address %q: %s", local+"@"+domain, why)
	}
	switch {
	case local == "":
		return fail("nothing stands before the @")
	case !utf8.ValidString(local):
		return fail("the part before the @ is not UTF-8")
	case strings.ContainsFunc(local, func(r rune) bool { return !unicode.IsPrint(r) }):
		return fail("control characters and others that cannot be seen are not allowed")
	}
	parse := ParseName
	if strings.HasPrefix(domain, "[") {
		parse = ParseDomain
	}
	d, err := parse(domain)
	if err != nil {
		return fail(err.Error())
	}
	return Mailbox{Local: local, Domain: d}, nil
}

// profile is that of a lookup (RFC 5891, 5) that also allows an underscore: some mail
// domains have one.
var profile = idna.New(idna.MapForLookup(), idna.StrictDomainName(false), idna.Transitional(false), idna.BidiRule())

// ParseDomain returns a domain in A-labels and lower case, or an address
// literal in its usual form.
func ParseDomain(s string) (string, error) {
	if strings.HasPrefix(s, "[") {
		return parseLiteral(s)
	}
	if s == "" || strings.HasSuffix(s, ".") {
		return "", phrase.Errorf("%q is not a domain", s)
	}
	d, err := profile.ToASCII(s)
	if err == nil {
		d, err = profile.ToASCII(d) // the result must be a domain as well
	}
	if err != nil {
		return "", phrase.Errorf("%q is not a domain: %w", s, err)
	}
	if len(d) > maxDomain {
		return "", phrase.Errorf("the domain is longer than %d octets", maxDomain)
	}
	for label := range strings.SplitSeq(d, ".") {
		if !isLabel(label) {
			return "", phrase.Errorf("%q is not a domain", s)
		}
	}
	return d, nil
}

// ParseName is ParseDomain for a name that a person wrote: it may have a final dot.
func ParseName(s string) (string, error) { return ParseDomain(strings.TrimSuffix(s, ".")) }

func isLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}

func parseLiteral(s string) (string, error) {
	inner, ok := strings.CutSuffix(s[1:], "]")
	if ok && len(inner) > 5 && strings.EqualFold(inner[:5], "IPv6:") {
		if a, err := netip.ParseAddr(inner[5:]); err == nil && a.Is6() && a.Zone() == "" {
			return "[IPv6:" + a.String() + "]", nil
		}
	} else if ok {
		if a, err := netip.ParseAddr(inner); err == nil && a.Is4() {
			return "[" + a.String() + "]", nil
		}
	}
	return "", phrase.Errorf("%q is not an address literal", s)
}

// String is the address in the form of the wire, quoted where needed.
func (m Mailbox) String() string {
	if isDotString(m.Local) {
		return m.Local + "@" + m.Domain
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(m.Local) {
		if c := m.Local[i]; c == '"' || c == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(m.Local[i])
	}
	b.WriteString(`"@`)
	b.WriteString(m.Domain)
	return b.String()
}

// NeedsUTF8 reports whether the address needs hosts with SMTPUTF8 (RFC 6531).
func (m Mailbox) NeedsUTF8() bool {
	return strings.ContainsFunc(m.Local, func(r rune) bool { return r >= utf8.RuneSelf })
}

// isDotString is the Dot-string of RFC 5321, with the UTF-8 of RFC 6531.
func isDotString(s string) bool {
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" || strings.ContainsFunc(atom, func(r rune) bool { return !isAtext(r) }) {
			return false
		}
	}
	return true
}

func isAtext(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
		strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", r) || r >= utf8.RuneSelf && r != utf8.RuneError
}

func unquote(s string) (string, error) {
	if len(s) < 2 || s[len(s)-1] != '"' {
		return "", errors.New("the quoting does not end before the @")
	}
	var b strings.Builder
	inner := s[1 : len(s)-1]
	for i := 0; i < len(inner); i++ {
		switch c := inner[i]; {
		case c == '"':
			return "", errors.New("a quote stands inside the quoting")
		case c == '\\':
			i++
			if i == len(inner) {
				return "", errors.New("the quoting ends in a backslash")
			}
			fallthrough
		default:
			b.WriteByte(inner[i])
		}
	}
	return b.String(), nil
}

// Package sts is MTA-STS (RFC 8461), the sending side: the record that
// announces a policy, the policy and its fetch over HTTPS, the match of MX
// names against it, and the cache of the policies in force.
//
// It opens no SMTP session and judges no mail host: what a policy asks of a
// session is decided in relay/security.
package sts

import (
	"strings"

	"github.com/stsrelay/stsrelay/internal/phrase"
)

// ErrNoRecord means that a domain publishes no MTA-STS record: it does not
// implement MTA-STS (RFC 8461, 3.1).
var ErrNoRecord = phrase.Errorf("no MTA-STS record")

// ErrInvalidRecord means that there is a record, or several, that cannot be
// used; that counts as none.
var ErrInvalidRecord = phrase.Errorf("invalid MTA-STS record")

// Record is the TXT record at _mta-sts.DOMAIN (RFC 8461, 3.1).
type Record struct {
	// ID changes with the policy: 1 to 32 letters and digits.
	ID string
}

// ParseRecord reads the TXT records of _mta-sts.DOMAIN, each with its strings
// joined. Those that do not begin with "v=STSv1;" are thrown away; exactly one
// must be left. The error wraps ErrNoRecord or ErrInvalidRecord.
func ParseRecord(txt []string) (Record, error) {
	var found []string
	for _, t := range txt {
		if isCandidate(t) {
			found = append(found, t)
		}
	}
	switch len(found) {
	case 0:
		return Record{}, ErrNoRecord
	case 1:
		return parseRecord(found[0])
	}
	return Record{}, phrase.Errorf("%w: %d records begin with v=STSv1, exactly one may", ErrInvalidRecord, len(found))
}

// isCandidate reports whether t begins with the version tag. White space before the first ";" is not
// in RFC 8461's prefix rule but in its grammar (erratum 6285).
func isCandidate(t string) bool {
	rest, ok := strings.CutPrefix(t, "v=STSv1")
	return ok && strings.HasPrefix(strings.TrimLeft(rest, " \t"), ";")
}

func parseRecord(t string) (Record, error) {
	invalid := func(why phrase.Phrase) (Record, error) {
		return Record{}, phrase.Errorf("%w: %s", ErrInvalidRecord, why)
	}
	fields := strings.Split(t, ";")
	if strings.Trim(fields[len(fields)-1], " \t") == "" {
		fields = fields[:len(fields)-1] // a final ";" is allowed
	}
	var r Record
	for _, f := range fields[1:] {
		name, value, ok := strings.Cut(strings.Trim(f, " \t"), "=")
		switch {
		case !ok || !isFieldName(name):
			return invalid(phrase.New("%q is not a field", f))
		case name == "id" && r.ID == "": // of a repeated field the first counts
			if !isID(value) {
				return invalid(phrase.New("the id %q must be 1 to 32 letters and digits", value))
			}
			r.ID = value
		case !isFieldValue(value):
			return invalid(phrase.New("the value of %q has a character that is not allowed", name))
		}
	}
	if r.ID == "" {
		return invalid(phrase.New("it has no id"))
	}
	return r, nil
}

func isID(s string) bool {
	return s != "" && len(s) <= 32 && !strings.ContainsFunc(s, func(r rune) bool { return !isAlnum(r) })
}

func isAlnum(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

// isFieldName is sts-ext-name of RFC 8461, 3.1.
func isFieldName(s string) bool {
	if s == "" || len(s) > 32 || !isAlnum(rune(s[0])) {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool { return !isAlnum(r) && r != '_' && r != '-' && r != '.' })
}

// isFieldValue is sts-ext-value: visible ASCII without "=" and ";".
func isFieldValue(s string) bool {
	if s == "" {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c < '!' || c > '~' || c == '=' || c == ';' {
			return false
		}
	}
	return true
}

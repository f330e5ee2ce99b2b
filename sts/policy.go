package sts

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/idna"
)

// Mode is what a policy asks senders to do (RFC 8461, 5).
type Mode string

// The modes of a policy.
const (
	// ModeEnforce: no mail to a host that fails the policy.
	ModeEnforce Mode = "enforce"
	// ModeTesting: failures are reported, mail goes on.
	ModeTesting Mode = "testing"
	// ModeNone: the domain no longer has a policy.
	ModeNone Mode = "none"
)

// MaxMaxAge is the longest time that a policy may ask to be kept (RFC 8461, 3.2).
const MaxMaxAge = 31_557_600 * time.Second

// ErrInvalidPolicy is wrapped by the errors of ParsePolicy.
var ErrInvalidPolicy = errors.New("invalid MTA-STS policy")

// Policy is a policy as it was read (RFC 8461, 3.2). The cache shares it with
// all who ask: it is never changed.
type Policy struct {
	Mode Mode
	// MaxAge is how long the policy may be kept after its fetch.
	MaxAge time.Duration
	// MX are the patterns, in lower case without final dot: "mx.example.com",
	// "*.example.com".
	MX []string
}

// Remark is something about a policy that is allowed, or tolerated, and that
// its owner should know.
type Remark string

// ParsePolicy reads a policy's text. Its error wraps ErrInvalidPolicy.
//
// An mx line that is no pattern is dropped with a remark while a good one is
// left: a refused policy protects nobody, and a pattern less can only narrow
// what is allowed. A version, mode or max_age is never made up.
func ParsePolicy(body []byte) (*Policy, []Remark, error) { return parsePolicy(string(body)) }

func parsePolicy(text string) (*Policy, []Remark, error) {
	var (
		p       Policy
		remarks []Remark
		seen    = make(map[string]bool)
		badMX   string // the first one
	)
	invalid := func(format string, args ...any) (*Policy, []Remark, error) { //nolint:unparam // the results of ParsePolicy
		return nil, remarks, fmt.Errorf("%w: %s", ErrInvalidPolicy, fmt.Sprintf(format, args...))
	}
	text, bom := strings.CutPrefix(text, "\ufeff")
	if bom {
		remarks = append(remarks, "the text begins with a byte order mark")
	}
	n := 0
	for line := range strings.SplitSeq(text, "\n") {
		n++
		line = strings.TrimSuffix(line, "\r")
		if strings.Trim(line, " \t") == "" {
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok || key == "" || strings.ContainsFunc(key, func(r rune) bool { return !isAlnum(r) && r != '_' && r != '-' && r != '.' && r != ' ' && r != '\t' }) {
			return invalid("line %d, %q, is not a key and a value", n, cut(line, 80))
		}
		value = strings.Trim(value, " \t")
		if key != "mx" && seen[key] {
			remarks = append(remarks, Remark(fmt.Sprintf("%s stands there twice; the first one counts", key)))
			continue
		}
		seen[key] = true
		var err error
		switch key {
		case "version":
			if value != "STSv1" {
				err = fmt.Errorf("the version is %q, not STSv1", cut(value, 80))
			}
		case "mode":
			p.Mode = Mode(value)
			if p.Mode != ModeEnforce && p.Mode != ModeTesting && p.Mode != ModeNone {
				err = fmt.Errorf("the mode is %q, not enforce, testing or none", cut(value, 80))
			}
		case "max_age":
			p.MaxAge, err = parseMaxAge(value, &remarks)
		case "mx":
			pattern, ok := normalPattern(value)
			if !ok {
				badMX = cmp.Or(badMX, value, "nothing")
				remarks = append(remarks, Remark(fmt.Sprintf("the mx %q is not a host name or *. and a host name; it names no host", cut(value, 80))))
				continue
			}
			p.MX = append(p.MX, pattern)
		default:
			remarks = append(remarks, Remark(fmt.Sprintf("the key %q is not known and is ignored", cut(key, 80))))
		}
		if err != nil {
			return invalid("%v", err)
		}
	}
	for _, key := range []string{"version", "mode", "max_age"} {
		if !seen[key] {
			return invalid("it has no %s", key)
		}
	}
	if len(p.MX) == 0 && p.Mode != ModeNone {
		if badMX != "" {
			return invalid("no mx of it is valid; the first one is %q", cut(badMX, 80))
		}
		return invalid("the mode is %s and there is no mx", p.Mode)
	}
	return &p, remarks, nil
}

func parseMaxAge(value string, remarks *[]Remark) (time.Duration, error) {
	if len(value) < 1 || len(value) > 10 || strings.Trim(value, "0123456789") != "" {
		return 0, fmt.Errorf("the max_age %q is not a number of 1 to 10 digits", cut(value, 80))
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the max_age %q is not a number", value)
	}
	age := time.Duration(n) * time.Second
	if age > MaxMaxAge {
		*remarks = append(*remarks, Remark(fmt.Sprintf("max_age %s is longer than a year; %d counts", value, int64(MaxMaxAge.Seconds()))))
		age = MaxMaxAge
	}
	if age < 24*time.Hour && n > 0 {
		*remarks = append(*remarks, "max_age is less than a day: a short outage of the policy host ends the protection")
	}
	return age, nil
}

// normalPattern checks an mx pattern: a host name in A-labels, or "*." and one.
func normalPattern(s string) (string, bool) {
	if !isASCII(s) {
		return "", false // before ToLower, which makes ASCII of some other letters
	}
	s = strings.TrimSuffix(strings.ToLower(s), ".")
	host := strings.TrimPrefix(s, "*.")
	return s, isHostName(host)
}

func isHostName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	labels := strings.Split(s, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' || strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
		if strings.HasPrefix(l, "xn--") {
			if _, err := idna.ToUnicode(l); err != nil {
				return false
			}
		}
	}
	// An IP address is not a name.
	return strings.Trim(labels[len(labels)-1], "0123456789") != ""
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x80 })
}

// Match finds the pattern that covers an MX host's name (RFC 8461, 4.1): the
// name itself, or a wildcard for exactly its first label. Case and a final dot
// do not count.
func (p *Policy) Match(host string) (pattern string, ok bool) {
	host = strings.TrimSuffix(host, ".")
	if !isASCII(host) {
		return "", false // EqualFold takes some other letters for ASCII, too
	}
	_, parent, _ := strings.Cut(host, ".")
	for _, m := range p.MX {
		if rest, wild := strings.CutPrefix(m, "*."); wild {
			if parent != "" && host[0] != '.' && strings.EqualFold(rest, parent) {
				return m, true
			}
		} else if strings.EqualFold(m, host) {
			return m, true
		}
	}
	return "", false
}

// Lines is the policy line by line as it is applied, for reports (RFC 8460, 4.4).
func (p *Policy) Lines() []string {
	lines := []string{"version: STSv1", "mode: " + string(p.Mode)}
	for _, m := range p.MX {
		lines = append(lines, "mx: "+m)
	}
	return append(lines, fmt.Sprintf("max_age: %d", int64(p.MaxAge/time.Second)))
}

// Text is the policy in the form that ParsePolicy reads.
func (p *Policy) Text() string { return strings.Join(p.Lines(), "\n") + "\n" }

// sameDemands reports whether two policies ask the same of a host.
func sameDemands(a, b *Policy) bool { return a.Mode == b.Mode && slices.Equal(a.MX, b.MX) }

func cut(s string, n int) string {
	if len(s) > n {
		return s[:n] + "…"
	}
	return s
}

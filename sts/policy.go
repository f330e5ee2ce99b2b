package sts

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/idna"

	"github.com/stsrelay/stsrelay/internal/phrase"
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
var ErrInvalidPolicy = phrase.Errorf("invalid MTA-STS policy")

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

// The bounds of what is applied of a policy. No domain is known that comes near
// them; a stranger may send 64 KiB.
const (
	maxPatterns    = 500
	maxPatternText = 16 << 10 // octets of all patterns
)

// Reasons of an invalid policy beside ErrInvalidPolicy, each of which has a
// remedy of its own.
var (
	// ErrEmptyPolicy: nothing was received, or nothing but white space.
	ErrEmptyPolicy = phrase.Errorf("it is empty")
	// ErrUTF16: the text is not in UTF-8.
	ErrUTF16 = phrase.Errorf("its text is in UTF-16, not in UTF-8")
	// ErrGzip: a compressed file was served as if it were text.
	ErrGzip = phrase.Errorf("it is a gzip file that was served as text")
	// ErrHTML: a web page came.
	ErrHTML = phrase.Errorf("it is a web page")
)

// ParsePolicy reads a policy's text. Its error wraps ErrInvalidPolicy.
//
// An mx line that is no pattern is dropped with a warning while a good one is
// left: a refused policy protects nobody, and a pattern less can only narrow
// what is allowed. A version, mode or max_age is never made up.
func ParsePolicy(body []byte) (*Policy, Warnings, error) { return parsePolicy(string(body)) }

func parsePolicy(text string) (*Policy, Warnings, error) {
	if err := notText(text); err != nil {
		return nil, nil, phrase.Errorf("%w: %w", ErrInvalidPolicy, err)
	}
	r := policyReader{seen: make(map[string]bool)}
	text, bom := strings.CutPrefix(text, "\ufeff")
	if bom {
		r.warnings.Add(WarnByteOrderMark, phrase.New("the text begins with a byte order mark"))
	}
	n := 0
	for line := range strings.SplitSeq(text, "\n") {
		n++
		if err := r.line(n, strings.TrimSuffix(line, "\r")); err != nil {
			return nil, r.warnings, phrase.Errorf("%w: %w", ErrInvalidPolicy, err)
		}
	}
	if err := r.complete(); err != nil {
		return nil, r.warnings, phrase.Errorf("%w: %w", ErrInvalidPolicy, err)
	}
	return &r.policy, r.warnings, nil
}

// notText finds what cannot be read line by line at all.
func notText(text string) error {
	switch {
	case strings.Trim(text, " \t\r\n") == "":
		return phrase.Errorf("%w (%d octets)", ErrEmptyPolicy, len(text))
	case strings.HasPrefix(text, "\xff\xfe") || strings.HasPrefix(text, "\xfe\xff") || strings.HasPrefix(text, "v\x00") || strings.HasPrefix(text, "\x00v"):
		return ErrUTF16
	case strings.HasPrefix(text, "\x1f\x8b"):
		return ErrGzip
	case strings.HasPrefix(strings.TrimLeft(strings.TrimPrefix(text, "\ufeff"), " \t\r\n"), "<"):
		return ErrHTML
	}
	return nil
}

// policyReader reads a policy line by line.
type policyReader struct {
	policy   Policy
	warnings Warnings
	seen     map[string]bool // the known keys
	badMX    string          // the first one
}

func (r *policyReader) line(n int, line string) error {
	if strings.Trim(line, " \t") == "" {
		return nil
	}
	key, value, ok := strings.Cut(line, ":")
	if !ok || key == "" || strings.ContainsFunc(key, func(r rune) bool { return !isAlnum(r) && r != '_' && r != '-' && r != '.' && r != ' ' && r != '\t' }) {
		return phrase.Errorf("line %d, %q, is not a key and a value", n, cut(line, 80))
	}
	bare := strings.TrimLeft(key, " \t")
	switch {
	case !isPolicyKey(bare):
		if isPolicyKey(strings.ToLower(strings.Trim(bare, " \t"))) {
			r.warnings.Add(WarnMisspelt, phrase.New("line %d, %q, does not count: a key is written in lower case, right before its colon", n, cut(line, 80)))
		} else {
			r.warnings.Add(WarnUnknownKey, phrase.New("the key %q is not known and is ignored", cut(key, 80)))
		}
		return nil
	case bare != key:
		r.warnings.Add(WarnIndented, phrase.New("line %d, %q, begins with white space; it counts all the same", n, cut(line, 80)))
	}
	if bare != "mx" && r.seen[bare] {
		r.warnings.Add(WarnRepeated, phrase.New("%s stands there twice; the first one counts", bare))
		return nil
	}
	r.seen[bare] = true
	return r.field(bare, strings.Trim(value, " \t"))
}

func isPolicyKey(s string) bool {
	return s == "version" || s == "mode" || s == "max_age" || s == "mx"
}

func (r *policyReader) field(key, value string) (err error) {
	switch key {
	case "version":
		if value != "STSv1" {
			err = phrase.Errorf("the version is %q, not STSv1", cut(value, 80))
		}
	case "mode":
		r.policy.Mode, err = parseMode(value)
	case "max_age":
		r.policy.MaxAge, err = parseMaxAge(value, &r.warnings)
	case "mx":
		pattern, ok := normalPattern(value)
		if !ok {
			r.badMX = cmp.Or(r.badMX, value, "nothing")
			r.warnings.Add(WarnBadMX, phrase.New("the mx %q is not a host name or *. and a host name; it names no host", cut(value, 80)))
			return nil
		}
		r.policy.MX = append(r.policy.MX, pattern)
	}
	return err
}

// complete says what is missing.
func (r *policyReader) complete() error {
	for _, key := range []string{"version", "mode", "max_age"} {
		if !r.seen[key] {
			return phrase.Errorf("it has no %s", key)
		}
	}
	if len(r.policy.MX) == 0 && r.policy.Mode != ModeNone {
		if r.badMX != "" {
			return phrase.Errorf("no mx of it is valid; the first one is %q", cut(r.badMX, 80))
		}
		return phrase.Errorf("the mode is %s and there is no mx", r.policy.Mode)
	}
	return nil
}

func parseMode(value string) (Mode, error) {
	for _, m := range []Mode{ModeEnforce, ModeTesting, ModeNone} {
		if value == string(m) {
			return m, nil // and not the value, which is a part of the whole text
		}
	}
	return "", phrase.Errorf("the mode is %q, not enforce, testing or none", cut(value, 80))
}

func parseMaxAge(value string, warnings *Warnings) (time.Duration, error) {
	if len(value) < 1 || len(value) > 10 || strings.Trim(value, "0123456789") != "" {
		return 0, phrase.Errorf("the max_age %q is not a number of 1 to 10 digits", cut(value, 80))
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return 0, phrase.Errorf("the max_age %q is not a number", value)
	}
	// Compared in seconds: ten digits of them are more than a Duration holds.
	if longest := int64(MaxMaxAge / time.Second); n > longest {
		warnings.Add(WarnLongAge, phrase.New("max_age %s is longer than a year; %d counts", value, longest))
		n = longest
	}
	if n < 24*60*60 {
		warnings.Add(WarnShortAge, phrase.New("max_age is less than a day: a short outage of the policy host ends the protection"))
	}
	return time.Duration(n) * time.Second, nil
}

// Applied is what is applied of a policy, and all that the cache keeps of it:
// each pattern once, at most 500 of them and 16 KiB. Nothing of it is a part of
// the text that it was read from.
func (p *Policy) Applied() *Policy {
	out := &Policy{Mode: p.Mode, MaxAge: p.MaxAge}
	seen := make(map[string]bool)
	octets := 0
	for _, m := range p.MX {
		if seen[m] {
			continue
		}
		if octets += len(m); len(out.MX) == maxPatterns || octets > maxPatternText {
			break
		}
		seen[m] = true
		out.MX = append(out.MX, strings.Clone(m))
	}
	return out
}

// leftOut is how many patterns of p are not in applied.
func (p *Policy) leftOut(applied *Policy) int {
	all := slices.Clone(p.MX)
	slices.Sort(all)
	return len(slices.Compact(all)) - len(applied.MX)
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

package tlsrpt

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestIJSON(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "plain ü 日本 😀": "plain ü 日本 😀", "a\x00b": "a\uFFFDb", "\uFDD0\uFDEF": "\uFFFD\uFFFD", "\uFFFE\uFFFF": "\uFFFD\uFFFD",
		"\U0001FFFE\U0010FFFF": "\uFFFD\uFFFD", "\uFDCF\uFDF0\uFFFD": "\uFDCF\uFDF0\uFFFD", "\xff\xc3": "\uFFFD\uFFFD", "a\r\n": "a\r\n",
	} {
		if got := iJSON(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// Whatever hosts and policies say, a report is I-JSON.
func FuzzReportIsIJSON(f *testing.F) {
	f.Add("mx\x00", "\uFFFF", "\xff")
	f.Fuzz(func(t *testing.T, helo, line, code string) {
		c := Counts{Policy: Policy{Type: PolicySTS, Strings: []string{"version: STSv1", line}, MXHosts: []string{line}}, Failures: []FailureCount{{Failure: Failure{MXHelo: helo, MXHost: helo, Code: code}, Count: 1}}}
		data, err := json.Marshal(newPolicy("a.example", &c))
		if err != nil {
			t.Fatal(err)
		}
		var back any
		if err := json.Unmarshal(data, &back); err != nil {
			t.Fatal(err)
		}
		walk(t, back)
		if line != "" && c.Policy.Strings[1] != line {
			t.Error("the counts were changed")
		}
	})
}

func walk(t *testing.T, v any) {
	t.Helper()
	switch v := v.(type) {
	case string:
		bad := strings.ContainsFunc(v, func(r rune) bool { return r == 0 || r >= 0xFDD0 && r <= 0xFDEF || r&0xFFFF >= 0xFFFE })
		if bad || !utf8.ValidString(v) {
			t.Errorf("%q is no text of I-JSON", v)
		}
	case []any:
		for _, x := range v {
			walk(t, x)
		}
	case map[string]any:
		for _, x := range v {
			walk(t, x)
		}
	}
}

package mailbox

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct{ in, local, domain, out string }{
		{"anna@example.com", "anna", "example.com", "anna@example.com"},
		{"Anna.B+tag@EXAMPLE.com", "Anna.B+tag", "example.com", "Anna.B+tag@example.com"},
		{`"a b"@example.com`, "a b", "example.com", `"a b"@example.com`},
		{`"x@y"@example.com`, "x@y", "example.com", `"x@y"@example.com`},
		{`"a\"b\\c"@example.com`, `a"b\c`, "example.com", `"a\"b\\c"@example.com`},
		{`"plain"@example.com`, "plain", "example.com", "plain@example.com"},
		{"anna@bücher.example", "anna", "xn--bcher-kva.example", "anna@xn--bcher-kva.example"},
		{"jürgen@example.com", "jürgen", "example.com", "jürgen@example.com"},
		{"a@[192.0.2.1]", "a", "[192.0.2.1]", "a@[192.0.2.1]"},
		{"a@[ipv6:2001:DB8::1]", "a", "[IPv6:2001:db8::1]", "a@[IPv6:2001:db8::1]"},
		{"a@under_score.example", "a", "under_score.example", "a@under_score.example"},
		{"anna@example.com.", "anna", "example.com", "anna@example.com"},
		{strings.Repeat("a", 300) + "@example.com", strings.Repeat("a", 300), "example.com", strings.Repeat("a", 300) + "@example.com"},
	} {
		m, err := Parse(tt.in)
		if err != nil || m.Local != tt.local || m.Domain != tt.domain || m.String() != tt.out {
			t.Errorf("Parse(%q) = %+v (%s), %v", tt.in, m, m, err)
		}
	}
}

func TestWhatIsNoAddressIsRefused(t *testing.T) {
	for _, s := range []string{
		"", "anna", "@example.com", "anna@", "anna@.", "anna@example.com..", "anna@.example.com", "anna@[192.0.2.1].", "a@b@example.com", "a.@example.com", "anna@-a.example", "anna@a..b", "a b@example.com",
		"a>b@example.com", `"a"b@example.com`, `"a@example.com`, `"a\"@example.com`, "a\r\n@example.com", "a\x00@example.com",
		".a@example.com", "a..b@example.com", "a@[300.1.1.1]", "a@[IPv6:zz]", "a@[192.0.2.1", "a@exa mple.com",
		"a\u0085@example.com", "a\u009b31m@example.com", "a\u202eb@example.com", "\"a\u2028b\"@example.com", "a\u200b@example.com", "\"a\tb\"@example.com", "a@b\u202e.example",
		"a@" + strings.Repeat("a", 64) + ".example", "a@" + strings.Repeat("abcdefg.", 40) + "example",
		"\xff@example.com", "\"\xff\"@example.com",
	} {
		if m, err := Parse(s); err == nil {
			t.Errorf("Parse(%q) = %+v, want an error", s, m)
		}
	}
}

func TestAnUnquotedLocalPartIsQuotedAgain(t *testing.T) {
	for in, want := range map[string]string{
		"x@y@example.com":              `"x@y"@example.com`,
		"a> SIZE=1@example.com":        `"a> SIZE=1"@example.com`,
		"plain@example.com":            "plain@example.com",
		`back\slash@example.com`:       `"back\\slash"@example.com`,
		"jürgen.müller@straße.example": "jürgen.müller@xn--strae-oqa.example",
		"postmaster@[192.0.2.1]":       "postmaster@[192.0.2.1]",
	} {
		m, err := FromUnquoted(in)
		if err != nil || m.String() != want {
			t.Errorf("FromUnquoted(%q) = %s, %v; want %s", in, m, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"a@b.example", `"a b\""@[192.0.2.1]`, "ü@ü.example", "a@b@c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, parse := range []func(string) (Mailbox, error){Parse, FromUnquoted} {
			m, err := parse(s)
			if err != nil {
				continue
			}
			out := m.String()
			if strings.ContainsAny(out, "\r\n\x00") {
				t.Fatalf("%q came out as %q", s, out)
			}
			again, err := Parse(out)
			if err != nil || again != m {
				t.Fatalf("%q → %+v → %q → %+v, %v", s, m, out, again, err)
			}
		}
	})
}

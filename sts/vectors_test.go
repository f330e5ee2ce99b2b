package sts

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

type vectors struct {
	TXT []struct {
		ID   string
		RRs  [][]string
		Want *string `json:"id_expected"`
		Note string
	}
	Policy []struct {
		ID, Body, Note string
		Expected       *struct {
			Mode   string
			MaxAge int64 `json:"max_age"`
			MX     []string
		}
	}
	Match []struct {
		ID    string
		MX    []string
		Host  string
		Match bool
		Note  string
	}
}

func TestVectors(t *testing.T) {
	data, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	if len(v.TXT) == 0 || len(v.Policy) == 0 || len(v.Match) == 0 {
		t.Fatal("the file has no vectors")
	}
	for _, tt := range v.TXT {
		var txt []string
		for _, rr := range tt.RRs {
			txt = append(txt, strings.Join(rr, ""))
		}
		r, err := ParseRecord(txt)
		if (err == nil) != (tt.Want != nil) || err == nil && r.ID != *tt.Want {
			t.Errorf("%s (%s): %q, %v", tt.ID, tt.Note, r.ID, err)
		}
	}
	for _, tt := range v.Policy {
		p, _, err := ParsePolicy([]byte(tt.Body))
		if (err == nil) != (tt.Expected != nil) {
			t.Errorf("%s (%s): %+v, %v", tt.ID, tt.Note, p, err)
			continue
		}
		if err == nil && (string(p.Mode) != tt.Expected.Mode || p.MaxAge != time.Duration(tt.Expected.MaxAge)*time.Second || !slices.Equal(p.MX, tt.Expected.MX)) {
			t.Errorf("%s (%s): %+v", tt.ID, tt.Note, p)
		}
	}
	for _, tt := range v.Match {
		p := Policy{MX: tt.MX}
		if _, ok := p.Match(tt.Host); ok != tt.Match {
			t.Errorf("%s (%s): %s matches = %t", tt.ID, tt.Note, tt.Host, ok)
		}
	}
}

func TestRecords(t *testing.T) {
	for _, tt := range []struct {
		name string
		txt  []string
		id   string
		err  error
	}{
		{"nothing", nil, "", ErrNoRecord},
		{"SPF only", []string{"v=spf1 -all"}, "", ErrNoRecord},
		{"two valid ones", []string{"v=STSv1; id=1", "v=STSv1; id=2"}, "", ErrInvalidRecord},
		{"beside SPF", []string{"v=spf1 -all", "v=STSv1; id=1;"}, "1", nil},
		{"empty id", []string{"v=STSv1; id="}, "", ErrInvalidRecord},
		{"id of 32 characters", []string{"v=STSv1; id=" + strings.Repeat("a", 32)}, strings.Repeat("a", 32), nil},
		{"id of 33 characters", []string{"v=STSv1; id=" + strings.Repeat("a", 33)}, "", ErrInvalidRecord},
		{"id with a dot", []string{"v=STSv1; id=1.2"}, "", ErrInvalidRecord},
		{"id in quotes", []string{`v=STSv1; id="1"`}, "", ErrInvalidRecord},
		{"two ids", []string{"v=STSv1; id=1; id=2"}, "1", nil},
		{"second id is garbage", []string{"v=STSv1; id=1; id=!!!"}, "1", nil},
		{"extension first", []string{"v=STSv1; foo=bar; id=1"}, "1", nil},
		{"tabs", []string{"v=STSv1\t;\tid=1\t;\t"}, "1", nil},
		{"STSv2", []string{"v=STSv2; id=1;"}, "", ErrNoRecord},
		{"split over two strings", []string{"v=STSv1; i" + "d=1"}, "1", nil},
		{"id with a hyphen", []string{"v=STSv1; id=2026-11-23"}, "", ErrInvalidRecord},
		{"one of two is broken", []string{"v=STSv1; id=1", "v=STSv1; foo"}, "", ErrInvalidRecord},
		{"no id", []string{"v=STSv1; foo=bar;"}, "", ErrInvalidRecord},
		{"empty field", []string{"v=STSv1;; id=1"}, "", ErrInvalidRecord},
		{"white space around =", []string{"v=STSv1; id = 1"}, "", ErrInvalidRecord},
		{"not ASCII", []string{"v=STSv1; id=1; x=\xc3\xa9"}, "", ErrInvalidRecord},
		{"field without a value", []string{"v=STSv1; id=1; foo"}, "", ErrInvalidRecord},
		{"field name too long", []string{"v=STSv1; id=1; " + strings.Repeat("a", 33) + "=1"}, "", ErrInvalidRecord},
	} {
		r, err := ParseRecord(tt.txt)
		if r.ID != tt.id || !errors.Is(err, tt.err) {
			t.Errorf("%s: %q, %v", tt.name, r.ID, err)
		}
	}
}

func TestPolicies(t *testing.T) {
	const head = "version: STSv1\nmode: enforce\n"
	for _, tt := range []struct {
		name, body string
		ok         bool
		maxAge     int64
		mx         string
		warnings   int
	}{
		{"CRLF", "version: STSv1\r\nmode: enforce\r\nmx: a.example\r\nmax_age: 604800\r\n", true, 604800, "a.example", 0},
		{"last end missing", head + "mx: a.example\nmax_age: 604800", true, 604800, "a.example", 0},
		{"max_age 0", head + "mx: a.example\nmax_age: 0\n", true, 0, "a.example", 1},
		{"max_age of 11 digits", head + "mx: a.example\nmax_age: 99999999999\n", false, 0, "", 0},
		{"max_age over a year", head + "mx: a.example\nmax_age: 40000000\n", true, 31557600, "a.example", 1},
		{"max_age under a day", head + "mx: a.example\nmax_age: 3600\n", true, 3600, "a.example", 1},
		{"mode none without mx", "version: STSv1\nmode: none\nmax_age: 86400\n", true, 86400, "", 0},
		{"*.*.com", head + "mx: *.*.com\nmax_age: 86400\n", false, 0, "", 0},
		{"U-label", head + "mx: mx.bücher.example\nmax_age: 86400\n", false, 0, "", 0},
		{"address", head + "mx: 192.0.2.1\nmax_age: 86400\n", false, 0, "", 0},
		{"one bad mx beside a good one", head + "mx: *\nmx: a.example\nmax_age: 86400\n", true, 86400, "a.example", 1},
		{"final dot", head + "mx: A.Example.\nmax_age: 86400\n", true, 86400, "a.example", 0},
		{"byte order mark", "\ufeff" + head + "mx: a.example\nmax_age: 86400\n", true, 86400, "a.example", 1},
		{"max_age twice, the second is garbage", head + "mx: a.example\nmax_age: 86400\nmax_age: x\n", true, 86400, "a.example", 1},
		{"letter that only looks like ASCII in lower case", head + "mx: \u212aelvin.example\nmax_age: 86400\n", false, 0, "", 0},
		{"mistyped mx", head + "nmx: a.example\nmax_age: 86400\n", false, 0, "", 0},
		{"mistyped mx beside a good one", head + "nmx: b.example\nmx: a.example\nmax_age: 86400\n", true, 86400, "a.example", 1},
		{"all mx lines bad", head + "mx: *\nmx:\nmx: a b.example\nmax_age: 86400\n", false, 0, "", 0},
		{"white space before a key", "version: STSv1\n mode: enforce\nmx: a.example\nmax_age: 86400\n", true, 86400, "a.example", 1},
		{"indented mx beside a good one", head + "mx: a.example\n  mx: b.example\n\tmx: c.example\nmax_age: 86400\n", true, 86400, "a.example,b.example,c.example", 1},
		{"all indented", "  version: STSv1\n  mode: enforce\n  mx: a.example\n  max_age: 86400\n", true, 86400, "a.example", 1},
		{"white space before the colon", head + "mx: a.example\nmx : b.example\nMX: c.example\nmax_age: 86400\n", true, 86400, "a.example", 1},
		{"unknown key twice", head + "mx: a.example\nmax_age: 86400\nx: 1\nx: 2\n", true, 86400, "a.example", 1},
		{"max_age of ten digits", head + "mx: a.example\nmax_age: 9999999999\n", true, 31557600, "a.example", 1},
		{"max_age that a Duration does not hold", head + "mx: a.example\nmax_age: 9223372037\n", true, 31557600, "a.example", 1},
		{"max_age beyond that, which is small again", head + "mx: a.example\nmax_age: 18446744075\n", false, 0, "", 0},
		{"empty", "", false, 0, "", 0},
		{"blank lines", "\r\n \r\n", false, 0, "", 0},
		{"HTML", "<html><body>hello</body></html>", false, 0, "", 0},
		{"version of another case", "version: stsv1\nmode: enforce\nmx: a.example\nmax_age: 86400\n", false, 0, "", 0},
	} {
		p, warnings, err := ParsePolicy([]byte(tt.body))
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if err != nil {
			if !errors.Is(err, ErrInvalidPolicy) {
				t.Errorf("%s: %v is no ErrInvalidPolicy", tt.name, err)
			}
			continue
		}
		if p.MaxAge != time.Duration(tt.maxAge)*time.Second || strings.Join(p.MX, ",") != tt.mx || len(warnings) != tt.warnings {
			t.Errorf("%s: %+v, warnings %+v", tt.name, p, warnings)
		}
	}
}

func TestMatchesThatAreNone(t *testing.T) {
	for _, tt := range []struct{ pattern, host string }{
		{"*.example.com", "example.com"},
		{"*.example.com", ".example.com"},
		{"*.example.com", "a.b.example.com"},
		{"*.example.com", "a.example.com.example.net"},
		{"mx.example.com", "xmx.example.com"},
		{"mx.example.com", "*.example.com"},
		{"mx.example.com", ""},
		{"*.example.com", ""},
		{"kelvin.example", "\u212aelvin.example"},
		{"*.kelvin.example", "a.\u212aelvin.example"},
	} {
		p := Policy{MX: []string{tt.pattern}}
		if got, ok := p.Match(tt.host); ok {
			t.Errorf("%q matches %q", tt.host, got)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add("v=STSv1; id=1;", "v=spf1")
	f.Add("v=STSv1 ; id=1; foo=bar", "")
	f.Fuzz(func(t *testing.T, a, b string) {
		r, err := ParseRecord([]string{a, b})
		if (err == nil) != isID(r.ID) {
			t.Errorf("%q: id %q, %v", a, r.ID, err)
		}
	})
}

func FuzzParsePolicy(f *testing.F) {
	f.Add([]byte("version: STSv1\nmode: enforce\nmx: *.example.com\nmx: a.example\nmax_age: 86400\n"), "mx.example.com")
	f.Add([]byte("version: STSv1\r\nmode: none\r\nmax_age: 0\r\n"), ".")
	f.Fuzz(func(t *testing.T, body []byte, host string) {
		p, _, err := ParsePolicy(body)
		if err != nil {
			return
		}
		p.Match(host)
		again, _, err := ParsePolicy([]byte(p.Text()))
		if err != nil || again.Text() != p.Text() {
			t.Errorf("%q became %q, which became %v (%v)", body, p.Text(), again, err)
		}
		if p.Mode != ModeNone && len(p.MX) == 0 || p.MaxAge < 0 || p.MaxAge > MaxMaxAge {
			t.Errorf("%q: %+v", body, p)
		}
	})
}

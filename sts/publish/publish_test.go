package publish

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/sts"
)

func policy(mode sts.Mode, age time.Duration, mx ...string) *sts.Policy {
	return &sts.Policy{Mode: mode, MaxAge: age, MX: mx}
}

func TestTheTextIsWhatSendersRead(t *testing.T) {
	p := policy(sts.ModeEnforce, 336*time.Hour, "mx1.example.com", "*.mail.example.com")
	text := Text(p)
	if want := "version: STSv1\r\nmode: enforce\r\nmx: mx1.example.com\r\nmx: *.mail.example.com\r\nmax_age: 1209600\r\n"; text != want {
		t.Errorf("%q, want %q", text, want)
	}
	read, warnings, err := sts.ParsePolicy([]byte(text))
	if err != nil || len(warnings) > 0 || read.Mode != p.Mode || read.MaxAge != p.MaxAge || strings.Join(read.MX, " ") != strings.Join(p.MX, " ") {
		t.Errorf("%+v, %v, %v", read, warnings, err)
	}
}

func TestTheIDFollowsTheText(t *testing.T) {
	a := policy(sts.ModeTesting, 336*time.Hour, "mx1.example.com")
	b := policy(sts.ModeEnforce, 336*time.Hour, "mx1.example.com")
	id := ID(Text(a))
	if id != ID(Text(policy(sts.ModeTesting, 336*time.Hour, "mx1.example.com"))) || id == ID(Text(b)) {
		t.Error("the id does not change exactly when the text does")
	}
	if !regexp.MustCompile(`^[A-Z2-7]{20}$`).MatchString(id) {
		t.Error(id)
	}
	// base32(sha256("")) is known.
	if got := ID(""); got != "4OYMIQUY7QOBJGX36TEJ" {
		t.Error(got)
	}
	if r, err := sts.ParseRecord([]string{RecordText(id)}); err != nil || r.ID != id {
		t.Error(r, err)
	}
}

func TestProblemsOfPolicies(t *testing.T) {
	good := 336 * time.Hour
	for _, tt := range []struct {
		name, key, says string
		p               *sts.Policy
	}{
		{"all is well", "", "", policy(sts.ModeEnforce, good, "mx1.example.com", "*.example.net")},
		{"none needs no mx", "", "", policy(sts.ModeNone, 24*time.Hour)},
		{"a short age while testing", "", "", policy(sts.ModeTesting, time.Hour, "mx.example.com")},
		{"a short age in enforce", "max_age", "at least 24h", policy(sts.ModeEnforce, 23*time.Hour, "mx.example.com")},
		{"more than a year", "max_age", "at most 8760h", policy(sts.ModeTesting, 8761*time.Hour, "mx.example.com")},
		{"no age", "max_age", "longer than nothing", policy(sts.ModeTesting, 0, "mx.example.com")},
		{"parts of a second", "max_age", "whole seconds", policy(sts.ModeTesting, time.Hour+time.Millisecond, "mx.example.com")},
		{"an unknown mode", "mode", `"testing", "enforce" or "none"`, policy("report", good, "mx.example.com")},
		{"no mx", "mx", "is missing", policy(sts.ModeTesting, good)},
		{"two labels for a star", "mx", "stands for one label", policy(sts.ModeTesting, good, "*.*.example.com")},
		{"a star in the middle", "mx", "stands for one label", policy(sts.ModeTesting, good, "mx.*.example.com")},
		{"an address", "mx", "must be a host name", policy(sts.ModeTesting, good, "192.0.2.1")},
		{"a line break", "mx", "must be a host name", policy(sts.ModeTesting, good, "mx.example.com\r\nmx: evil.example")},
		{"a name twice", "mx", "twice", policy(sts.ModeTesting, good, "mx.example.com", "mx.example.com")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Problems(tt.p)
			if tt.key == "" {
				if len(got) > 0 {
					t.Error(got)
				}
				return
			}
			if len(got) != 1 || got[tt.key] == nil || !strings.Contains(got[tt.key].Error(), tt.says) {
				t.Errorf("%v, want %s about %s", got, tt.says, tt.key)
			}
		})
	}
	if w := Warning(policy(sts.ModeEnforce, 48*time.Hour, "mx.example.com")); !strings.Contains(w.String(), "weeks") {
		t.Error(w)
	}
	if w := Warning(policy(sts.ModeEnforce, good, "mx.example.com")); !w.IsZero() {
		t.Error(w)
	}
}

func TestRecords(t *testing.T) {
	p := policy(sts.ModeTesting, 336*time.Hour, "mx.example.com")
	id := RecordText(ID(Text(p)))
	host := Host{Name: "mta-sts.provider.example", Addresses: []netip.Addr{netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("2001:db8::7")}}
	for _, tt := range []struct {
		name string
		d    Domain
		want []string
	}{
		{"a customer", Domain{Name: "example.com", Policy: p}, []string{"mta-sts.example.com CNAME mta-sts.provider.example", "_mta-sts.example.com TXT " + id}},
		{"with one record for all", Domain{Name: "example.com", Policy: p, Record: "_mta-sts.provider.example"},
			[]string{"mta-sts.example.com CNAME mta-sts.provider.example", "_mta-sts.example.com CNAME _mta-sts.provider.example"}},
		{"the provider itself", Domain{Name: "provider.example", Policy: p, Record: "_mta-sts.provider.example", RUA: []string{"mailto:r@provider.example", "https://provider.example/tlsrpt"}},
			[]string{"mta-sts.provider.example A 198.51.100.7", "mta-sts.provider.example AAAA 2001:db8::7",
				"_smtp._tls.provider.example TXT v=TLSRPTv1; rua=mailto:r@provider.example,https://provider.example/tlsrpt", "_mta-sts.provider.example TXT " + id}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, r := range Records(tt.d, host) {
				got = append(got, r.Name+" "+r.Type+" "+r.Value)
			}
			if strings.Join(got, "\n") != strings.Join(tt.want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
	shared := SharedRecords([]Domain{{Name: "a.example", Policy: p, Record: "_mta-sts.provider.example"}, {Name: "b.example", Policy: p, Record: "_mta-sts.provider.example"}, {Name: "c.example", Policy: p}})
	if len(shared) != 1 || shared[0].Value != id {
		t.Error(shared)
	}
}

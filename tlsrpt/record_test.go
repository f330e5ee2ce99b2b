package tlsrpt

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestParseRecord(t *testing.T) {
	for _, tt := range []struct {
		name string
		txt  []string
		rua  []string
		err  error
	}{
		{"one address", []string{"v=TLSRPTv1; rua=mailto:reports@example.com"}, []string{"mailto:reports@example.com"}, nil},
		{"a long local part", []string{"v=TLSRPTv1; rua=mailto:" + strings.Repeat("a", 90) + "@example.com"}, []string{"mailto:" + strings.Repeat("a", 90) + "@example.com"}, nil},
		{"no spaces, final semicolon", []string{"v=TLSRPTv1;rua=mailto:reports@example.com;"}, []string{"mailto:reports@example.com"}, nil},
		{"white space before the first semicolon", []string{"v=TLSRPTv1 \t; rua=mailto:a@example.com"}, []string{"mailto:a@example.com"}, nil},
		{"https", []string{"v=TLSRPTv1; rua=https://reporting.example.com/v1/tlsrpt?a=b"}, []string{"https://reporting.example.com/v1/tlsrpt?a=b"}, nil},
		{"both, with white space around the comma", []string{"v=TLSRPTv1; rua=mailto:a@example.com \t,  https://r.example.com:8443/x"}, []string{"mailto:a@example.com", "https://r.example.com:8443/x"}, nil},
		{"encoded characters in an address", []string{"v=TLSRPTv1; rua=mailto:a%2Cb%21c@example.com"}, nil, nil},
		{"encoded characters in a quoted address", []string{"v=TLSRPTv1; rua=mailto:%22a%2Cb%3Bc%22@example.com"}, []string{`mailto:"a,b;c"@example.com`}, nil},
		{"an exclamation mark needs no quoting", []string{"v=TLSRPTv1; rua=mailto:a%21b@example.com"}, []string{"mailto:a!b@example.com"}, nil},
		{"encoded characters in a URL", []string{"v=TLSRPTv1; rua=https://r.example.com/a%2Cb%21c%3bd%20e"}, []string{"https://r.example.com/a,b!c;d%20e"}, nil},
		{"a size as DMARC has it", []string{"v=TLSRPTv1; rua=mailto:a@example.com!10m, https://r.example.com/!500"}, []string{"mailto:a@example.com", "https://r.example.com/"}, nil},
		{"not a size", []string{"v=TLSRPTv1; rua=https://r.example.com/a!mm"}, []string{"https://r.example.com/a!mm"}, nil},
		{"subject of a mailto is ignored", []string{"v=TLSRPTv1; rua=mailto:a@example.com?subject=x"}, []string{"mailto:a@example.com"}, nil},
		{"upper case scheme", []string{"v=TLSRPTv1; rua=MAILTO:a@Example.COM,HTTPS://r.example.com/X"}, []string{"mailto:a@example.com", "https://r.example.com/X"}, nil},
		{"twice the same", []string{"v=TLSRPTv1; rua=mailto:a@example.com,mailto:a@example.com"}, []string{"mailto:a@example.com"}, nil},
		{"unknown scheme only", []string{"v=TLSRPTv1; rua=ftp://a.example.com/"}, nil, nil},
		{"unknown scheme beside a known one", []string{"v=TLSRPTv1; rua=http://a.example.com/,mailto:a@example.com"}, []string{"mailto:a@example.com"}, nil},
		{"unknown fields", []string{"v=TLSRPTv1; x=y; rua=mailto:a@example.com; z"}, []string{"mailto:a@example.com"}, nil},
		{"several rua fields", []string{"v=TLSRPTv1; rua=mailto:a@example.com; rua=mailto:b@example.com,https://r.example.com/x;rua=mailto:a@example.com"}, []string{"mailto:a@example.com", "mailto:b@example.com", "https://r.example.com/x"}, nil},
		{"a second rua after one that cannot be used", []string{"v=TLSRPTv1; rua=ftp://a.example.com/; rua=mailto:b@example.com"}, []string{"mailto:b@example.com"}, nil},
		{"mailto written as a URL", []string{"v=TLSRPTv1; rua=mailto://a@example.com, MAILTO://b@example.com?subject=x"}, []string{"mailto:a@example.com", "mailto:b@example.com"}, nil},
		{"international domain", []string{"v=TLSRPTv1; rua=mailto:a@bücher.example"}, []string{"mailto:a@xn--bcher-kva.example"}, nil},
		{"other records beside it", []string{"v=spf1 -all", "v=TLSRPTv1; rua=mailto:a@example.com", "v=TLSRPTv2; rua=mailto:b@example.com"}, []string{"mailto:a@example.com"}, nil},
		{"none", nil, nil, ErrNoRecord},
		{"another version only", []string{"v=TLSRPTv11; rua=mailto:a@example.com"}, nil, ErrNoRecord},
		{"wrong case", []string{"V=tlsrptv1; rua=mailto:a@example.com"}, nil, ErrNoRecord},
		{"version without semicolon", []string{"v=TLSRPTv1"}, nil, ErrNoRecord},
		{"two", []string{"v=TLSRPTv1; rua=mailto:a@example.com", "v=TLSRPTv1; rua=mailto:b@example.com"}, nil, ErrInvalidRecord},
		{"no rua", []string{"v=TLSRPTv1;"}, nil, ErrInvalidRecord},
		{"Rua is not rua", []string{"v=TLSRPTv1; Rua=mailto:a@example.com"}, nil, ErrInvalidRecord},
		{"empty rua", []string{"v=TLSRPTv1; rua="}, nil, nil},
		{"a user in a URL, no host, an address literal", []string{"v=TLSRPTv1; rua=https://u:p@a.example.com/,https:///x,mailto:a@[192.0.2.1]"}, nil, nil},
		{"header injection", []string{"v=TLSRPTv1; rua=mailto:a%0d%0aBcc:b@example.com"}, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := ParseRecord(tt.txt)
			if !errors.Is(err, tt.err) {
				t.Fatalf("error %v, want %v", err, tt.err)
			}
			var got []string
			for _, d := range r.RUA {
				got = append(got, d.String())
			}
			if !slices.Equal(got, tt.rua) {
				t.Errorf("got %q, want %q (ignored: %q)", got, tt.rua, r.Ignored)
			}
		})
	}
	r, err := ParseRecord([]string{"v=TLSRPTv1; rua=" + strings.Repeat("ftp:x,", 5) + manyAddresses(30)})
	if err != nil || len(r.RUA) != maxDestinations || len(r.Ignored) != 25 {
		t.Errorf("%d destinations, %d ignored, %v", len(r.RUA), len(r.Ignored), err)
	}
}

func manyAddresses(n int) string {
	var out []string
	for i := range n {
		out = append(out, "mailto:"+strings.Repeat("a", i+1)+"@example.com")
	}
	return strings.Join(out, ",")
}

// What comes out of a stranger's record can be dialed, or put in a header.
func FuzzParseRecord(f *testing.F) {
	f.Add("v=TLSRPTv1; rua=mailto:a%2Cb@example.com!10m, https://r.example.com/%21")
	f.Add("v=TLSRPTv1;rua=mailto:%22a b%22@example.com;x=y")
	f.Fuzz(func(t *testing.T, txt string) {
		r, err := ParseRecord([]string{txt})
		if err != nil && !errors.Is(err, ErrNoRecord) && !errors.Is(err, ErrInvalidRecord) {
			t.Fatal(err)
		}
		for _, d := range r.RUA {
			if strings.ContainsFunc(d.Target, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Fatalf("control characters in %q", d.Target)
			}
			if d.Scheme == HTTPS {
				if u, err := url.Parse(d.Target); err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
					t.Fatalf("%q is no URL to post to: %v", d.Target, err)
				}
			}
		}
	})
}

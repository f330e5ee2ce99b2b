package publish

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/sts"
)

func TestVerdicts(t *testing.T) {
	ours, other := netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("203.0.113.9")
	p := policy(sts.ModeEnforce, 336*time.Hour, "mx1.example.com")
	id := ID(Text(p))
	world := func() State { // in which all is well
		return State{
			Domain: Domain{Name: "example.com", Policy: p}, Host: Host{Name: "mta-sts.provider.example", Addresses: []netip.Addr{ours}},
			Seen: Seen{MX: []string{"mx1.example.com"}, TXT: []string{"v=spf1 -all", RecordText(id)}, Addresses: []netip.Addr{ours}},
		}
	}
	lost := errors.New("no answer")
	for _, tt := range []struct {
		name   string
		change func(s *State)
		code   string
		grade  Grade
		says   string
	}{
		{"all is well", func(*State) {}, "", "", ""},
		{"a host that the policy lacks", func(s *State) { s.Seen.MX = append(s.Seen.MX, "mx3.example.com") }, "mx-not-covered", Fault,
			"example.com: mail host mx3.example.com is in the DNS and not in the policy: senders that obey enforce will not use it; add it to mx, or take it out of the MX records"},
		{"a star for two labels", func(s *State) {
			q := policy(sts.ModeEnforce, 336*time.Hour, "mx1.example.com", "*.mx.microsoft")
			s.Domain.Policy, s.Seen.TXT = q, []string{RecordText(ID(Text(q)))}
			s.Seen.MX = append(s.Seen.MX, "example-com.h-v1.mx.microsoft", "x.mx.microsoft")
		}, "mx-not-covered", Fault, `"*.mx.microsoft" does not cover example-com.h-v1.mx.microsoft: * stands for one label (RFC 8461, 4.1); use *.h-v1.mx.microsoft`},
		{"no MX record", func(s *State) { s.Seen.MX = nil }, "mx-none", Fault, "no MX record"},
		{"a null MX record", func(s *State) { s.Seen.MX, s.Seen.NoMail = nil, true }, "mx-none", Advice, "takes no mail"},
		{"MX records that cannot be looked up", func(s *State) { s.Seen.MXError = lost }, "mx-unknown", Waiting, "no answer"},
		{"a name of the policy that is no host", func(s *State) {
			q := policy(sts.ModeEnforce, 336*time.Hour, "mx1.example.com", "old.example.com")
			s.Domain.Policy, s.Seen.TXT = q, []string{RecordText(ID(Text(q)))}
		}, "mx-not-there", Advice, "old.example.com is in the policy and matches no MX host"},
		{"another id", func(s *State) {
			s.Seen.TXT = []string{"v=STSv1; id=A1B2"}
			s.KeptUntil = time.Date(2026, 12, 12, 13, 5, 0, 0, time.UTC)
		}, "id", Fault, "example.com: _mta-sts.example.com says id=A1B2, what is served is " + id + `: senders keep the policy they have until 2026-12-12 13:05 UTC; set the record to "v=STSv1; id=` + id + `;"`},
		{"two records", func(s *State) { s.Seen.TXT = append(s.Seen.TXT, "v=STSv1; id=A1B2") }, "id", Fault, "is not valid, which counts as none"},
		{"no record", func(s *State) { s.Seen.TXT = nil }, "record-missing", Waiting, "no sender asks for the policy"},
		{"no alias of the publisher's record", func(s *State) { s.Seen.TXT, s.Domain.Record = nil, "_mta-sts.provider.example" }, "record-missing", Waiting,
			"set _mta-sts.example.com CNAME _mta-sts.provider.example, and there the TXT record"},
		{"a record that cannot be looked up", func(s *State) { s.Seen.TXTError = lost }, "record-unknown", Waiting, "no answer"},
		{"another address", func(s *State) { s.Seen.Addresses = []netip.Addr{ours, other} }, "address", Fault,
			"mta-sts.example.com has the address 203.0.113.9, which is none of this relay's (198.51.100.7): no certificate is ordered; set mta-sts.example.com CNAME mta-sts.provider.example"},
		{"no address", func(s *State) { s.Seen.Addresses = nil }, "address", Waiting, "does not exist"},
		{"no address of the relay", func(s *State) { s.Seen.Addresses, s.Host.Addresses = nil, nil }, "address", Waiting,
			"set mta-sts.example.com CNAME mta-sts.provider.example, and the A and AAAA records of mta-sts.provider.example, which has no address"},
		{"the address of a proxy", func(s *State) { s.Seen.Addresses, s.AnyAddress = []netip.Addr{other}, true }, "", "", ""},
		{"no address behind a proxy", func(s *State) { s.Seen.Addresses, s.AnyAddress = nil, true }, "address", Waiting, "does not exist"},
		{"no record for reports", func(s *State) { s.Domain.RUA = []string{"mailto:r@example.com"} }, "tlsrpt", Advice, "nobody reports"},
		{"a record for reports", func(s *State) {
			s.Domain.RUA, s.Seen.TLSRPT = []string{"mailto:r@example.com"}, []string{"v=TLSRPTv1; rua=mailto:r@example.com"}
		}, "", "", ""},
		{"two records for reports", func(s *State) {
			s.Domain.RUA, s.Seen.TLSRPT = []string{"mailto:r@example.com"}, []string{"v=TLSRPTv1; rua=mailto:r@example.com", "v=TLSRPTv1; rua=mailto:x@service.example"}
		}, "tlsrpt", Advice, "_smtp._tls.example.com has 2 records, of which senders take none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := world()
			tt.change(&s)
			got := Judge(s)
			if tt.code == "" {
				if len(got) > 0 {
					t.Error(got)
				}
				return
			}
			if len(got) != 1 || got[0].Code != tt.code || got[0].Grade != tt.grade || !strings.Contains(got[0].Text.String(), tt.says) {
				t.Errorf("%+v,\nwant %s, %s: %s", got, tt.code, tt.grade, tt.says)
			}
		})
	}
}

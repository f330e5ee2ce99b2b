package acme

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mholt/acmez/v3/acme"
	"github.com/miekg/dns"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// zoneOf is a zone as its file has it.
const zoneOf = "$TTL 60\n@ IN SOA ns h 1 3600 600 86400 60\n@ IN NS ns\nns IN A 127.0.0.1\n"

func challengeOf(name string) acme.Challenge {
	return acme.Challenge{Type: acme.ChallengeTypeDNS01, KeyAuthorization: "token.thumbprint", Identifier: acme.Identifier{Type: "dns", Value: name}}
}

func withKnot(t *testing.T) *testnet.Knot {
	t.Helper()
	k, err := testnet.StartKnot(t.TempDir(), map[string]string{"a.example": zoneOf + "_acme-challenge.mta-sts.b IN CNAME b.acme.example.\n", "acme.example": zoneOf})
	if errors.Is(err, testnet.ErrNoKnot) {
		t.Skip("skipped: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		k.Close()
		if t.Failed() {
			t.Log(k.Log())
		}
	})
	return k
}

// txt are the values at a name of a server.
func txt(t *testing.T, server, name string) (out []string) {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, dns.TypeTXT)
	answer, err := dns.Exchange(m, server)
	if err != nil {
		t.Fatal(err)
	}
	for _, rr := range answer.Answer {
		if v, ok := rr.(*dns.TXT); ok {
			out = append(out, strings.Join(v.Txt, ""))
		}
	}
	return out
}

func TestRecordsOfChallengesAreSetAndTakenAway(t *testing.T) {
	k := withKnot(t)
	d := &DNS{Server: k.Addr, Name: testnet.KnotKey, Algorithm: "hmac-sha256", Secret: testnet.KnotSecret}
	for name, at := range map[string]string{"mta-sts.a.example": "_acme-challenge.mta-sts.a.example.", "mta-sts.b.a.example": "b.acme.example."} {
		c := challengeOf(name)
		if err := d.Present(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if got := txt(t, k.Addr, at); !slices.Equal(got, []string{c.DNS01KeyAuthorization()}) {
			t.Errorf("%s: %q", at, got)
		}
		if err := d.CleanUp(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if got := txt(t, k.Addr, at); len(got) != 0 {
			t.Errorf("%s: %q is left", at, got)
		}
	}
}

func TestAnUpdateThatIsRefusedSaysWhy(t *testing.T) {
	k := withKnot(t)
	right := DNS{Server: k.Addr, Name: testnet.KnotKey, Algorithm: "hmac-sha256", Secret: testnet.KnotSecret}
	for _, tt := range []struct {
		what   string
		change func(*DNS)
		name   string
		says   []string
	}{
		{"another secret", func(d *DNS) { d.Secret = "AAAA" }, "mta-sts.a.example", []string{"does not accept the TSIG key acme-update", "tsig_secret_file"}},
		{"an unknown key", func(d *DNS) { d.Name = "nobody" }, "mta-sts.a.example", []string{"does not accept the TSIG key nobody", "tsig_name"}},
		{"a key that may not update", func(d *DNS) { d.Name, d.Secret = testnet.KnotReadKey, testnet.KnotReadSecret }, "mta-sts.a.example", []string{"refuses the update", "a.example", "the key only-transfer"}},
		{"no key", func(d *DNS) { d.Name = "" }, "mta-sts.a.example", []string{"refuses the update", "tsig_name"}},
		{"another zone", func(*DNS) {}, "mta-sts.elsewhere.example", []string{"has no zone of _acme-challenge.mta-sts.elsewhere.example"}},
		{"nobody there", func(d *DNS) { d.Server = "127.0.0.1:1" }, "mta-sts.a.example", []string{"127.0.0.1:1", "refused"}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			d := right
			tt.change(&d)
			err := d.Present(t.Context(), challengeOf(tt.name))
			if err == nil {
				t.Fatal("it was not refused")
			}
			t.Log(err)
			for _, s := range tt.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q, want %q", err, s)
				}
			}
		})
	}
}

// The name servers beside the primary get a change later; the authority may ask them.
func TestAnOrderWaitsForAllNameServers(t *testing.T) {
	first, second := withKnot(t), withKnot(t)
	key := DNS{Server: first.Addr, Name: testnet.KnotKey, Algorithm: "hmac-sha256", Secret: testnet.KnotSecret}
	d, other := key, key
	other.Server = second.Addr
	d.Addresses = func(_ context.Context, host string) []string {
		if host != "ns.a.example." {
			t.Errorf("the name server is %q", host)
		}
		return []string{first.Addr, second.Addr}
	}
	c := challengeOf("mta-sts.a.example")
	if err := d.Present(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := d.Wait(short, c); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one server has nothing, and nobody waits for it: %v", err)
	}
	if err := other.Present(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if err := d.Wait(t.Context(), c); err != nil {
		t.Error(err)
	}
}

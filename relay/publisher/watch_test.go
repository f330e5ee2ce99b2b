package publisher

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/dnsclient"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/sts"
	"github.com/stsrelay/stsrelay/sts/publish"
)

// fakeInternet returns a fake Internet, and a resolver that asks its name server.
func fakeInternet(t *testing.T) (*testnet.Net, *dnsclient.Client) {
	t.Helper()
	n, err := testnet.New(testnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	ask, err := dnsclient.New(dnsclient.Options{Servers: []string{n.DNS.Addr()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ask.Close() })
	return n, ask
}

// What is found of a policy host without a certificate: while its address is why, that is
// said once, and it is no fault.
func TestAMissingCertificateIsToldOnce(t *testing.T) {
	n, ask := fakeInternet(t)
	policy := &sts.Policy{Mode: sts.ModeTesting, MaxAge: 14 * 24 * time.Hour, MX: []string{"mx.own.example"}}
	text := publish.Text(policy)
	served := Served{Domain: publish.Domain{Name: "own.example", Policy: policy}, Text: text, ID: publish.ID(text)}
	if err := n.DNS.Add("own.example. 60 IN MX 10 mx.own.example.", `_mta-sts.own.example. 60 IN TXT "`+publish.RecordText(served.ID)+`"`); err != nil {
		t.Fatal(err)
	}
	certificate := Certificate{Problem: "no certificate is ordered", Next: time.Date(2026, 11, 29, 6, 15, 0, 0, time.UTC)}
	view := View{Ask: ask, Host: "relay.example", Addresses: []netip.Addr{netip.MustParseAddr("198.51.100.7")}, Certificate: func(string) Certificate { return certificate }, Now: time.Now}
	judge := func(grade publish.Grade, want string) {
		t.Helper()
		found := view.Judge(t.Context(), served)
		if len(found) != 1 || found[0].Grade != grade || !strings.Contains(found[0].Text.String(), want) || strings.ContainsAny(found[0].Text.String(), "{}") {
			t.Errorf("want one %s with %q, got %+v", grade, want, found)
		}
	}
	judge(publish.Waiting, "mta-sts.own.example does not exist")
	if err := n.DNS.Add("mta-sts.own.example. 60 IN A 198.51.100.7"); err != nil {
		t.Fatal(err)
	}
	judge(publish.Fault, "tried again 2026-11-29 06:15 UTC; stsrelay publish renew own.example tries at once")
	certificate.Problem = ""
	judge(publish.Waiting, "waits its turn: tried again 2026-11-29 06:15 UTC")
}

func TestMailHostsOfADomain(t *testing.T) {
	n, ask := fakeInternet(t)
	if err := n.DNS.Add("mx.example. 60 IN MX 10 mx1.mx.example.", "mx.example. 60 IN A 198.51.100.7", "address.example. 60 IN A 198.51.100.7", "null.example. 60 IN MX 0 .", "null.example. 60 IN A 198.51.100.7"); err != nil {
		t.Fatal(err)
	}
	for domain, want := range map[string]publish.Seen{
		"mx.example": {MX: []string{"mx1.mx.example"}}, "address.example": {MX: []string{"address.example"}}, "null.example": {NoMail: true}, "nowhere.example": {},
	} {
		if got := Look(t.Context(), ask, domain); !slices.Equal(got.MX, want.MX) || got.NoMail != want.NoMail || got.MXError != nil {
			t.Errorf("%s: %+v", domain, got)
		}
	}
}

package relay_test

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/smtp"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/await"
	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/relay/operator"
	"github.com/stsrelay/stsrelay/sts"
)

// authority is a relay's view of pebble: the lines of its configuration, and the root of
// what pebble issues.
type authority struct {
	*testnet.Pebble
	http, https int
	roots       *x509.CertPool
}

// withPebble starts pebble for a world, or skips the test.
func withPebble(t *testing.T, w *e2e.World, o testnet.PebbleOptions) *authority {
	t.Helper()
	a := &authority{http: freeTCPPort(t), https: freeTCPPort(t)}
	o.Dir, o.HTTPPort = t.TempDir(), a.http
	if o.TLSPort == 0 {
		o.TLSPort = a.https
	}
	var err error
	if a.Pebble, err = w.StartPebble(o); errors.Is(err, testnet.ErrNoPebble) {
		t.Skip("skipped: ", err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.Close()
		if t.Failed() {
			t.Log(a.Log())
		}
	})
	root, err := a.Root()
	if err != nil {
		t.Fatal(err)
	}
	a.roots = x509.NewCertPool()
	if !a.roots.AppendCertsFromPEM(root) {
		t.Fatal("pebble has no root")
	}
	return a
}

func freeTCPPort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// toml is what a relay says that gets its certificates from a.
func (a *authority) toml(more string) string {
	return fmt.Sprintf("[publisher]\nhttps = \"127.0.0.1:%d\"\nhttp = \"127.0.0.1:%d\"\naddresses = [\"127.0.0.1\"]\n[acme]\ndirectory = %q\nagree = true\nca_file = %q\n%s",
		a.https, a.http, a.Directory, a.CAFile, more)
}

// domains are the lines of one policy of several domains, whose policy hosts lead to the
// relay.
func domains(t *testing.T, w *e2e.World, mode string, names ...string) string {
	t.Helper()
	for _, name := range names {
		if w.DNS.A("mta-sts."+name) == "" {
			if err := w.DNS.Add("mta-sts."+name+". 60 IN A 127.0.0.1", name+". 60 IN MX 10 mx."+name+"."); err != nil {
				t.Fatal(err)
			}
		}
	}
	return fmt.Sprintf("[[publish]]\ndomains = [\"%s\"]\nmode = %q\nmx = [\"*.%s\"]\n", strings.Join(names, `", "`), mode, names[0])
}

// fetch fetches the policy of a domain as another relay would, with its certificate.
func (a *authority) fetch(ctx context.Context, domain string) (*sts.Fetched, error) {
	return sts.NewFetcher(sts.FetcherOptions{
		Roots: a.roots, AllowPrivate: true, Timeout: 5 * time.Second,
		LookupAddrs: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, fmt.Sprintf("127.0.0.1:%d", a.https))
		},
	}).Fetch(ctx, domain)
}

// leaf is the certificate that is shown for a name, nil where there is none.
func (a *authority) leaf(name string) *x509.Certificate {
	conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", a.https), &tls.Config{ServerName: name, RootCAs: a.roots})
	if err != nil {
		return nil
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

func TestCertificatesOfPolicyHosts(t *testing.T) {
	for _, challenge := range []string{"http-01", "tls-alpn-01"} {
		t.Run(challenge, func(t *testing.T) {
			w := e2e.NewStopped(t)
			a := withPebble(t, w, testnet.PebbleOptions{CAAIdentities: []string{"pebble.example"}})
			names := []string{"a.example", "b.example", "c.example", "d.example", "e.example"}
			// One leads elsewhere, one does not exist, one may have certificates of
			// another authority only; another one is named there.
			if err := w.DNS.Add("mta-sts.elsewhere.example. 60 IN A 192.0.2.9", "forbidden.example. 60 IN CAA 0 issue \"digicert.com\"",
				"a.example. 60 IN CAA 0 issue \"pebble.example\""); err != nil {
				t.Fatal(err)
			}
			text := a.toml("challenge = \"" + challenge + "\"\n" + domains(t, w, "enforce", append(names, "forbidden.example")...) +
				"[[publish]]\ndomains = [\"elsewhere.example\", \"absent.example\"]\nmx = [\"mx.example\"]\n")
			w.Start(text)
			for _, name := range names {
				await.Until(t, name, func() bool {
					got, err := a.fetch(t.Context(), name)
					return err == nil && got.Policy.Mode == sts.ModeEnforce
				})
			}
			// Names that nobody publishes cause nothing.
			for i := range 1000 {
				if a.leaf(fmt.Sprintf("mta-sts.unknown%d.example", i)) != nil {
					t.Fatal("a certificate of an unknown name is shown")
				}
			}
			log := a.Log()
			for _, never := range []string{"elsewhere", "absent", "forbidden", "unknown"} {
				if strings.Contains(log, never) {
					t.Errorf("an order of %s has reached the authority", never)
				}
			}
			// It is asked for again where its nonce is refused.
			if !strings.Contains(log, "There are now 1 accounts") || strings.Contains(log, "There are now 2 accounts") {
				t.Error("more than one account was made, or none")
			}
			// What the operator reads of them.
			var served []operator.Published
			if err := w.Admin().Get(t.Context(), "/v1/publish", nil, &served); err != nil {
				t.Fatal(err)
			}
			problems := map[string]string{"a.example": "", "elsewhere.example": "has the address 192.0.2.9, which is none of this relay's (127.0.0.1)", "forbidden.example": "CAA of forbidden.example allows digicert.com only", "absent.example": "does not exist"}
			for _, s := range served {
				want, ok := problems[s.Domain]
				if ok && (!strings.Contains(s.Certificate.Problem, want) || (s.Certificate.NotAfter != nil) != (want == "")) {
					t.Errorf("%s: %+v, want %q", s.Domain, s.Certificate, want)
				}
			}
			if challenge == "http-01" {
				before := a.leaf("mta-sts.b.example")
				if err := w.Admin().Do(t.Context(), "POST", "/v1/publish/b.example/renew", nil, nil); err != nil || a.leaf("mta-sts.b.example").Equal(before) {
					t.Errorf("it was not renewed: %v", err)
				}
				if err := w.Admin().Do(t.Context(), "POST", "/v1/publish/b.example/renew", nil, nil); err == nil || !strings.Contains(err.Error(), "less than an hour ago") {
					t.Errorf("it was renewed twice: %v", err)
				}
				log = a.Log()
			}
			// The certificates and the account outlive the relay.
			before := a.leaf("mta-sts.a.example")
			orders := strings.Count(log, "created new order") + strings.Count(log, "Issued certificate")
			w.Stop()
			w.Start(text)
			await.Until(t, "the certificate after a start", func() bool { return a.leaf("mta-sts.a.example") != nil })
			if !a.leaf("mta-sts.a.example").Equal(before) || orders == 0 || strings.Count(a.Log(), "Issued certificate") != strings.Count(log, "Issued certificate") {
				t.Error("the certificate was ordered again")
			}
		})
	}
}

// STSRELAY_TEST_NAMES=100 in the environment has so many names get certificates with each
// challenge. certmagic makes ten orders in ten seconds.
func TestManyCertificates(t *testing.T) {
	n, err := strconv.Atoi(cmp.Or(os.Getenv("STSRELAY_TEST_NAMES"), "0"))
	if err != nil {
		t.Fatal(err)
	}
	if n == 0 {
		t.Skip("skipped: STSRELAY_TEST_NAMES says how many")
	}
	for _, challenge := range []string{"http-01", "tls-alpn-01"} {
		t.Run(challenge, func(t *testing.T) {
			w := e2e.NewStopped(t)
			a := withPebble(t, w, testnet.PebbleOptions{})
			names := make([]string, n)
			for i := range names {
				names[i] = fmt.Sprintf("d%d.example", i)
			}
			begun := time.Now()
			w.Start(a.toml("challenge = \"" + challenge + "\"\n" + domains(t, w, "enforce", names...)))
			for _, name := range names {
				for a.leaf("mta-sts."+name) == nil {
					if time.Since(begun) > time.Duration(n+60)*2*time.Second {
						t.Fatalf("%s has no certificate", name)
					}
					time.Sleep(100 * time.Millisecond)
				}
				if got, err := a.fetch(t.Context(), name); err != nil || got.Policy.Mode != sts.ModeEnforce {
					t.Fatalf("%s: %v", name, err)
				}
			}
			if strings.Contains(a.Log(), "There are now 2 accounts") {
				t.Error("more than one account was made")
			}
			t.Logf("%d names in %s, %d orders", n, time.Since(begun).Round(time.Second), strings.Count(a.Log(), "Added order"))
		})
	}
}

// A certificate is renewed before it ends, when the authority says so (RFC 9773), and one
// that holds is shown all the time.
func TestACertificateIsRenewedWithoutAGap(t *testing.T) {
	w := e2e.NewStopped(t)
	w.RenewCheck = 200 * time.Millisecond
	a := withPebble(t, w, testnet.PebbleOptions{Life: 20 * time.Second})
	w.Start(a.toml("profile = \"shortlived\"\n" + domains(t, w, "testing", "a.example")))
	await.Until(t, "the first certificate", func() bool { return a.leaf("mta-sts.a.example") != nil })
	first := a.leaf("mta-sts.a.example")
	if life := first.NotAfter.Sub(first.NotBefore); life > time.Minute {
		t.Errorf("the profile has no effect: it lives %s", life)
	}
	await.Until(t, "the renewal", func() bool {
		now := a.leaf("mta-sts.a.example")
		if now == nil {
			t.Fatal("no certificate that holds is shown")
		}
		return !now.Equal(first)
	})
	if !strings.Contains(a.Log(), "renewal-info") && !strings.Contains(a.Log(), "renewalInfo") {
		t.Error("the authority was not asked when to renew")
	}
}

// The relay's own certificate, with an account that is bound to one that there is.
func TestTheRelaysOwnCertificate(t *testing.T) {
	const key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
	w := e2e.NewStopped(t)
	a := withPebble(t, w, testnet.PebbleOptions{ExternalAccounts: map[string]string{"kid-1": key}})
	w.AddRecords("relay.test.example. 60 IN A 127.0.0.1")
	if err := os.WriteFile(filepath.Join(w.Dir, "eab.key"), []byte(key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := a.toml("eab_key_id = \"kid-1\"\neab_key_file = \"eab.key\"\n[tls]\nacme = true\n")
	w.Start(strings.Replace(text, fmt.Sprintf("https = \"127.0.0.1:%d\"\n", a.https), "", 1))
	holds := func() bool {
		c, err := smtp.Dial(w.Addr)
		if err != nil {
			return false
		}
		defer c.Close()
		return c.StartTLS(&tls.Config{ServerName: "relay.test.example", RootCAs: a.roots}) == nil
	}
	await.Until(t, "the relay's certificate", holds)
	w.Reload()
	if !holds() {
		t.Error("a reload has taken it away")
	}
}

func TestNothingIsOrderedWithoutAnAgreement(t *testing.T) {
	w := e2e.NewStopped(t)
	a := withPebble(t, w, testnet.PebbleOptions{})
	w.Start(strings.Replace(a.toml(domains(t, w, "testing", "a.example")), "agree = true", "agree = false", 1))
	await.Until(t, "an order that is not made", func() bool { return strings.Contains(problem(t, w, "a.example"), "acme.agree is not true") })
	if log := a.Log(); strings.Contains(log, "POST") {
		t.Errorf("the authority was asked:\n%s", log)
	}
}

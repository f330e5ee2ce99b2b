package check

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/dnsclient"
	"github.com/stsrelay/stsrelay/internal/testnet"
)

// today is the date of every test, and of every certificate in it.
var today = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// world is a fake Internet, and a relay's view of it.
type world struct {
	*testnet.Net
	t       testing.TB
	options Options
	mx1     *testnet.Host
	hosts   []*testnet.Host
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldAt(t, func() time.Time { return today })
}

func newWorldAt(t testing.TB, now func() time.Time) *world {
	t.Helper()
	n, err := testnet.New(testnet.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	resolver, err := dnsclient.New(dnsclient.Options{Servers: []string{n.DNS.Addr()}, Timeout: 2 * time.Second, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resolver.Close() })
	return &world{Net: n, t: t, options: Options{
		Resolver: resolver, Roots: n.CA.Roots(), Dial: n.DialContext, Hostname: "relay.test.example",
		AllowPrivate: true, Now: now,
	}}
}

func (w *world) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// host adds an SMTP host with faults.
func (w *world) host(name string, f testnet.Faults) *testnet.Host {
	w.t.Helper()
	h, err := w.AddHost(name)
	w.ok(err)
	w.ok(h.Set(f))
	w.hosts = append(w.hosts, h)
	return h
}

// enforced publishes a domain with hosts and a policy in mode enforce that
// names them.
func (w *world) enforced(domain string, mx ...string) {
	w.t.Helper()
	w.domain(domain, "enforce", mx, mx)
}

func (w *world) domain(domain, mode string, mx, patterns []string) {
	w.t.Helper()
	w.ok(w.AddDomain(domain, testnet.Domain{MX: mx, TLSRPT: "mailto:tls@" + domain,
		Policy: testnet.Policy{ID: "20260601", Mode: mode, MX: patterns, MaxAge: 1209600}}))
}

// site is the policy host of a domain, with faults.
func (w *world) site(domain string, f testnet.PolicyFaults) {
	w.t.Helper()
	s, err := w.PolicyHost(domain)
	w.ok(err)
	w.ok(s.Set(f))
}

// sign lets DNSSEC vouch for names.
func (w *world) sign(names ...string) {
	for _, n := range names {
		w.DNS.Secure(n, true)
	}
}

// tlsa publishes a 3 1 1 record for the certificate that the host shows now; with
// wrong, for another key.
func (w *world) tlsa(h *testnet.Host, wrong bool) {
	w.t.Helper()
	sum := sha256.Sum256(w.leaf(h).RawSubjectPublicKeyInfo)
	if wrong {
		sum[0] ^= 1
	}
	w.ok(w.DNS.Add(fmt.Sprintf("_25._tcp.%s. 60 IN TLSA 3 1 1 %s", h.Name, hex.EncodeToString(sum[:]))))
	w.sign("_25._tcp."+h.Name, h.Name)
}

// leaf asks a host for its certificate.
func (w *world) leaf(h *testnet.Host) *x509.Certificate {
	w.t.Helper()
	conn, err := w.DialContext(w.t.Context(), "tcp", h.IP+":25")
	w.ok(err)
	defer conn.Close()
	buf := make([]byte, 1024)
	for _, line := range []string{"", "EHLO x\r\n", "STARTTLS\r\n"} {
		_, err := conn.Write([]byte(line))
		w.ok(err)
		_, err = conn.Read(buf)
		w.ok(err)
	}
	c := tls.Client(conn, &tls.Config{ServerName: h.Name, InsecureSkipVerify: true})
	w.ok(c.Handshake())
	return c.ConnectionState().PeerCertificates[0]
}

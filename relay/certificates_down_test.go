package relay_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/await"
	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/relay/operator"
	"github.com/stsrelay/stsrelay/sts/publish"
)

// outside has a relay find its own policy hosts as others do, with pebble's certificates.
func outside(w *e2e.World, a *authority) {
	w.Roots = a.roots
	w.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == "127.0.0.1:443" {
			return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort("127.0.0.1", strconv.Itoa(a.https)))
		}
		return w.DialContext(ctx, network, address)
	}
}

// wire leads to an address, and can be cut.
type wire struct {
	to, at string
	ln     net.Listener

	mu    sync.Mutex
	conns []net.Conn
}

// connect begins to lead on, at the same address each time.
func (l *wire) connect(t *testing.T) {
	t.Helper()
	ln, err := net.Listen("tcp", l.at)
	if err != nil {
		t.Fatal(err)
	}
	l.ln = ln
	go func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", l.to)
			if err != nil {
				in.Close()
				continue
			}
			l.mu.Lock()
			l.conns = append(l.conns, in, out)
			l.mu.Unlock()
			go func() { _, _ = io.Copy(out, in); out.Close() }()
			go func() { _, _ = io.Copy(in, out); in.Close() }()
		}
	}()
}

func (l *wire) cut() {
	l.ln.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		c.Close()
	}
}

// withWire is withPebble with a wire before it.
func withWire(t *testing.T, w *e2e.World, o testnet.PebbleOptions) (*authority, *wire) {
	t.Helper()
	a := withPebble(t, w, o)
	at, err := url.Parse(a.Directory)
	if err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(freeTCPPort(t))
	l := &wire{to: "127.0.0.1:" + at.Port(), at: "127.0.0.1:" + port}
	l.connect(t)
	t.Cleanup(l.cut)
	a.Directory = strings.Replace(a.Directory, at.Port(), port, 1)
	return a, l
}

// problem is what the operator reads of the certificate of a domain.
func problem(t *testing.T, w *e2e.World, domain string) string {
	t.Helper()
	var served []operator.Published
	if err := w.Admin().Get(t.Context(), "/v1/publish", nil, &served); err != nil {
		t.Fatal(err)
	}
	for _, s := range served {
		if s.Domain == domain {
			return s.Certificate.Problem
		}
	}
	return ""
}

// The authority is down for ten days, the last ones of a certificate: it is served on, and the
// operator is told once a day. When the authority is back, there is a new
// certificate.
func TestCertificatesWhileTheAuthorityIsDown(t *testing.T) {
	const life = 20 * 24 * time.Hour
	w := e2e.NewWithClock(t)
	back := w.Host("mx1.operator.example")
	w.Domain("operator.example", testnet.Domain{MX: []string{back.Name}})
	a, line := withWire(t, w, testnet.PebbleOptions{Life: life})
	outside(w, a)
	w.Start("[notices]\noperator = \"root@operator.example\"\n" + a.toml("profile = \"shortlived\"\n"+domains(t, w, "testing", "a.example")))
	var served []operator.Published
	await.Until(t, "the certificate", func() bool { return a.leaf("mta-sts.a.example") != nil })
	if err := w.Admin().Get(t.Context(), "/v1/publish", nil, &served); err != nil {
		t.Fatal(err)
	}
	w.AddRecords(`_mta-sts.a.example. 60 IN TXT "`+publish.RecordText(served[0].ID)+`"`, `_smtp._tls.a.example. 60 IN TXT "v=TLSRPTv1; rua=mailto:reports@a.example"`)
	first := a.leaf("mta-sts.a.example")
	line.cut()
	for range 2 { // what has not reached the authority may be tried again
		if err := w.Admin().Do(t.Context(), http.MethodPost, "/v1/publish/a.example/renew", nil, nil); err == nil || strings.Contains(err.Error(), "an hour ago") {
			t.Fatalf("it was renewed while the authority is down: %v", err)
		}
	}
	if !strings.Contains(problem(t, w, "a.example"), "connection refused") {
		t.Errorf("the reason is %q", problem(t, w, "a.example"))
	}

	told := func() (n int) {
		for _, m := range back.Messages() {
			if text := strings.ReplaceAll(string(m.Data), "=\r\n", ""); strings.Contains(text, "mta-sts.a.example: its certificate ends on ") && strings.Contains(text, "connection refused") && strings.Contains(text, "is not renewed") {
				n++
			}
		}
		return n
	}
	look := func() {
		w.Clock.Set(w.Clock.Now().Add(time.Minute))
		problem(t, w, "a.example") // gives the relay time
	}
	at := first.NotAfter.Add(-10*24*time.Hour + time.Hour)
	for day := range 10 {
		w.Clock.Set(at.Add(time.Duration(day) * 24 * time.Hour))
		if before := told(); day >= 6 { // the last quarter of its life, but for the day on which it begins
			for i := 0; i < 500 && told() == before; i++ {
				look()
				time.Sleep(2 * time.Millisecond) // mail to the operator is on its way
			}
		}
		for range 3 { // many looks of a day are told once
			for range 5 {
				look()
			}
			w.Clock.Set(w.Clock.Now().Add(2 * time.Hour))
		}
		if now := a.leaf("mta-sts.a.example"); now == nil || !now.Equal(first) {
			t.Fatalf("on day %d another certificate is shown, or none", day+1)
		}
	}
	w.WaitUntilEmpty()
	// The last quarter of its life, five days, is told.
	if n := told(); n < 4 || n > 5 || len(back.Messages()) != n {
		t.Errorf("the operator was told %d times in the last five days, by %d mails", n, len(back.Messages()))
	}

	line.connect(t)
	if err := w.Admin().Do(t.Context(), http.MethodPost, "/v1/publish/a.example/renew", nil, nil); err != nil {
		t.Fatal(err)
	}
	if now := a.leaf("mta-sts.a.example"); now == nil || now.Equal(first) || problem(t, w, "a.example") != "" {
		t.Error("there is no new certificate")
	}
	if strings.Contains(a.Log(), "There are now 2 accounts") {
		t.Error("another account was made")
	}
}

// certmagic renews by itself: what fails is told, and the certificate is shown as long as it
// holds. certmagic remembers a name that failed as long as the process runs: no other test has
// this one.
func TestACertificateIsShownWhileItsRenewalFails(t *testing.T) {
	w := e2e.NewStopped(t)
	w.RenewCheck = 200 * time.Millisecond
	a := withPebble(t, w, testnet.PebbleOptions{Life: 24 * time.Second})
	w.Start(a.toml("profile = \"shortlived\"\n" + domains(t, w, "testing", "shown.example")))
	await.Until(t, "the certificate", func() bool { return a.leaf("mta-sts.shown.example") != nil })
	first := a.leaf("mta-sts.shown.example")
	a.Close()
	await.Until(t, "a renewal that fails", func() bool { return strings.Contains(problem(t, w, "shown.example"), "connection refused") })
	if now := a.leaf("mta-sts.shown.example"); now == nil || !now.Equal(first) {
		t.Error("the certificate is not shown any more")
	}
}

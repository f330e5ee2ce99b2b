package publisher

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/sts"
	"github.com/stsrelay/stsrelay/sts/publish"
)

// certificate writes a self-made certificate of name into dir, and returns the pool that
// trusts it.
func certificate(t *testing.T, dir, name string, at time.Time) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(at.UnixNano()), DNSNames: []string{name}, NotBefore: at.Add(-time.Hour), NotAfter: at.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{".pem": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		file = filepath.Join(dir, name+file)
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return pool
}

// serve serves b at addresses of the system's choice.
func (b *bench) serve(a Addresses) *Server {
	b.t.Helper()
	a.HTTPS, a.HTTP = "127.0.0.1:0", "127.0.0.1:0"
	s, err := b.Listen(a)
	if err != nil {
		b.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve() }()
	b.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
		if err := <-done; err != nil {
			b.t.Error(err)
		}
	})
	return s
}

func TestPoliciesOverTLSByFiles(t *testing.T) {
	b := newBench(t)
	b.now = time.Now()
	b.set(domain("a.example", sts.ModeEnforce, 2*week))
	dir := t.TempDir()
	files := &Files{Dir: dir, Known: func(name string) bool { return name == "mta-sts.a.example" }, Now: func() time.Time { return b.now }}
	s := b.serve(Addresses{Certificate: files.Certificate})
	client := func(roots *x509.CertPool, h2 bool) *http.Client {
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: h2,
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, s.HTTPSAddr().String())
			}}
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr}
	}
	fetch := func(c *http.Client) (string, string, error) {
		r, err := c.Get("https://mta-sts.a.example" + publish.Path)
		if err != nil {
			return "", "", err
		}
		defer r.Body.Close()
		text, err := io.ReadAll(r.Body)
		return string(text), r.Proto, err
	}
	if _, _, err := fetch(client(nil, true)); err == nil || !strings.Contains(files.State("mta-sts.a.example").Problem, "no such file") {
		t.Error(err, files.State("mta-sts.a.example"))
	}
	b.now = b.now.Add(fileCheck)
	roots := certificate(t, dir, "mta-sts.a.example", b.now)
	for proto, h2 := range map[string]bool{"HTTP/2.0": true, "HTTP/1.1": false} {
		if text, got, err := fetch(client(roots, h2)); err != nil || got != proto || !strings.Contains(text, "mode: enforce\r\n") {
			t.Errorf("%q %s %v, want %s", text, got, err, proto)
		}
	}
	if _, err := tls.Dial("tcp", s.HTTPSAddr().String(), &tls.Config{ServerName: "mta-sts.other.example", InsecureSkipVerify: true}); err == nil {
		t.Error("a name that nobody has published gets a certificate")
	}
	if _, err := tls.Dial("tcp", s.HTTPSAddr().String(), &tls.Config{ServerName: "mta-sts.a.example", InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	// A renewed file counts without a restart; a broken one leaves the old one.
	b.now = b.now.Add(fileCheck)
	renewed := certificate(t, dir, "mta-sts.a.example", b.now)
	if _, _, err := fetch(client(renewed, true)); err != nil {
		t.Error(err)
	}
	b.now = b.now.Add(fileCheck)
	if err := os.WriteFile(filepath.Join(dir, "mta-sts.a.example.pem"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := fetch(client(renewed, true)); err != nil || files.State("mta-sts.a.example").Problem == "" {
		t.Error(err, files.State("mta-sts.a.example"))
	}
}

// A change of what is published keeps the connections that are open.
func TestAChangeDropsNoConnection(t *testing.T) {
	b := newBench(t)
	b.set(domain("a.example", sts.ModeTesting, 2*week))
	s := b.serve(Addresses{}) // behind a proxy
	conn, err := net.Dial("tcp", s.HTTPSAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	for _, step := range []struct {
		domains []publish.Domain
		host    string
		status  int
	}{
		{[]publish.Domain{domain("a.example", sts.ModeTesting, 2*week)}, "mta-sts.a.example", 200},
		{[]publish.Domain{domain("a.example", sts.ModeTesting, 2*week), domain("b.example", sts.ModeTesting, 2*week)}, "mta-sts.b.example", 200},
		{[]publish.Domain{domain("c.example", sts.ModeTesting, 2*week)}, "mta-sts.c.example", 200},
		{nil, "mta-sts.d.example", 404},
	} {
		b.set(step.domains...)
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", publish.Path, step.host)
		r, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, r.Body)
		r.Body.Close()
		if r.StatusCode != step.status {
			t.Errorf("%s: %d", step.host, r.StatusCode)
		}
	}
}

func TestPort80AnswersChallengesOnly(t *testing.T) {
	b := newBench(t)
	b.Publisher.o.Challenge = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/.well-known/acme-challenge/token" {
			return false
		}
		fmt.Fprint(w, "key")
		return true
	}
	b.set(domain("a.example", sts.ModeTesting, 2*week))
	s := b.serve(Addresses{})
	for path, status := range map[string]int{"/.well-known/acme-challenge/token": 200, publish.Path: 404, "/": 404} {
		req, err := http.NewRequest(http.MethodGet, "http://"+s.HTTPAddr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "mta-sts.a.example"
		r, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != status || r.Header.Get("Location") != "" {
			t.Errorf("%s: %d", path, r.StatusCode)
		}
	}
	if b.count["challenge"] != 1 || b.count["not-found"] != 2 {
		t.Error(b.count)
	}
}

// One client that opens connections and says nothing keeps no other from the policies.
func TestOneClientCannotTakeAllConnections(t *testing.T) {
	b := newBench(t)
	b.set(domain("a.example", sts.ModeEnforce, 2*week))
	dir := t.TempDir()
	roots := certificate(t, dir, "mta-sts.a.example", time.Now())
	files := &Files{Dir: dir, Known: func(string) bool { return true }, Now: time.Now}
	for _, tt := range []struct {
		name      string
		balancers []netip.Prefix
		taken     bool
	}{
		{"a client", nil, false},
		{"a proxy", []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, true},
	} {
		s := b.serve(Addresses{Certificate: files.Certificate, ProxyFrom: tt.balancers})
		dial := func() net.Conn {
			c, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.HTTPSAddr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			return c
		}
		for range freeConnections {
			dial()
		}
		raw := dial()
		if tt.taken {
			fmt.Fprint(raw, "PROXY TCP4 192.0.2.1 198.51.100.7 12345 443\r\n")
		}
		c := tls.Client(raw, &tls.Config{RootCAs: roots, ServerName: "mta-sts.a.example"})
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		if err := c.Handshake(); (err == nil) != tt.taken {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// caller is a connection of a client.
type caller struct {
	net.Conn
	from   string
	closed bool
}

func (c *caller) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(c.from), 5))
}
func (c *caller) Close() error { c.closed = true; return nil }

// callers is a listener to which one after the other connects.
type callers struct {
	net.Listener
	next []*caller
}

func (l *callers) Accept() (net.Conn, error) {
	if len(l.next) == 0 {
		return nil, io.EOF
	}
	c := l.next[0]
	l.next = l.next[1:]
	return c, nil
}

func TestConnectionsAreShared(t *testing.T) {
	from := &callers{}
	ln := share(from, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")})
	var open []net.Conn
	for _, step := range []struct {
		from string
		n    int
		want int // that are taken
	}{
		{"10.1.1.1", 50, 50},
		{"192.0.2.1", freeConnections + 1, freeConnections},
		{"::ffff:192.0.2.1", 1, 0},
		{"192.0.2.2", networkShare + 5, networkShare},
		{"2001:db8::1", networkShare, networkShare},
		{"2001:db8::ffff:1", 1, 0},
		{"2001:db8:0:1::1", 1, 1},
		{"10.1.1.1", 50, 50},
		{"", 0, 0}, // all are closed
		{"192.0.2.1", freeConnections, freeConnections},
	} {
		if step.from == "" {
			for _, c := range open {
				_, _ = c.Close(), c.Close() // one that is closed twice counts once
			}
		}
		var made []*caller
		for range step.n {
			made = append(made, &caller{from: step.from})
		}
		from.next = slices.Clone(made)
		taken := 0
		for c, err := ln.Accept(); err == nil; c, err = ln.Accept() {
			open = append(open, c)
			taken++
		}
		closed := 0
		for _, c := range made {
			if c.closed {
				closed++
			}
		}
		if taken != step.want || closed != step.n-step.want {
			t.Errorf("%s: %d of %d taken, want %d; %d closed", step.from, taken, step.n, step.want, closed)
		}
	}
}

// Both versions of the PROXY header are read from a load balancer, which must send one;
// from others it is no HTTP.
func TestTheHeaderOfALoadBalancer(t *testing.T) {
	v2 := "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x07\x30\x39\x01\xbb"
	for _, tt := range []struct {
		name, from, header string
		ok                 bool
	}{
		{"version 1", "127.0.0.0/8", "PROXY TCP4 192.0.2.1 198.51.100.7 12345 443\r\n", true},
		{"version 2", "127.0.0.0/8", v2, true},
		{"none from a load balancer", "127.0.0.0/8", "", false},
		{"one from a stranger", "10.0.0.0/8", "PROXY TCP4 192.0.2.1 198.51.100.7 12345 443\r\n", false},
		{"none from a stranger", "10.0.0.0/8", "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t)
			b.set(domain("a.example", sts.ModeTesting, 2*week))
			s := b.serve(Addresses{ProxyFrom: []netip.Prefix{netip.MustParsePrefix(tt.from)}})
			conn, err := net.Dial("tcp", s.HTTPSAddr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprintf(conn, "%sGET %s HTTP/1.1\r\nHost: mta-sts.a.example\r\nConnection: close\r\n\r\n", tt.header, publish.Path)
			r, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if got := err == nil && r.StatusCode == http.StatusOK; got != tt.ok {
				t.Errorf("%v, %v", r, err)
			}
			if err == nil {
				r.Body.Close()
			}
		})
	}
}

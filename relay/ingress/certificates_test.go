package ingress

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// shown returns the session that a client of a listener gets, with its certificate.
func shown(t *testing.T, server, client *tls.Config) (*tls.ConnectionState, error) {
	t.Helper()
	a, b := net.Pipe()
	done := make(chan error, 1)
	go func() {
		s := tls.Server(a, server)
		err := s.Handshake()
		a.Close()
		done <- err
	}()
	client.InsecureSkipVerify = true
	c := tls.Client(b, client)
	err := c.Handshake()
	b.Close()
	<-done
	state := c.ConnectionState()
	return &state, err
}

// pair makes a certificate and writes its two files, with a time.
func pair(t *testing.T, dir, name string, at time.Time) tls.Certificate {
	t.Helper()
	from := t.TempDir()
	certs, err := SelfSigned(name, from)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(from, "self-signed-ecdsa.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"cert.pem", "key.pem"} {
		write(t, filepath.Join(dir, f), data, at)
	}
	return certs[0]
}

func write(t *testing.T, file string, data []byte, at time.Time) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file, at, at); err != nil {
		t.Fatal(err)
	}
}

func TestCertificatesAreReadAgainWhenTheirFilesChange(t *testing.T) {
	dir, at := t.TempDir(), time.Now().Add(-time.Hour)
	first := pair(t, dir, "a.example.com", at)
	r := NewCertificates([]tls.Certificate{first}, dir+"/cert.pem", dir+"/key.pem")
	listener := r.ServerTLS(tls.VersionTLS12) // made once, at start
	var text bytes.Buffer
	log := slog.New(slog.NewTextHandler(&text, nil))
	check := func(want tls.Certificate, line string) {
		t.Helper()
		r.refresh(log)
		r.refresh(log)
		got, err := shown(t, listener, &tls.Config{})
		if err != nil || !bytes.Equal(got.PeerCertificates[0].Raw, want.Certificate[0]) {
			t.Fatalf("the certificate of %v is shown, %v", got.PeerCertificates[0].DNSNames, err)
		}
		if n := strings.Count(text.String(), "\n"); line == "" && n > 0 || line != "" && (n != 1 || !strings.Contains(text.String(), line)) {
			t.Errorf("the log says %q, want one line with %q", text.String(), line)
		}
		text.Reset()
	}
	check(first, "")
	second := pair(t, dir, "b.example.com", at.Add(time.Minute))
	check(second, "was read again")
	write(t, dir+"/cert.pem", []byte("half a fil"), at.Add(2*time.Minute))
	check(second, "cannot be used; the old one stays")
	os.Remove(dir + "/cert.pem")
	check(second, "cannot be used; the old one stays")
	third := pair(t, dir, "c.example.com", at.Add(3*time.Minute))
	check(third, "was read again")
	// A reload may name other files, and those are watched from then on.
	other := t.TempDir()
	fourth := pair(t, other, "d.example.com", at)
	r.Set([]tls.Certificate{fourth}, other+"/cert.pem", other+"/key.pem")
	check(fourth, "")
	pair(t, dir, "e.example.com", at.Add(time.Hour))
	check(fourth, "")
	fifth := pair(t, other, "f.example.com", at.Add(time.Minute))
	check(fifth, "was read again")
}

func TestTheSelfMadeCertificateStays(t *testing.T) {
	hostname, dir := "relay.example.com", t.TempDir()
	state := func() []byte {
		t.Helper()
		certs, err := SelfSigned(hostname, dir)
		if err != nil {
			t.Fatal(err)
		}
		r := NewCertificates(certs, "", "")
		r.refresh(slog.New(slog.DiscardHandler))
		s, err := shown(t, r.ServerTLS(tls.VersionTLS12), &tls.Config{})
		if err != nil || s.PeerCertificates[0].VerifyHostname(hostname) != nil {
			t.Fatalf("%v, %v", s.PeerCertificates, err)
		}
		return s.PeerCertificates[0].Raw
	}
	first := state()
	if !bytes.Equal(first, state()) {
		t.Error("the second start has made another certificate")
	}
	hostname = "other.example.com"
	if bytes.Equal(first, state()) {
		t.Error("another name has the old certificate")
	}
}

// What devices of each age get from a listener of each kind. The oldest know
// TLS 1.0, RSA keys and nothing else.
func TestVersionsOfTLS(t *testing.T) {
	certs, err := SelfSigned("relay.example.com", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r := NewCertificates(certs, "", "")
	old := []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA}
	for _, tt := range []struct {
		listener string
		client   *tls.Config
		want     uint16 // 0: refused
	}{
		{"1.0", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10, CipherSuites: old}, tls.VersionTLS10},
		{"1.0", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11, CipherSuites: old}, tls.VersionTLS11},
		{"1.0", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}, tls.VersionTLS10},
		{"1.0", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_256_GCM_SHA384}}, tls.VersionTLS12},
		{"1.0", &tls.Config{}, tls.VersionTLS13},
		{"1.1", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}, 0},
		{"1.1", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, tls.VersionTLS11},
		{"1.2", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, 0},
		{"1.2", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: old}, 0},
		{"1.2", &tls.Config{MaxVersion: tls.VersionTLS12}, tls.VersionTLS12},
		{"1.2", &tls.Config{}, tls.VersionTLS13},
		{"1.3", &tls.Config{MaxVersion: tls.VersionTLS12}, 0},
		{"1.3", &tls.Config{}, tls.VersionTLS13},
	} {
		got, err := shown(t, r.ServerTLS(TLSVersion(tt.listener)), tt.client)
		if (err != nil) != (tt.want == 0) || err == nil && got.Version != tt.want {
			t.Errorf("min_tls %s, client up to %s: %s, %v", tt.listener, tls.VersionName(tt.client.MaxVersion), tls.VersionName(got.Version), err)
		}
	}
}

// What a power cut has left of a certificate of the relay's own keeps it from no start. A
// file that cannot be read does: it may be a good one.
func TestABrokenSelfSignedCertificateIsMadeAnew(t *testing.T) {
	dir := t.TempDir()
	first, err := SelfSigned("relay.example.com", dir)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "self-signed-ecdsa.pem")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, left := range [][]byte{nil, whole[:100], whole[:len(whole)-100], make([]byte, len(whole))} {
		write(t, file, left, time.Now())
		certs, err := SelfSigned("relay.example.com", dir)
		if err != nil || certs[0].Leaf.VerifyHostname("relay.example.com") != nil {
			t.Fatalf("%d octets: %v", len(left), err)
		}
		if !bytes.Equal(certs[1].Certificate[0], first[1].Certificate[0]) {
			t.Error("the other certificate is another one")
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(file, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := SelfSigned("relay.example.com", dir); err == nil {
		t.Error("a file that cannot be read is no fault")
	}
}

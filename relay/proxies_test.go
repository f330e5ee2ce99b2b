package relay_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/await"
	"github.com/stsrelay/stsrelay/internal/e2e"
	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/sts"
)

// proxy starts a program with a configuration file, and waits until it listens at a port; where
// there is no such program, the test is skipped.
func proxy(t *testing.T, port int, conf string, name string, args ...string) {
	t.Helper()
	program, err := exec.LookPath(name)
	if err != nil {
		t.Skip("skipped: there is no program ", name)
	}
	file := filepath.Join(t.TempDir(), name+".conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	c := exec.Command(program, append(args, file)...)
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
		if t.Failed() {
			t.Log(out.String())
		}
	})
	await.Until(t, name+" to listen", func() bool {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// fetchAt fetches the policy of a domain at a port.
func fetchAt(ctx context.Context, roots *x509.CertPool, port int, domain string) (*sts.Fetched, error) {
	a := &authority{https: port, roots: roots}
	return a.fetch(ctx, domain)
}

// Port 443 belongs to a proxy, which passes TLS on by its SNI, with version 2 of the PROXY
// header: certificates by tls-alpn-01 and policies go through it, and other names to the
// web server that was there before.
func TestBehindHAProxyThatPassesTLSOn(t *testing.T) {
	if _, err := exec.LookPath("haproxy"); err != nil {
		t.Skip("skipped: there is no program haproxy")
	}
	w := e2e.NewStopped(t)
	front, before := freeTCPPort(t), freeTCPPort(t)
	a := withPebble(t, w, testnet.PebbleOptions{TLSPort: front})
	proxy(t, front, fmt.Sprintf(`defaults
  mode tcp
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend https
  bind 127.0.0.1:%d
  tcp-request inspect-delay 5s
  tcp-request content accept if { req.ssl_hello_type 1 }
  use_backend stsrelay if { req.ssl_sni -m beg mta-sts. }
  default_backend exchange
backend stsrelay
  server relay 127.0.0.1:%d send-proxy-v2
backend exchange
  server owa 127.0.0.1:%d
`, front, a.https, before), "haproxy", "-db", "-f")
	cert, err := w.CA.Issue("owa.example", testnet.CertSpec{})
	if err != nil {
		t.Fatal(err)
	}
	owa, err := tls.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", before), &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	defer owa.Close()
	go func() {
		for {
			c, err := owa.Accept()
			if err != nil {
				return
			}
			_ = c.(*tls.Conn).Handshake()
			c.Close()
		}
	}()
	text := strings.Replace(a.toml("challenge = \"tls-alpn-01\"\n"+domains(t, w, "enforce", "a.example")), "addresses =", "proxy_protocol = [\"127.0.0.1\"]\naddresses =", 1)
	w.Start(text)
	await.Until(t, "the policy through HAProxy", func() bool {
		got, err := fetchAt(t.Context(), a.roots, front, "a.example")
		return err == nil && got.Policy.Mode == sts.ModeEnforce
	})
	if _, err := fetchAt(t.Context(), a.roots, a.https, "a.example"); err == nil {
		t.Error("a load balancer need not send the PROXY header")
	}
	conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", front), &tls.Config{ServerName: "owa.example", RootCAs: w.CA.Roots()})
	if err != nil {
		t.Fatalf("the web server that was there before: %v", err)
	}
	conn.Close()
}

// A proxy that does TLS itself has the certificates, and the relay speaks plain HTTP.
func TestBehindNginxThatDoesTLS(t *testing.T) {
	w := e2e.NewStopped(t)
	w.Start("[publisher]\nhttps = \"127.0.0.1:0\"\ntls = \"proxy\"\n" + domains(t, w, "testing", "a.example"))
	dir, front := t.TempDir(), freeTCPPort(t)
	cert, err := w.CA.Issue("mta-sts.a.example", testnet.CertSpec{})
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: cert.Certificate[0]}, "key.pem": {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	proxy(t, front, fmt.Sprintf(`daemon off;
master_process off;
pid %[1]s/pid;
error_log stderr;
events {}
http {
  access_log off;
  client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b; fastcgi_temp_path %[1]s/c; uwsgi_temp_path %[1]s/d; scgi_temp_path %[1]s/e;
  server {
    listen 127.0.0.1:%[2]d ssl;
    ssl_certificate %[1]s/cert.pem;
    ssl_certificate_key %[1]s/key.pem;
    location / { proxy_pass http://%[3]s; proxy_set_header Host $host; }
  }
}
`, dir, front, w.Relay.PublisherAddr()), "nginx", "-c")
	await.Until(t, "the policy through nginx", func() bool {
		got, err := fetchAt(t.Context(), w.CA.Roots(), front, "a.example")
		return err == nil && got.Policy.Mode == sts.ModeTesting
	})
}

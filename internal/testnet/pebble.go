package testnet

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// ErrNoPebble means that the program pebble is not installed here:
// go install github.com/letsencrypt/pebble/v2/cmd/pebble@v2.10.3
var ErrNoPebble = errors.New("there is no program pebble here")

// PebbleOptions configures StartPebble.
type PebbleOptions struct {
	// Dir is for its files.
	Dir string
	// HTTPPort and TLSPort are where it looks for the challenges.
	HTTPPort, TLSPort int
	// Life is that of certificates of the profile "shortlived"; default six days.
	Life time.Duration
	// ExternalAccounts are the keys (base64url) by ID without which it makes no account; nil:
	// none is needed.
	ExternalAccounts map[string]string
	// CAAIdentities are its names in CAA records.
	CAAIdentities []string
	// DNS replaces the DNS server of the fake Internet.
	DNS string
	// Listen is where it listens for ACME; "": a port of the system's choice.
	Listen string
}

// Pebble is a running certificate authority: pebble of Let's Encrypt. It rejects one nonce
// in five, as clients must expect.
type Pebble struct {
	// Directory is the address of its directory, and CAFile has the root of the
	// directory's own certificate.
	Directory, CAFile string

	cmd        *exec.Cmd
	management string
	client     *http.Client
	ended      chan struct{}

	mu  sync.Mutex
	log bytes.Buffer
}

// StartPebble starts pebble, which looks names up in the DNS of n. The error is
// ErrNoPebble where it is not installed.
func (n *Net) StartPebble(o PebbleOptions) (*Pebble, error) {
	program, err := exec.LookPath("pebble")
	if err != nil {
		return nil, ErrNoPebble
	}
	if o.Life == 0 {
		o.Life = 6 * 24 * time.Hour
	}
	if o.DNS == "" {
		o.DNS = n.DNS.Addr()
	}
	if o.Listen == "" {
		if o.Listen, err = freeAddress(); err != nil {
			return nil, err
		}
	}
	_, port, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return nil, err
	}
	p := &Pebble{Directory: "https://localhost:" + port + "/dir", CAFile: filepath.Join(o.Dir, "pebble-ca.pem"), ended: make(chan struct{})}
	management, err := freeAddress()
	if err != nil {
		return nil, err
	}
	_, port, _ = net.SplitHostPort(management)
	p.management = "https://localhost:" + port
	file, err := p.configure(n, o, management)
	if err != nil {
		return nil, err
	}
	p.cmd = exec.Command(program, "-config", file, "-dnsserver", o.DNS)
	p.cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=20")
	p.cmd.Dir = o.Dir
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start pebble: %w", err)
	}
	go p.read(out)
	p.client = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: n.CA.Roots()}, DisableKeepAlives: true}}
	return p, p.wait()
}

// freeAddress is one on loopback that nobody has.
func freeAddress() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}

// configure writes pebble's files.
func (p *Pebble) configure(n *Net, o PebbleOptions, management string) (file string, err error) {
	cert, err := n.CA.Issue("localhost", CertSpec{})
	if err != nil {
		return "", err
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return "", err
	}
	c := map[string]any{
		"listenAddress": o.Listen, "managementListenAddress": management,
		"certificate": filepath.Join(o.Dir, "pebble.pem"), "privateKey": filepath.Join(o.Dir, "pebble.key"),
		"httpPort": o.HTTPPort, "tlsPort": o.TLSPort, "keyAlgorithm": "ecdsa",
		"externalAccountBindingRequired": o.ExternalAccounts != nil, "externalAccountMACKeys": o.ExternalAccounts, "caaIdentities": o.CAAIdentities,
		"retryAfter": map[string]int{"authz": 1, "order": 1},
		"profiles": map[string]any{
			"default":    map[string]any{"description": "90 days", "validityPeriod": 90 * 24 * 60 * 60},
			"shortlived": map[string]any{"description": "short", "validityPeriod": int(o.Life.Seconds())},
		},
	}
	text, err := json.Marshal(map[string]any{"pebble": c})
	if err != nil {
		return "", err
	}
	file = filepath.Join(o.Dir, "pebble.json")
	for name, data := range map[string][]byte{
		file: text, p.CAFile: n.CA.PEM(),
		filepath.Join(o.Dir, "pebble.pem"): pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}),
		filepath.Join(o.Dir, "pebble.key"): pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			return "", err
		}
	}
	return file, nil
}

func (p *Pebble) read(out io.Reader) {
	defer close(p.ended)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		p.mu.Lock()
		p.log.WriteString(lines.Text() + "\n")
		p.mu.Unlock()
	}
}

// Log is what pebble has written so far.
func (p *Pebble) Log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// wait waits until pebble answers.
func (p *Pebble) wait() error {
	var err error
	for range 200 {
		var r *http.Response
		if r, err = p.client.Get(p.Directory); err == nil { //nolint:noctx // it has a timeout
			r.Body.Close()
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("pebble has ended:\n%s", p.Log())
		case <-time.After(50 * time.Millisecond):
		}
	}
	p.Close()
	return fmt.Errorf("pebble does not answer: %w", err)
}

// Root is the root, in PEM form, of the certificates that it issues.
func (p *Pebble) Root() ([]byte, error) {
	r, err := p.client.Get(p.management + "/roots/0") //nolint:noctx // it has a timeout
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	return io.ReadAll(r.Body)
}

// RenewNow sets the time to renew a certificate to the past (RFC 9773).
func (p *Pebble) RenewNow(ctx context.Context, cert *x509.Certificate) error {
	now := time.Now()
	response, err := json.Marshal(map[string]any{"suggestedWindow": map[string]any{"start": now.Add(-2 * time.Hour), "end": now.Add(-time.Hour)}})
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]string{
		"certificate": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})), "ariResponse": string(response),
	})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.management+"/set-renewal-info/", bytes.NewReader(body))
	if err != nil {
		return err
	}
	r, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode/100 != 2 {
		text, _ := io.ReadAll(r.Body)
		return fmt.Errorf("pebble: %s %s", r.Status, strings.TrimSpace(string(text)))
	}
	return nil
}

// Close ends it.
func (p *Pebble) Close() {
	_ = p.cmd.Process.Kill()
	<-p.ended
	_ = p.cmd.Wait()
}

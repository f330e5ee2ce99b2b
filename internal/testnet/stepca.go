package testnet

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// ErrNoStepCA means that the program step-ca is not installed here:
// CGO_ENABLED=0 go install github.com/smallstep/certificates/cmd/step-ca@v0.30.2
var ErrNoStepCA = errors.New("there is no program step-ca here")

// StepCA is a running certificate authority as companies have them inside: step-ca, which
// issues from the intermediate authority of the fake Internet.
type StepCA struct {
	// Directory is the address of its ACME directory, and CAFile has the root, of the
	// directory's own certificate and of what it issues.
	Directory, CAFile string

	cmd *exec.Cmd
	out bytes.Buffer
}

// StartStepCA starts step-ca, which looks names up in the DNS of n and for the challenges
// http-01 at httpPort. Its files are in dir. The error is ErrNoStepCA where it is not
// installed.
func (n *Net) StartStepCA(dir string, httpPort int) (*StepCA, error) {
	program, err := exec.LookPath("step-ca")
	if err != nil {
		return nil, ErrNoStepCA
	}
	listen, err := freeAddress()
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(listen)
	s := &StepCA{Directory: "https://localhost:" + port + "/acme/acme/directory", CAFile: filepath.Join(dir, "root.pem")}
	key, err := x509.MarshalPKCS8PrivateKey(n.CA.intermediate.key)
	if err != nil {
		return nil, err
	}
	config, err := json.Marshal(map[string]any{
		"root": s.CAFile, "crt": filepath.Join(dir, "intermediate.pem"), "key": filepath.Join(dir, "intermediate.key"),
		"address": listen, "dnsNames": []string{"localhost"}, "logger": map[string]any{"format": "text"},
		"db":        map[string]any{"type": "bbolt", "dataSource": filepath.Join(dir, "db")},
		"authority": map[string]any{"provisioners": []any{map[string]any{"type": "ACME", "name": "acme"}}},
	})
	if err != nil {
		return nil, err
	}
	for name, data := range map[string][]byte{
		s.CAFile: n.CA.PEM(), filepath.Join(dir, "ca.json"): config,
		filepath.Join(dir, "intermediate.pem"): pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: n.CA.intermediate.cert.Raw}),
		filepath.Join(dir, "intermediate.key"): pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			return nil, err
		}
	}
	s.cmd = exec.Command(program, "--resolver", n.DNS.Addr(), "--insecure", "--acme-http-port", strconv.Itoa(httpPort), filepath.Join(dir, "ca.json"))
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start step-ca: %w", err)
	}
	return s, s.wait(n)
}

// wait waits until step-ca answers.
func (s *StepCA) wait(n *Net) (err error) {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: n.CA.Roots()}, DisableKeepAlives: true}}
	for range 200 {
		var r *http.Response
		if r, err = client.Get(s.Directory); err == nil { //nolint:noctx // it has a timeout
			r.Body.Close()
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.Close()
	return fmt.Errorf("step-ca does not answer: %w\n%s", err, s.Log())
}

// Log is what it has written; it may be read after Close.
func (s *StepCA) Log() string { return s.out.String() }

// Close ends it.
func (s *StepCA) Close() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

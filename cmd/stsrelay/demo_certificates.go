package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/stsrelay/stsrelay/internal/testnet"
	"github.com/stsrelay/stsrelay/sts/publish"
)

// authority starts pebble, or has the authority of the fake Internet issue a file, and
// returns the lines of the configuration about certificates.
func (p *demoPublish) authority(ports [2]int) (toml string, err error) {
	p.pebble, err = p.net.StartPebble(testnet.PebbleOptions{Dir: p.home, TLSPort: ports[0], HTTPPort: ports[1]})
	if errors.Is(err, testnet.ErrNoPebble) {
		return p.certificateFiles()
	}
	if err != nil {
		return "", err
	}
	root, err := p.pebble.Root()
	if err != nil {
		return "", err
	}
	p.roots.AppendCertsFromPEM(root)
	return fmt.Sprintf("http = \"127.0.0.1:%d\"\n[acme]\ndirectory = %q\nagree = true\nca_file = %q\n", ports[1], p.pebble.Directory, p.pebble.CAFile), nil
}

func (p *demoPublish) certificateFiles() (toml string, err error) {
	for _, name := range []string{publish.PolicyHost(ownDomain), ownHost} {
		if err := p.certificateFile(name); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("tls = \"files\"\ncertificate_dir = %q\n", p.home), nil
}

func (p *demoPublish) certificateFile(name string) error {
	cert, err := p.net.CA.Issue(name, testnet.CertSpec{})
	if err != nil {
		return err
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return err
	}
	for file, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: cert.Certificate[0]}, name + ".key": {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(filepath.Join(p.home, file), pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// certified waits until the first relay shows a certificate of a name.
func (p *demoPublish) certified(ctx context.Context, name string) error {
	d := tls.Dialer{Config: &tls.Config{ServerName: name, RootCAs: p.roots}}
	for {
		conn, err := d.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", p.port))
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("there is no certificate of %s in time: %w", name, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/stsrelay/stsrelay/internal/dnsclient"
)

// The relay reads the files and addresses of a configuration with the functions of this
// file, so that a check refuses what a start would refuse.

// ReadAuthorities reads certificates of authorities in PEM form.
func ReadAuthorities(file string) (*x509.CertPool, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, errors.New("has no certificate in PEM form")
	}
	return pool, nil
}

// SystemAuthorities returns the authorities that this machine trusts. An empty set is an
// error: every certificate would look like an attack.
func SystemAuthorities() (*x509.CertPool, error) {
	pool, err := x509.SystemCertPool()
	if err != nil || pool.Equal(x509.NewCertPool()) {
		return nil, errors.New("the system has no trusted certificate authorities: install ca-certificates, or set delivery.ca_file")
	}
	return pool, nil
}

// ReadCertificate reads a certificate and its key.
func ReadCertificate(t *TLS) (tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(t.Certificate, t.Key)
	if err != nil {
		return cert, fmt.Errorf("cannot be used with its key: %w", err)
	}
	return cert, nil
}

// ReadSecret reads a file with a password or a token, without the final line break. An
// empty secret is an error.
func ReadSecret(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("cannot be read: %w", err)
	}
	secret := strings.TrimRight(string(data), "\r\n")
	if strings.TrimSpace(secret) == "" {
		return "", errors.New("is empty")
	}
	return secret, nil
}

// OwnAddress returns an error where addr is no address of this machine.
func OwnAddress(addr netip.Addr) error {
	l, err := net.Listen("tcp", netip.AddrPortFrom(addr, 0).String())
	if err != nil {
		return fmt.Errorf("%s is no address of this machine: %w", addr, err)
	}
	return l.Close()
}

// checkMachine checks what a start needs of this machine. It is part of Check alone:
// other commands work without.
func (l *loader) checkMachine() {
	c := l.config
	if c.Delivery.CAFile == "" {
		if _, err := SystemAuthorities(); err != nil {
			l.fail("delivery.ca_file", nil, "is not set, and %v", err)
		}
	}
	if len(c.DNS.Servers) == 0 {
		if _, err := dnsclient.New(dnsclient.Options{}); err != nil {
			l.fail("dns.servers", nil, "is empty, and the system names none: %v", err)
		}
	}
	for _, s := range c.Delivery.SourceIP {
		if addr, err := netip.ParseAddr(s); err == nil {
			if err := OwnAddress(addr); err != nil {
				l.fail("delivery.source_ip", s, "%v", err)
			}
		}
	}
	listen := func(key, address string) {
		host, _, _ := net.SplitHostPort(address)
		if addr, err := netip.ParseAddr(host); err == nil {
			if err := OwnAddress(addr); err != nil { // it may come and go, as with keepalived
				l.warn("%s: the relay would not start now: %v", key, err)
			}
		}
	}
	for i := range c.Listen {
		listen(fmt.Sprintf("listen[%d].address", i), c.Listen[i].Address)
	}
	listen("admin.http", c.Admin.HTTP)
	listen("publisher.https", c.Publisher.HTTPS)
	listen("publisher.http", c.Publisher.HTTP)
}

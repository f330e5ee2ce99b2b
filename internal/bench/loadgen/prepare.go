//go:build linux

package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// prepare makes the fake Internet, and the configuration of the relay.
func (l *load) prepare() (err error) {
	if l.net, err = testnet.New(testnet.Options{RealPorts: true}); err != nil {
		return err
	}
	for i := range l.options.hosts {
		h, err := l.net.AddHost(fmt.Sprintf("mx%d.load.example", i))
		if err != nil {
			return fmt.Errorf("%w (ports 25 and 443 are needed: run as root, or allow user namespaces)", err)
		}
		h.Keep(4 << 10) // the header, which has the queue ID
		if !l.dots {
			if err := h.Set(testnet.Faults{With: []string{"CHUNKING"}}); err != nil {
				return err
			}
		}
		l.hosts = append(l.hosts, h)
	}
	for i := range l.domains {
		h := l.hosts[i%len(l.hosts)]
		d := testnet.Domain{MX: []string{h.Name}, Policy: testnet.Policy{ID: "1", Mode: "enforce", MX: []string{h.Name}, MaxAge: 86400}}
		if err := l.net.AddDomain(domainName(i), d); err != nil {
			return err
		}
	}
	return l.configure()
}

// configure makes the folder of the relay, with its configuration.
func (l *load) configure() (err error) {
	if l.dir, err = os.MkdirTemp("", "stsrelay-load-"); err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	l.addr = "127.0.0.1:" + port
	if l.data == "" {
		l.data = filepath.Join(l.dir, "data")
	}
	if err := os.WriteFile(filepath.Join(l.dir, "ca.pem"), l.net.CA.PEM(), 0o600); err != nil {
		return err
	}
	if err := l.fillBacklog(); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(l.dir, "stsrelay.toml"), fmt.Appendf(nil, `hostname = "relay.load.example"
data_dir = %q
[[listen]]
address = %q
[limits]
free_space = "%dMiB"
[dns]
servers = [%q]
[delivery]
retry = [%q, "2h"]
concurrency = %d
paused = %t
private_addresses = "allow"
ca_file = "ca.pem"
`, l.data, l.addr, l.freeSpace>>20, l.net.DNS.Addr(), l.retry(), l.concurrency(), l.accept), 0o600)
}

// retry is the first wait; that of a backlog is longer than the run.
func (l *load) retry() string {
	if l.backlog > 0 {
		return "1h"
	}
	return "1s"
}

func (l *load) concurrency() int {
	if l.kills > 0 {
		return inFlight
	}
	return 500
}

func domainName(i int) string { return fmt.Sprintf("d%d.load.example", i) }

func freePort() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	return port, err
}

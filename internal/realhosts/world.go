//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// The senders' domain, where notices arrive, and the relay's door.
const (
	senderDomain = "send.example"
	door         = "127.0.0.1:2525"
)

// world is the fake Internet with the real hosts in it, and the relay.
type world struct {
	options
	dir    string
	net    *testnet.Net
	sink   *testnet.Host // of the notices
	hosts  []*host
	relay  *exec.Cmd
	handed atomic.Int64 // messages that the relay has taken
	failed int          // hosts that did not start
	seen   arrivals
	told   notices
}

func newWorld(o options) (w *world, err error) {
	w = &world{options: o, seen: newArrivals()}
	for _, p := range []*string{&w.files, &w.roots, &w.binary} {
		if *p, err = filepath.Abs(*p); err != nil {
			return nil, err
		}
	}
	if w.dir, err = os.MkdirTemp("", "realhosts-"); err != nil {
		return nil, err
	}
	if w.net, err = testnet.New(testnet.Options{RealPorts: true}); err != nil {
		return nil, err
	}
	if w.sink, err = w.net.AddHost("mx." + senderDomain); err != nil {
		return nil, fmt.Errorf("%w (it needs root, and a network namespace where ports 25 and 443 are free)", err)
	}
	return w, w.publish(senderDomain, "enforce")
}

// publish gives a domain its MX record and its policy, where mode is not "".
func (w *world) publish(domain, mode string) error {
	mx := "mx." + domain
	return w.net.AddDomain(domain, testnet.Domain{MX: []string{mx}, Policy: testnet.Policy{ID: "1", Mode: mode, MX: []string{mx}, MaxAge: 86400}})
}

func (w *world) close() {
	if w.relay != nil {
		_ = w.relay.Process.Signal(syscall.SIGTERM)
		_ = w.relay.Wait()
	}
	for _, h := range w.hosts {
		_ = h.stop()
	}
	w.net.Close()
	if os.Getenv("KEEP") == "" {
		os.RemoveAll(w.dir)
	} else {
		fmt.Println("kept:", w.dir)
	}
}

// addHost publishes the domains of a host, and makes its certificate.
func (w *world) addHost(name string) (*host, error) {
	h, err := readHost(filepath.Join(w.files, name), filepath.Join(w.roots, name))
	if err != nil {
		return nil, err
	}
	if h.NextHop != "" {
		if h.next, err = w.net.AddHost(h.NextHop); err != nil {
			return nil, err
		}
	}
	var names []string
	for _, s := range h.Services {
		names = append(names, s.mx())
		if err := w.net.DNS.Add(fmt.Sprintf("%s. 60 IN A %s", s.mx(), s.Address)); err != nil {
			return nil, err
		}
		mode := "enforce"
		if s.BrokenTLS {
			mode = ""
		}
		if err := w.publish(s.Domain, mode); err != nil {
			return nil, err
		}
	}
	cert, err := w.net.CA.Issue(names[0], testnet.CertSpec{Names: names, RSA: true})
	if err != nil {
		return nil, err
	}
	return h, h.writeFiles(cert)
}

// startHosts starts all hosts at once. One that does not start, or offers
// something else than its description says, is a fault and left out.
func (w *world) startHosts(ctx context.Context) {
	errs := make([]error, len(w.hosts))
	var wg sync.WaitGroup
	for i, h := range w.hosts {
		wg.Go(func() {
			out, _ := h.command(ctx, "sh", "-c", h.Version).Output()
			h.version = strings.TrimSpace(string(out))
			errs[i] = h.start(ctx)
			for _, s := range h.Services {
				if errs[i] == nil {
					errs[i] = s.probe(w.net.CA.Roots())
				}
			}
		})
	}
	wg.Wait()
	var running []*host
	for i, h := range w.hosts {
		if errs[i] == nil {
			running = append(running, h)
			continue
		}
		_ = h.stop()
		w.failed++
		fmt.Printf("FAILED: %s %s does not start as it should: %v\n    %s\n", h.Name, h.version, errs[i], h.lastWords())
	}
	w.hosts = running
}

func (w *world) services() (all []*service) {
	for _, h := range w.hosts {
		all = append(all, h.Services...)
	}
	return all
}

// setNextHops tells the hosts behind a host that relays whom to refuse and defer.
func (w *world) setNextHops(p *plan) error {
	for _, h := range w.hosts {
		if h.next == nil {
			continue
		}
		f := testnet.Faults{Recipients: make(map[string]string)}
		for _, s := range h.Services {
			for _, m := range p.of(s) {
				for _, r := range m.recipients {
					if r.defers {
						f.Greylist = append(f.Greylist, r.address)
					}
					if r.end == bounces {
						f.Recipients[r.address] = "550 5.1.1 there is no such user"
					}
				}
			}
		}
		if err := h.next.Set(f); err != nil {
			return err
		}
	}
	return nil
}

// startRelay writes the configuration and starts the program.
func (w *world) startRelay(ctx context.Context) error {
	if err := w.writeKey(); err != nil {
		return err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, `hostname = "relay.send.example"
data_dir = "data"
[[listen]]
address = %q
[limits]
free_space = "64MiB"
[dns]
servers = [%q]
[delivery]
retry = ["1s", "2s", "3s", "5s"]
private_addresses = "allow"
ca_file = "ca.pem"
[[dkim]]
domain = %q
selector = "judge"
key_file = "dkim.pem"
sign = ["mail"]
`, door, w.net.DNS.Addr(), senderDomain)
	for _, s := range w.services() {
		if s.User != "" {
			fmt.Fprintf(&b, "[[domain]]\nname = %q\nroute = %q\ntls = \"verify\"\nuser = %q\npassword_file = %q\n", s.Domain, s.mx()+":25", s.User, s.Domain+".password")
			if err := os.WriteFile(w.path(s.Domain+".password"), []byte(s.Password), 0o600); err != nil {
				return err
			}
		}
	}
	if err := errors.Join(os.WriteFile(w.path("ca.pem"), w.net.CA.PEM(), 0o600), os.WriteFile(w.path("stsrelay.toml"), b.Bytes(), 0o600)); err != nil {
		return err
	}
	log, err := os.Create(w.path("relay.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	w.relay = exec.Command(w.binary, "serve", "--config", w.path("stsrelay.toml"))
	w.relay.Stderr = log
	if err := w.relay.Start(); err != nil {
		return err
	}
	for {
		if c, err := net.Dial("tcp", door); err == nil {
			return c.Close()
		}
		select {
		case <-ctx.Done():
			w.showLog()
			return fmt.Errorf("the relay does not start: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// writeKey makes the DKIM key and publishes it.
func (w *world) writeKey() error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	record := "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(public)
	var parts []string
	for len(record) > 200 {
		parts = append(parts, `"`+record[:200]+`"`)
		record = record[200:]
	}
	parts = append(parts, `"`+record+`"`)
	if err := w.net.DNS.Add("judge._domainkey." + senderDomain + ". 60 IN TXT " + strings.Join(parts, " ")); err != nil {
		return err
	}
	return os.WriteFile(w.path("dkim.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600)
}

// showLog prints the end of the relay's log.
func (w *world) showLog() {
	data, _ := os.ReadFile(w.path("relay.log"))
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	fmt.Println("the end of the relay's log:\n" + strings.Join(lines[max(0, len(lines)-10):], "\n"))
}

//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// host is a mail server that nobody here wrote. Its folder in testdata has
// host.toml (this), "install" (how it is installed), "start" (how it is configured
// and started) and its configuration. Both scripts run in its root, where that
// folder is /host. In /judge lie cert.pem and key.pem; what arrived goes to
// /judge/mail, and who was deferred to /judge/deferred (see testdata/common).
type host struct {
	// Name is the name of the software, Version a shell command that prints its version.
	Name, Version string
	// KeepsHeader is false for a host that writes the fields of a header anew:
	// there the body is compared octet for octet, and the fields by what they say.
	KeepsHeader bool
	// Wreck is the text in what a host delivers of a message whose content had not come
	// when it was killed: it is no message that was sent.
	Wreck string
	// NextHop is the name of a host of the fake Internet that it relays all mail to;
	// what arrived is what came there. Its address is in /judge/nexthop.
	NextHop string
	// Services are its listeners; each has a domain and an address of its own.
	Services []*service `toml:"service"`

	folder  string // its description
	root    string // where its root lies
	version string
	enter   string
	cmd     *exec.Cmd
	ended   chan struct{}
	next    *testnet.Host
	read    map[string]bool // files of arrived mail that were read
	taken   int             // of the messages that came to the next hop
	killed  time.Time       // zero: it was not
}

// service is one listener of a host.
type service struct {
	Domain, Address string
	// Offers and Lacks are keywords that its answer to EHLO must have and must not
	// have; the judge fails where they are not true.
	Offers, Lacks []string
	// Defers are the steps at which it can be told to defer: "rcpt", "data" (at
	// DATA, or at the end of the content).
	Defers []string
	// BrokenTLS is true for a host that offers STARTTLS and then breaks the handshake.
	// Its domain has no policy, so that mail goes there in clear.
	BrokenTLS bool
	// User and Password are for a host that takes mail after AUTH only. The relay
	// has a route to it then, as such hosts are no MX hosts.
	User, Password string

	host *host
	ext  map[string]bool
}

func (s *service) mx() string { return "mx." + s.Domain }

func readHost(folder, root string) (*host, error) {
	data, err := os.ReadFile(filepath.Join(folder, "host.toml"))
	if err != nil {
		return nil, err
	}
	h := &host{folder: folder, root: root, enter: filepath.Join(filepath.Dir(folder), "common", "enter"), KeepsHeader: true, read: make(map[string]bool)}
	d := toml.NewDecoder(strings.NewReader(string(data))).DisallowUnknownFields()
	if err := d.Decode(h); err != nil {
		return nil, fmt.Errorf("host.toml: %w", err)
	}
	for _, s := range h.Services {
		s.host = h
	}
	for _, dir := range []string{"mail", "deferred"} {
		p := filepath.Join(root, "judge", dir)
		if err := os.MkdirAll(p, 0o755); err != nil {
			return nil, err
		}
		if err := os.Chmod(p, 0o777); err != nil { // the host's users write there
			return nil, err
		}
	}
	return h, nil
}

// writeFiles puts certificate and next hop where the host looks for them.
func (h *host) writeFiles(c tls.Certificate) error {
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		return err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
	files := map[string][]byte{"cert.pem": certPEM, "key.pem": keyPEM, "both.pem": append(keyPEM, certPEM...)}
	if h.next != nil {
		files["nexthop"] = []byte(h.next.IP)
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(h.root, "judge", name), data, 0o644); err != nil { //nolint:gosec // hosts read it as users of theirs, and nobody trusts the CA
			return err
		}
	}
	return nil
}

// command is a command in the host's root, with processes of its own: they all
// end with the command.
func (h *host) command(ctx context.Context, args ...string) *exec.Cmd {
	args = append([]string{"-m", "-p", "-f", "--kill-child", "sh", h.enter, h.root, h.folder}, args...)
	cmd := exec.CommandContext(ctx, "unshare", args...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8"}
	return cmd
}

// start starts the host and waits until all its services greet.
func (h *host) start(ctx context.Context) error {
	log, err := os.OpenFile(filepath.Join(h.root, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	h.cmd = h.command(context.WithoutCancel(ctx), "/host/start")
	h.cmd.Stdout, h.cmd.Stderr = log, log
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := h.cmd.Start(); err != nil {
		return err
	}
	h.ended = make(chan struct{})
	go func() {
		_ = h.cmd.Wait()
		close(h.ended)
	}()
	for _, s := range h.Services {
		if err := s.awaitGreeting(ctx, h.ended); err != nil {
			return errors.Join(err, h.stop())
		}
	}
	return nil
}

// stop kills the host with all its processes. The error is that it lives on.
func (h *host) stop() error {
	if h.cmd == nil {
		return nil
	}
	_ = h.cmd.Process.Kill()
	<-h.ended
	h.cmd = nil
	for _, s := range h.Services {
		if err := s.awaitSilence(); err != nil {
			return err
		}
	}
	return nil
}

// awaitSilence waits until nothing listens any more.
func (s *service) awaitSilence() error {
	for range 500 {
		c, err := net.Dial("tcp", s.Address+":25")
		if err != nil {
			return nil //nolint:nilerr // that is what is waited for
		}
		c.Close()
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("%s was killed and listens at %s all the same", s.host.Name, s.Address)
}

// lastWords is the end of the output of the host.
func (h *host) lastWords() string {
	data, _ := os.ReadFile(filepath.Join(h.root, "log"))
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return strings.Join(lines[max(0, len(lines)-8):], "\n    ")
}

func (s *service) awaitGreeting(ctx context.Context, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	for {
		c, err := net.Dial("tcp", s.Address+":25")
		if err == nil {
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			var greeting [4]byte
			_, err = c.Read(greeting[:])
			_, _ = c.Write([]byte("QUIT\r\n"))
			c.Close()
			if err == nil && string(greeting[:3]) == "220" {
				return nil
			}
		}
		select {
		case <-ended:
			return fmt.Errorf("it has ended")
		case <-ctx.Done():
			return fmt.Errorf("%s does not greet: %w", s.Address, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// probe reads the extensions that the service offers over TLS, and compares them with its
// description.
func (s *service) probe(roots *x509.CertPool) error {
	c, err := smtp.Dial(s.Address + ":25")
	if err != nil {
		return err
	}
	defer func() { _ = c.Quit() }()
	if err := c.Hello("judge.example"); err != nil {
		return err
	}
	if !s.BrokenTLS {
		if err := c.StartTLS(&tls.Config{RootCAs: roots, ServerName: s.mx(), MinVersion: tls.VersionTLS12}); err != nil {
			return fmt.Errorf("STARTTLS: %w", err)
		}
	}
	s.ext = make(map[string]bool)
	for _, k := range []string{"PIPELINING", "CHUNKING", "8BITMIME", "SMTPUTF8", "SIZE", "DSN"} {
		s.ext[k], _ = c.Extension(k)
		if !s.ext[k] && slices.Contains(s.Offers, k) {
			return fmt.Errorf("%s does not offer %s", s.Address, k)
		}
		if s.ext[k] && slices.Contains(s.Lacks, k) {
			return fmt.Errorf("%s offers %s", s.Address, k)
		}
	}
	return nil
}

// extensions are those that the service offers, as text.
func (s *service) extensions() string {
	var list []string
	for _, k := range []string{"PIPELINING", "CHUNKING", "8BITMIME", "SMTPUTF8"} {
		if s.ext[k] {
			list = append(list, k)
		}
	}
	if list == nil {
		return "no extensions"
	}
	return strings.Join(list, " ")
}

//go:build unix

package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// fleetRelay is one relay of the demo, a process of its own.
type fleetRelay struct {
	name, file, address string
	program             string // that it runs; "": this one
	process             *exec.Cmd
	ended               chan struct{}
}

const fleetDemoConfig = `hostname = "%s.fleet.example"
data_dir = %q
[[listen]]
address = %q
[queue]
engine = "postgres"
url_file = %q
[fleet]
name = %q
term = %q
[dns]
servers = [%q]
[limits]
free_space = "64MiB"
[delivery]
retry = ["1s", "1s", "2s"]
private_addresses = "allow"
ca_file = %q
[[domain]]
name = "demo.example"
route = %q
[[domain]]
name = "later.example"
route = %q
[log]
format = "text"
`

func (d *fleetDemo) newRelay(name string) (*fleetRelay, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &fleetRelay{name: name, address: l.Addr().String(), file: filepath.Join(d.dir, name+".toml")}
	if err := l.Close(); err != nil {
		return nil, err
	}
	ca := filepath.Join(d.dir, "ca.pem")
	text := fmt.Appendf(nil, fleetDemoConfig, name, filepath.Join(d.dir, name), r.address, filepath.Join(d.dir, "url"), name, fleetTerm, d.net.DNS.Addr(), ca,
		d.host.ListenAddr(), d.later.ListenAddr())
	return r, joinErrors(os.WriteFile(ca, d.net.CA.PEM(), 0o600), os.WriteFile(r.file, text, 0o600))
}

// start starts the relay, and waits until it listens.
func (r *fleetRelay) start(ctx context.Context) error {
	program := r.program
	if program == "" {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		program = self
	}
	log, err := os.OpenFile(r.file+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(program, "serve", "--config", r.file) //nolint:gosec // this program, or the one that the flag names
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	r.process, r.ended = cmd, ended
	for {
		if c, err := net.Dial("tcp", r.address); err == nil {
			return c.Close()
		}
		select {
		case <-ended:
			text, _ := os.ReadFile(r.file + ".log")
			return fmt.Errorf("relay %s has ended: %s", r.name, text[max(0, len(text)-1000):])
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (r *fleetRelay) kill() { r.stop(syscall.SIGKILL) }

func (r *fleetRelay) stop(sig syscall.Signal) {
	if r.process == nil {
		return
	}
	_ = r.process.Process.Signal(sig) // it may have ended
	<-r.ended
	r.process = nil
}

// fleetLoad is the clients of the demo. A client goes to the next relay when one does not
// answer.
type fleetLoad struct {
	addresses []string
	stopped   chan struct{}
	once      sync.Once
	next      atomic.Int64
	refused   atomic.Int64
	nowhere   atomic.Int64 // messages that no relay has taken
	last      atomic.Int64 // when a message was accepted, in nanoseconds

	mu       sync.Mutex
	accepted []string
}

func newFleetLoad(addresses []string) *fleetLoad {
	return &fleetLoad{addresses: addresses, stopped: make(chan struct{})}
}

func (l *fleetLoad) stop() { l.once.Do(func() { close(l.stopped) }) }

func (l *fleetLoad) lastAccepted() time.Time { return time.Unix(0, l.last.Load()) }

func (l *fleetLoad) result() (accepted []string, refused int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string{}, l.accepted...), int(l.refused.Load())
}

// send sends until the load is stopped.
func (l *fleetLoad) send(ctx context.Context, client int) {
	for n := client; ; n++ {
		select {
		case <-l.stopped:
			return
		case <-ctx.Done():
			return
		case <-time.After(30 * time.Millisecond):
		}
		if !l.sendAnywhere(n) {
			l.nowhere.Add(1)
		}
	}
}

// sendAnywhere sends one message as Exchange does: a relay that does not take it is
// followed by the next one. It reports whether one has taken it.
func (l *fleetLoad) sendAnywhere(n int) bool {
	for i := range l.addresses {
		if l.sendOne(l.addresses[(n+i)%len(l.addresses)], "demo.example") == nil {
			return true
		}
		l.refused.Add(1)
	}
	return false
}

// sendOne sends one message, and remembers it if it was accepted.
func (l *fleetLoad) sendOne(address, domain string) error {
	id := fmt.Sprintf("n%06d", l.next.Add(1))
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return err
	}
	_ = conn.SetDeadline(time.Now().Add(90 * time.Second))
	c, err := smtp.NewClient(conn, address)
	if err != nil {
		_ = conn.Close()
		return err
	}
	defer c.Close()
	if err := c.Mail("anna@fleet.example"); err != nil {
		return err
	}
	if err := c.Rcpt("kurt@" + domain); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "From: anna@fleet.example\r\nTo: kurt@%s\r\nSubject: %s\r\n\r\n%s\r\n", domain, id, bytes.Repeat([]byte("some text of a mail\r\n"), 200))
	if err := w.Close(); err != nil { // not answered with 250
		return err
	}
	l.last.Store(time.Now().UnixNano())
	l.mu.Lock()
	defer l.mu.Unlock()
	l.accepted = append(l.accepted, id)
	return nil
}

// subject returns the subject of a message.
func subject(data []byte) string {
	_, rest, _ := bytes.Cut(data, []byte("Subject: "))
	id, _, _ := bytes.Cut(rest, []byte("\n"))
	return string(bytes.TrimSpace(id))
}

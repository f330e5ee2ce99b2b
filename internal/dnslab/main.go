//go:build linux

// Dnslab tries the relay behind resolvers that nobody here wrote, for .ci/dns. It
// makes signed, unsigned and forged zones and mail hosts for them, lets a script
// start a name server and one resolver after the other, and asks the built
// relay through each: what it delivers, what it holds, and what it reports.
//
// It needs root, ports 25 and 53 of loopback addresses, and a network namespace
// of its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// resolver is one to try: where it answers, and whether it validates.
type resolver struct {
	name, addr string
	validates  bool
}

// The servers behind the resolvers: the root zone and the others have servers of
// their own, as in the world. upstream resolves for those that only forward; it
// validates nothing.
const (
	rootServer = "127.99.0.1"
	upstream   = "127.99.0.2"
	zones      = "127.99.0.3"
)

var resolvers = []resolver{
	{"unbound", "127.53.0.1", true},
	{"bind9", "127.53.0.2", true},
	{"knot-resolver", "127.53.0.3", true},
	{"pdns-recursor", "127.53.0.4", true},
	{"dnsmasq-dnssec", "127.53.0.5", true},
	{"dnsmasq", "127.53.0.6", false},
	{"systemd-resolved-dnssec", "127.0.0.53", true},
	{"systemd-resolved", "127.0.0.53", false},
}

func main() {
	binary := flag.String("binary", "", "the built stsrelay")
	script := flag.String("script", "", "what starts a server by its name: SCRIPT start NAME")
	dir := flag.String("dir", "", "a folder for zones and configurations, which the servers see as /lab")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *binary, *script, *dir, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "FAILED:", err)
		os.Exit(1)
	}
}

// run tries the resolvers that are named, all where none is.
func run(ctx context.Context, binary, script, dir string, names []string) error {
	w, err := newWorld(dir)
	if err != nil {
		return err
	}
	defer w.Close()
	for _, s := range []struct{ name, addr string }{{"nsd-root", rootServer}, {"nsd-zones", zones}, {"upstream", upstream}} {
		server, err := start(ctx, script, dir, s.name, s.addr)
		if errors.Is(err, errNotThere) {
			fmt.Println("skipped: there is no", s.name)
			return nil
		}
		if err != nil {
			return err
		}
		defer server.stop()
	}
	wanted := make(map[string]bool)
	for _, n := range names {
		wanted[n] = true
	}
	var failed error
	for _, r := range resolvers {
		if len(names) > 0 && !wanted[r.name] {
			continue
		}
		began := time.Now()
		err := try(ctx, w, binary, script, dir, r)
		switch {
		case errors.Is(err, errNotThere):
			fmt.Printf("skipped: %s cannot be had here\n", r.name)
		case err != nil:
			failed = errors.Join(failed, fmt.Errorf("%s: %w", r.name, err))
		default:
			fmt.Printf("%s: %d domains as they should be, in %.1f s\n", r.name, len(w.domains), time.Since(began).Seconds())
		}
	}
	return failed
}

func try(ctx context.Context, w *world, binary, script, dir string, r resolver) error {
	server, err := start(ctx, script, dir, r.name, r.addr)
	if err != nil {
		return err
	}
	defer server.stop()
	a := &asked{world: w, resolver: r, binary: binary, dir: filepath.Join(dir, "relay-"+r.name)}
	if err := a.all(ctx); err != nil {
		return fmt.Errorf("%w\n--- %s said:\n%s", err, r.name, server.said())
	}
	return nil
}

// errNotThere means that a program is not installed: the script ends with status 3.
var errNotThere = errors.New("it is not installed")

// server is a program that runs.
type server struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// start starts a server by the script, and waits until it answers for the root zone.
func start(ctx context.Context, script, dir, name, addr string) (*server, error) {
	s := &server{cmd: exec.Command("bash", script, "start", name), log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	log, err := os.Create(s.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { defer close(s.done); _ = s.cmd.Wait() }()
	q := new(dns.Msg).SetQuestion(".", dns.TypeSOA)
	for until := time.Now().Add(20 * time.Second); time.Now().Before(until); {
		c := dns.Client{Timeout: time.Second}
		m, _, err := c.ExchangeContext(ctx, q, net.JoinHostPort(addr, "53"))
		if err == nil && (m.Rcode == dns.RcodeSuccess && len(m.Answer) > 0 || addr == zones) {
			return s, nil
		}
		select {
		case <-ctx.Done():
			s.stop()
			return nil, ctx.Err()
		case <-s.done:
			if s.cmd.ProcessState.ExitCode() == 3 {
				return nil, errNotThere
			}
			return nil, fmt.Errorf("%s has ended: %s\n%s", name, s.cmd.ProcessState, s.said())
		case <-time.After(100 * time.Millisecond): // another process: there is nothing else to wait on
		}
	}
	s.stop()
	return nil, fmt.Errorf("%s does not answer for the root zone\n%s", name, s.said())
}

// stop ends the server and what it has started.
func (s *server) stop() {
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGTERM)
	select {
	case <-s.done:
	case <-time.After(3 * time.Second):
	}
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
	<-s.done
}

// said is the end of the log of the server.
func (s *server) said() string {
	text, _ := os.ReadFile(s.log)
	return string(text[max(0, len(text)-4000):])
}

//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// goodMails is how many messages go to the domain that takes mail while the others
// are silent, one a second.
const goodMails = 60

// silentHosts take connections on port 25 and say nothing.
type silentHosts struct {
	wg        sync.WaitGroup
	listeners []net.Listener
	mu        sync.Mutex
	conns     map[net.Conn]bool
	most      int
	met       atomic.Int64
}

// listen opens one more of them.
func (s *silentHosts) listen(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	s.listeners = append(s.listeners, l)
	s.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.met.Add(1)
			s.wg.Go(func() { s.hold(c) })
		}
	})
	return nil
}

func (s *silentHosts) hold(c net.Conn) {
	s.mu.Lock()
	s.conns[c] = true
	s.most = max(s.most, len(s.conns))
	s.mu.Unlock()
	_, _ = c.Read(make([]byte, 1)) // until the relay goes
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	c.Close()
}

// now is how many connections there are and how many there were at most.
func (s *silentHosts) now() (n, most int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns), s.most
}

func (s *silentHosts) close() {
	for _, l := range s.listeners {
		l.Close()
	}
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// silence sends mail to very many domains whose hosts are silent, and looks how
// long other mail takes meanwhile, and how long a stop. The domains have an address
// each, or share one.
func silence(ctx context.Context, o options, domains int, oneAddress bool) error {
	o.domains, o.hosts = 2, 1 // one that took mail before, and a new one
	l := newLoad(o)
	if err := l.prepare(); err != nil {
		return err
	}
	defer os.RemoveAll(l.dir)
	defer l.net.Close()
	hosts := &silentHosts{conns: make(map[net.Conn]bool)}
	defer hosts.close()
	if err := l.addSilent(hosts, domains, oneAddress); err != nil {
		return err
	}
	if err := l.startRelay(ctx); err != nil {
		return err
	}
	defer func() { _ = l.process.stop(syscall.SIGKILL) }()
	if _, err := l.onTheWay(ctx, domainName(0)); err != nil {
		return err
	}
	fmt.Printf("before       memory %s, %d descriptors\n", l.process.memory(), l.process.descriptors())
	for from := 0; from < domains; from += 100 {
		var to []string
		for i := from; i < min(from+100, domains); i++ {
			to = append(to, silentName(i))
		}
		if err := l.mail(to...); err != nil {
			return err
		}
	}
	if err := pause(ctx, 3*time.Second); err != nil {
		return err
	}
	if err := l.otherMail(ctx, hosts); err != nil {
		return err
	}
	return l.stopInSilence(hosts)
}

func silentName(i int) string { return fmt.Sprintf("s%d.silent.example", i) }

func (l *load) addSilent(hosts *silentHosts, n int, oneAddress bool) error {
	for i := range n {
		if err := l.net.AddDomain(silentName(i), testnet.Domain{MX: []string{"mx." + silentName(i)}}); err != nil {
			return err
		}
		address := "127.99.0.1"
		if !oneAddress {
			address = fmt.Sprintf("127.99.%d.%d", 1+i/250, 1+i%250)
		}
		if err := l.net.DNS.Add(fmt.Sprintf("mx.%s. 60 IN A %s", silentName(i), address)); err != nil {
			return err
		}
		if i > 0 && oneAddress {
			continue
		}
		if err := hosts.listen(address + ":25"); err != nil {
			return err
		}
	}
	return nil
}

// onTheWay sends a message and returns how long it took.
func (l *load) onTheWay(ctx context.Context, domain string) (time.Duration, error) {
	_, before := l.arrived()
	start := time.Now()
	if err := l.mail(domain); err != nil {
		return 0, err
	}
	err := l.cameIn(ctx, before+1)
	return time.Since(start), err
}

// otherMail sends mail to a domain that took some before, and to a new one.
func (l *load) otherMail(ctx context.Context, hosts *silentHosts) error {
	var slowest, sum time.Duration
	for range goodMails {
		took, err := l.onTheWay(ctx, domainName(0))
		if err != nil {
			return err
		}
		slowest, sum = max(slowest, took), sum+took
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
	}
	n, most := hosts.now()
	fmt.Printf("known domain %d messages, %.3f s on average, %.3f s at most\n", goodMails, sum.Seconds()/goodMails, slowest.Seconds())
	fmt.Printf("silent       %d sessions now, %d at most, %d in all: memory %s, %d descriptors, CPU %s\n", n, most, hosts.met.Load(), l.process.memory(), l.process.descriptors(), l.process.cpu())
	took, err := l.onTheWay(ctx, domainName(1))
	if err != nil {
		return err
	}
	fmt.Printf("new domain   %.3f s\n", took.Seconds())
	return nil
}

// stopInSilence stops the relay, and starts it again to see what it has to say.
func (l *load) stopInSilence(hosts *silentHosts) error {
	n, _ := hosts.now()
	start := time.Now()
	if err := l.process.stop(syscall.SIGTERM); err != nil {
		return err
	}
	fmt.Printf("stop         %.2f s with %d silent sessions, exit status %d\n", time.Since(start).Seconds(), n, l.process.cmd.ProcessState.ExitCode())
	if err := l.startRelay(context.Background()); err != nil {
		return err
	}
	log, err := os.ReadFile(filepath.Join(l.dir, "relay.log"))
	if err == nil && strings.Contains(string(log), "may have been delivered") {
		err = errors.New("the log says that mail may have been delivered of which nothing was sent")
	}
	return err
}

// descriptors is how many files and connections the process has open.
func (p *process) descriptors() int {
	names, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	return len(names)
}

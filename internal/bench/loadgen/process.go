//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is the program under load.
type process struct {
	cmd    *exec.Cmd
	stopBy []string // a command that stops it; nil: a signal does
	done   chan struct{}
}

func (l *load) startRelay(ctx context.Context) error {
	switch l.relay {
	case "postfix":
		return l.startPostfix(ctx)
	case "least", leastOnBadger:
		return l.startLeast(ctx)
	}
	return l.await(ctx, exec.Command(l.binary, "serve", "--config", filepath.Join(l.dir, "stsrelay.toml")), filepath.Join(l.dir, "relay.log"))
}

// await starts the program and waits until it listens.
func (l *load) await(ctx context.Context, cmd *exec.Cmd, logFile string) error {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stderr = log
	if l.clock != nil {
		l.clock.under(cmd)
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(p.done)
	}()
	for {
		if c, err := net.Dial("tcp", l.addr); err == nil {
			c.Close()
			break
		}
		select {
		case <-p.done:
			data, _ := os.ReadFile(log.Name())
			return fmt.Errorf("the relay has ended: %s", data)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	l.mu.Lock()
	l.process = p
	l.mu.Unlock()
	return nil
}

// stop sends a signal and waits for the end.
func (p *process) stop(s syscall.Signal) error {
	if p.stopBy != nil {
		_ = exec.Command(p.stopBy[0], p.stopBy[1:]...).Run() //nolint:gosec,noctx // our own
		<-p.done
		return nil
	}
	err := p.cmd.Process.Signal(s)
	<-p.done
	return err
}

// cpu is the time that the process and all below it have used.
func (p *process) cpu() time.Duration {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	type entry struct {
		pid   string
		ticks int64
	}
	children := make(map[string][]entry)
	root := strconv.Itoa(p.cmd.Process.Pid)
	total := int64(0)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(data), ") ")
		f := strings.Fields(rest)
		if len(f) < 15 {
			continue
		}
		e := entry{pid: filepath.Base(filepath.Dir(file))}
		for _, v := range f[11:15] { // its own time, and that of its children that have ended
			n, _ := strconv.ParseInt(v, 10, 64)
			e.ticks += n
		}
		if e.pid == root {
			total = e.ticks
		}
		children[f[1]] = append(children[f[1]], e)
	}
	for next := children[root]; len(next) > 0; {
		e := next[0]
		next = append(next[1:], children[e.pid]...)
		total += e.ticks
	}
	return time.Duration(total) * 10 * time.Millisecond
}

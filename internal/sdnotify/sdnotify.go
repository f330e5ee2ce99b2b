// Package sdnotify tells the service manager (systemd) what state the process is in, by
// the protocol of sd_notify(3). Where the process was not started by one, it tells nobody.
package sdnotify

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Notifier tells one service manager. A nil Notifier tells nobody.
type Notifier struct {
	socket string
	// watchdog is the time without a sign of life after which the manager kills the
	// process; 0: it does not watch.
	watchdog time.Duration

	mu    sync.Mutex
	ready bool // READY=1 was sent, and STOPPING=1 was not
}

// New returns the Notifier that the environment of the process pid asks for, nil for none.
func New(environ []string, pid int) *Notifier {
	env := make(map[string]string)
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		env[name] = value
	}
	n := &Notifier{socket: env["NOTIFY_SOCKET"]}
	if !strings.HasPrefix(n.socket, "/") && !strings.HasPrefix(n.socket, "@") {
		return nil
	}
	if of := env["WATCHDOG_PID"]; of == "" || of == strconv.Itoa(pid) {
		if usec, err := strconv.ParseInt(env["WATCHDOG_USEC"], 10, 64); err == nil && usec > 0 {
			n.watchdog = time.Duration(usec) * time.Microsecond
		}
	}
	return n
}

// Ready tells the manager that the start is done: the listeners are bound.
func (n *Notifier) Ready() error { return n.change(true, "READY=1") }

// Stopping tells the manager that the process is about to end.
func (n *Notifier) Stopping() error { return n.change(false, "STOPPING=1") }

// Reloading tells the manager that the configuration is read again; done, that this is
// over, whether or not it was taken over. Before Ready and after Stopping nothing is told.
func (n *Notifier) Reloading() (done func() error, err error) {
	if n == nil {
		return func() error { return nil }, nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ready {
		err = n.send(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", monotonic().Microseconds()))
	}
	return n.reloaded, err
}

func (n *Notifier) reloaded() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.ready {
		return nil
	}
	return n.send("READY=1")
}

// Watch gives the manager's watchdog a sign of life whenever alive returns nil, which is
// asked twice in its time, until ctx ends. It returns at once where nobody watches.
func (n *Notifier) Watch(ctx context.Context, alive func(context.Context) error) {
	if n == nil || n.watchdog == 0 {
		return
	}
	tick := time.NewTicker(max(n.watchdog/2, time.Millisecond))
	defer tick.Stop()
	for {
		if alive(ctx) == nil {
			_ = n.send("WATCHDOG=1") // one that is lost is followed by another
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (n *Notifier) change(ready bool, state string) error {
	if n == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ready = ready
	return n.send(state)
}

// send sends one datagram. It waits a second at most for a manager that does not read.
func (n *Notifier) send(state string) error {
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetWriteDeadline(time.Now().Add(time.Second))
	if _, err := c.Write([]byte(state)); err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	return nil
}

package sdnotify

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"regexp"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// manager is the socket of a service manager.
func manager(t *testing.T, name string) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// next is what the manager is told next.
func next(t *testing.T, c *net.UnixConn) string {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	b := make([]byte, 4096)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestTheStatesThatAServiceManagerIsTold(t *testing.T) {
	for _, socket := range []string{filepath.Join(t.TempDir(), "notify"), "@stsrelay-sdnotify-test-" + strconv.FormatInt(time.Now().UnixNano(), 36)} {
		c := manager(t, socket)
		n := New([]string{"NOTIFY_SOCKET=" + socket}, 1)
		reload := func() {
			t.Helper()
			done, err := n.Reloading()
			if err != nil {
				t.Error(err)
			}
			if err := done(); err != nil {
				t.Error(err)
			}
		}
		reload() // before the start is done nothing is said
		if err := n.Ready(); err != nil {
			t.Error(err)
		}
		before := monotonic().Microseconds()
		reload()
		if err := n.Stopping(); err != nil {
			t.Error(err)
		}
		reload() // nor when the process ends
		if got := next(t, c); got != "READY=1" {
			t.Errorf("after the start: %q", got)
		}
		reloading := regexp.MustCompile(`^RELOADING=1\nMONOTONIC_USEC=([0-9]+)$`).FindStringSubmatch(next(t, c))
		if reloading == nil {
			t.Fatal("a reload is not told of")
		}
		if usec, err := strconv.ParseInt(reloading[1], 10, 64); err != nil || usec < before || usec > monotonic().Microseconds() {
			t.Errorf("the reload began at %s, not after %d", reloading[1], before)
		}
		if got := next(t, c); got != "READY=1" {
			t.Errorf("after the reload: %q", got)
		}
		if got := next(t, c); got != "STOPPING=1" {
			t.Errorf("at the end: %q", got)
		}
	}
}

// Signs of life come as long as the process is alive, and only then.
func TestTheWatchdog(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	c := manager(t, socket)
	n := New([]string{"NOTIFY_SOCKET=" + socket, "WATCHDOG_USEC=4000", "WATCHDOG_PID=7"}, 7)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var asked atomic.Int32
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.Watch(ctx, func(context.Context) error {
			switch asked.Add(1) {
			case 1, 2:
				return nil
			case 10:
				cancel()
			}
			return errors.New("nothing is committed")
		})
	}()
	<-done
	if err := n.Stopping(); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"WATCHDOG=1", "WATCHDOG=1", "STOPPING=1"} {
		if got := next(t, c); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestWhoIsToldOfNothing(t *testing.T) {
	for _, tt := range []struct {
		name     string
		environ  []string
		notifier bool
		watchdog time.Duration
	}{
		{"no service manager", []string{"WATCHDOG_USEC=30000000"}, false, 0},
		{"an empty name", []string{"NOTIFY_SOCKET="}, false, 0},
		{"a socket of another kind", []string{"NOTIFY_SOCKET=vsock:2:9999"}, false, 0},
		{"no watchdog", []string{"NOTIFY_SOCKET=/run/n"}, true, 0},
		{"a watchdog", []string{"NOTIFY_SOCKET=/run/n", "WATCHDOG_USEC=30000000"}, true, 30 * time.Second},
		{"the watchdog of another process", []string{"NOTIFY_SOCKET=/run/n", "WATCHDOG_USEC=30000000", "WATCHDOG_PID=6"}, true, 0},
		{"a time that is none", []string{"NOTIFY_SOCKET=/run/n", "WATCHDOG_USEC=soon"}, true, 0},
	} {
		n := New(tt.environ, 7)
		if (n != nil) != tt.notifier || n != nil && n.watchdog != tt.watchdog {
			t.Errorf("%s: %+v", tt.name, n)
		}
		if n == nil || n.watchdog == 0 {
			n.Watch(t.Context(), func(context.Context) error { t.Errorf("%s: it watches", tt.name); return nil })
		}
	}
	var nobody *Notifier
	done, err := nobody.Reloading()
	if err := errors.Join(err, done(), nobody.Ready(), nobody.Stopping()); err != nil {
		t.Error(err)
	}
	if err := New([]string{"NOTIFY_SOCKET=" + filepath.Join(t.TempDir(), "gone")}, 1).Ready(); err == nil {
		t.Error("nobody listens, and no error says so")
	}
}

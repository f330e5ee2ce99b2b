package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A service manager is told when the listeners are bound, of each reload, whether or not
// it is taken over, of signs of life, and of the stop.
func TestAServiceManagerIsTold(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	address := freeAddress(t)
	file := filepath.Join(dir, "stsrelay.toml")
	configure := func(more string) {
		t.Helper()
		if err := os.WriteFile(file, fmt.Appendf(nil, "hostname = \"relay.example.com\"\ndata_dir = %q\n[[listen]]\naddress = %q\n"+
			"[dns]\nservers = [\"127.0.0.1:1\"]\n[limits]\nfree_space = \"64MiB\"\n%s", dir, address, more), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	configure("")
	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("WATCHDOG_USEC", "20000")
	cmd := startProgram(t, dir, t.Output(), "serve", "--config", file)

	alive := 0
	next := func() string { // the next state; signs of life are counted
		t.Helper()
		b := make([]byte, 4096)
		_ = manager.SetReadDeadline(time.Now().Add(time.Minute)) // signs of life do not prolong it
		for {
			n, err := manager.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			if state := string(b[:n]); state != "WATCHDOG=1" {
				return state
			}
			alive++
		}
	}
	if got := next(); got != "READY=1" {
		t.Fatalf("first it tells %q", got)
	}
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatalf("it says that it is ready, and does not listen: %v", err)
	}
	c.Close()
	for _, more := range []string{"queue_length = 1000\n", "queue_length = \"many\"\n"} {
		configure(more)
		if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		if got := next(); !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") {
			t.Errorf("%q: at the reload it tells %q", more, got)
		}
		if got := next(); got != "READY=1" {
			t.Errorf("%q: after the reload it tells %q", more, got)
		}
	}
	before := alive
	b := make([]byte, 4096)
	for alive < before+3 {
		n, err := manager.Read(b)
		if err != nil || string(b[:n]) != "WATCHDOG=1" {
			t.Fatalf("no sign of life: %q, %v", b[:n], err)
		}
		alive++
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := next(); got != "STOPPING=1" {
		t.Errorf("at the stop it tells %q", got)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

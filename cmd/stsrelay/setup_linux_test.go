package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stsrelay/stsrelay/config"
)

// terminal opens a pseudo-terminal: what a person sees and types, and what the program
// has for its standard files.
func terminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("there are no pseudo-terminals here: ", err)
	}
	t.Cleanup(func() { person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return person, program
}

// A person answers the questions at a terminal, one of them wrongly at first.
func TestSetupAsksAtATerminal(t *testing.T) {
	dir := t.TempDir()
	person, program := terminal(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "setup", "--dir", dir, "--listen", "127.0.0.1:2525", "--no-check")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), asProgram)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = program, program, program
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	program.Close()
	seen := ""
	expect := func(text, answer string) {
		t.Helper()
		buf := make([]byte, 4096)
		for !strings.Contains(seen, text) {
			_ = person.SetReadDeadline(time.Now().Add(time.Minute))
			n, err := person.Read(buf)
			if seen += string(buf[:n]); err != nil && !strings.Contains(seen, text) {
				t.Fatalf("%v; want %q, the terminal shows:\n%s", err, text, seen)
			}
		}
		_, seen, _ = strings.Cut(seen, text)
		if answer != "" {
			if _, err := person.WriteString(answer + "\n"); err != nil {
				t.Fatal(err)
			}
		}
	}
	expect("Name of this relay", "relay.example.com")
	expect("Networks that may send", "everybody")
	expect("everybody: ", "")
	expect("Networks that may send", "10.0.0.0/24, 10.1.2.3")
	expect("Domain of the senders [example.com]: ", " ")
	expect("Who is told of problems [postmaster@example.com]: ", "ops@example.com")
	expect("Exchange Server (y/n) [n]: ", "y")
	expect("stsrelay._domainkey.example.com. IN TXT \"v=DKIM1", "")
	expect("example.com. IN TXT \"v=spf1 a:relay.example.com -all\"", "")
	expect(`-SmartHosts "relay.example.com" -Port 2525`, "")
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	c, warnings, err := config.Load(filepath.Join(dir, "stsrelay.toml"), nil)
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	if c.Hostname != "relay.example.com" || c.Notices.Operator != "ops@example.com" || len(c.Listen[0].Allow) != 2 || c.ReportKey() == nil || c.ReportDomain() != "example.com" {
		t.Errorf("%+v", c)
	}
}

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/await"
	"github.com/stsrelay/stsrelay/relay/adminapi"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// asProgram in the environment makes the test binary the program itself, so that
// tests can see what only a process shows: signals, exit status, broken pipes.
const asProgram = "STSRELAY_TEST_AS_PROGRAM=1"

func TestMain(m *testing.M) {
	if os.Getenv("STSRELAY_TEST_AS_PROGRAM") == "1" {
		_ = os.Unsetenv("STSRELAY_TEST_AS_PROGRAM")
		main()
	}
	os.Exit(m.Run())
}

// startProgram starts the program in a folder, with stderr as its standard error.
func startProgram(t *testing.T, dir string, stderr io.Writer, args ...string) *exec.Cmd {
	t.Helper()
	return startProgramTo(t, dir, nil, stderr, args...)
}

// startProgramTo is startProgram with stdout as its standard output.
func startProgramTo(t *testing.T, dir string, stdout, stderr io.Writer, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.Env = dir, stdout, stderr, append(os.Environ(), asProgram)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

// A log that nobody reads stops neither mail nor the end of the process. A reader that
// goes away does not end the process.
func TestALogThatNobodyReads(t *testing.T) {
	for _, gone := range []bool{false, true} {
		t.Run(fmt.Sprintf("reader gone %t", gone), func(t *testing.T) {
			dir := t.TempDir()
			address := freeAddress(t)
			file := filepath.Join(dir, "stsrelay.toml")
			if err := os.WriteFile(file, fmt.Appendf(nil, "hostname = \"relay.example.com\"\ndata_dir = %q\n[[listen]]\naddress = %q\n"+
				"[dns]\nservers = [\"127.0.0.1:1\"]\n[limits]\nfree_space = \"64MiB\"\n[delivery]\npaused = true\n", dir, address), 0o600); err != nil {
				t.Fatal(err)
			}
			reader, writer, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer reader.Close()
			cmd := startProgram(t, dir, writer, "serve", "--config", file)
			writer.Close()
			client := adminapi.NewClient(filepath.Join(dir, "stsrelay.sock"))
			running(t, client)
			if gone {
				reader.Close()
			}
			const sent = 1000 // some 300 KiB of log; a pipe holds 64 KiB
			c, err := smtp.Dial(address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for i := range sent {
				if err := oneMessage(c); err != nil {
					t.Fatalf("after %d messages: %v", i, err)
				}
			}
			var status operator.Status
			if err := client.Get(t.Context(), "/v1/status", nil, &status); err != nil {
				t.Fatal(err)
			}
			if status.Queue.Messages != sent {
				t.Errorf("%d messages in the queue, %d were accepted", status.Queue.Messages, sent)
			}
			if gone && status.LogDropped == 0 {
				t.Error("no line is counted as dropped")
			}
			begun := time.Now()
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- cmd.Wait() }()
			select {
			case err := <-done:
				if err != nil {
					t.Errorf("it ended with %v", err)
				}
			case <-time.After(time.Minute):
				t.Fatal("it did not end")
			}
			t.Logf("%d messages, %d lines dropped, stopped in %s", sent, status.LogDropped, time.Since(begun).Round(time.Millisecond))
		})
	}
}

// A stop with 500 silent sessions takes less than two seconds. The log names no message
// as perhaps delivered.
func TestAStopWithSilentHosts(t *testing.T) {
	const silent = 500
	dir := t.TempDir()
	hosts, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	met := make(chan net.Conn, 2*silent)
	go func() {
		defer close(met)
		for {
			c, err := hosts.Accept()
			if err != nil {
				return
			}
			met <- c
		}
	}()
	address := freeAddress(t)
	// Two thirds of the places are for domains that did not take mail yet.
	config := fmt.Appendf(nil, "hostname = \"relay.example.com\"\ndata_dir = %q\n[[listen]]\naddress = %q\n"+
		"[dns]\nservers = [\"127.0.0.1:1\"]\n[limits]\nfree_space = \"64MiB\"\n[delivery]\nconcurrency = %d\n", dir, address, silent*3/2)
	port := hosts.Addr().(*net.TCPAddr).Port
	for i := range silent {
		config = fmt.Appendf(config, "[[domain]]\nname = \"s%d.example\"\nroute = \"127.99.%d.%d:%d\"\n", i, 1+i/250, 1+i%250, port)
	}
	file := filepath.Join(dir, "stsrelay.toml")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	logName := filepath.Join(dir, "log")
	log, err := os.Create(logName)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	start := func() *exec.Cmd {
		cmd := startProgram(t, dir, log, "serve", "--config", file)
		running(t, adminapi.NewClient(filepath.Join(dir, "stsrelay.sock")))
		return cmd
	}
	cmd := start()
	c, err := smtp.Dial(address)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Mail(""); err != nil {
		t.Fatal(err)
	}
	for i := range silent {
		if err := c.Rcpt(fmt.Sprintf("kurt@s%d.example", i)); err != nil {
			t.Fatal(err)
		}
	}
	if w, err := c.Data(); err != nil {
		t.Fatal(err)
	} else if err := errors.Join(w.Close(), c.Quit()); err != nil {
		t.Fatal(err)
	}
	timeout := time.After(60 * time.Second)
	for i := range silent {
		select {
		case c := <-met:
			defer c.Close()
		case <-timeout:
			t.Fatalf("%d sessions are open", i)
		}
	}
	begun := time.Now()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	took := time.Since(begun)
	t.Logf("stopped in %s", took.Round(time.Millisecond))
	if took > 6*time.Second {
		t.Errorf("the stop took %s", took)
	}
	hosts.Close()
	start()
	await.Until(t, "an attempt of each message by the next start", func() bool {
		said, err := os.ReadFile(logName)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(said, []byte("may have been delivered")) || bytes.Contains(said, []byte(`"attempt":2,`)) {
			t.Fatal("mail that was cut by the stop counts as tried, or as delivered perhaps")
		}
		return bytes.Count(said, []byte(`"attempt":1,`)) == silent
	})
}

// freeAddress returns an address of this machine on which nothing listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// running waits until the relay answers.
func running(t *testing.T, client *adminapi.Client) {
	t.Helper()
	await.Until(t, "the relay to answer", func() bool {
		var s operator.Status
		return client.Get(t.Context(), "/v1/status", nil, &s) == nil
	})
}

// oneMessage hands in one message.
func oneMessage(c *smtp.Client) error {
	if err := c.Mail("anna@sender.example"); err != nil {
		return err
	}
	if err := c.Rcpt("kurt@a.example"); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, "Subject: hello\r\n\r\nHello\r\n"); err != nil {
		return err
	}
	return w.Close()
}

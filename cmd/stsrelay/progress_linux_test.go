package main

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stsrelay/stsrelay/internal/human"
)

// screen returns all that a program has written to its terminal.
func screen(t *testing.T, person, program *os.File) string {
	t.Helper()
	const end = "(end)"
	if _, err := io.WriteString(program, end); err != nil {
		t.Fatal(err)
	}
	seen := ""
	_ = person.SetReadDeadline(time.Now().Add(time.Minute))
	for buf := make([]byte, 4096); !strings.HasSuffix(seen, end); {
		n, err := person.Read(buf)
		if seen += string(buf[:n]); err != nil {
			t.Fatalf("%v: %q", err, seen)
		}
	}
	return strings.TrimSuffix(seen, end)
}

func TestProgressIsShownAtATerminal(t *testing.T) {
	for _, row := range []struct {
		name string
		do   func(a *app)
		want []string // in this order; none: nothing is shown
	}{
		{"less than a second", func(a *app) {
			p := a.progress("import", 100, human.Size)
			time.Sleep(900 * time.Millisecond)
			p.end()
		}, nil},
		{"a part of a file", func(a *app) {
			p := a.progress("import", 4096, human.Size)
			_, _ = io.CopyN(io.Discard, p.reader(iotest.OneByteReader(bytes.NewReader(make([]byte, 4096)))), 1024)
			time.Sleep(time.Second + time.Millisecond)
			p.add(1024)
			time.Sleep(time.Second)
			p.end()
		}, []string{"\rimport: [######------------------] 1 KiB of 4 KiB, 3s left" + clearLine, "\rimport: [############------------] 2 KiB of 4 KiB, 2s left" + clearLine, "\r" + clearLine}},
		{"a file of which the size is not known", func(a *app) {
			p := a.progress("export", 0, human.Size)
			p.add(3 << 20)
			time.Sleep(1500 * time.Millisecond)
			p.end()
		}, []string{"\rexport: 3.0 MiB in 1s" + clearLine, "\r" + clearLine}},
		{"a request", func(a *app) {
			p := a.progress("retry", 0, nil)
			time.Sleep(2100 * time.Millisecond)
			p.end()
		}, []string{"\rretry: at work for 2s" + clearLine, "\r" + clearLine}},
		{"with lines between", func(a *app) {
			p := a.progress("check", 2, number)
			time.Sleep(1100 * time.Millisecond)
			p.add(1)
			_ = p.print(func() error { _, err := io.WriteString(a.rawErr, "a line\n"); return err })
			time.Sleep(time.Second)
			p.end()
		}, []string{"check: [------------------------] 0 of 2" + clearLine, "\r" + clearLine + "a line\r\n", "check: [############------------] 1 of 2"}},
		{"a terminal that can do nothing", func(a *app) {
			a.environ = []string{"TERM=dumb"}
			p := a.progress("retry", 0, nil)
			time.Sleep(5 * time.Second)
			p.end()
		}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			person, program := terminal(t)
			defer program.Close()
			synctest.Test(t, func(*testing.T) { row.do(newApp(nil, io.Discard, program, nil)) })
			got := screen(t, person, program)
			if len(row.want) == 0 && got != "" {
				t.Errorf("the terminal shows %q", got)
			}
			rest := got
			for _, want := range row.want {
				_, after, ok := strings.Cut(rest, want)
				if !ok {
					t.Fatalf("%q is missing in %q", want, got)
				}
				rest = after
			}
		})
	}
	if p := newApp(nil, io.Discard, io.Discard, nil).progress("retry", 0, nil); p != nil {
		t.Error("progress is shown where there is no terminal")
	}
}

// The program shows it on standard error, and standard output stays as it is.
func TestAnImportThatLastsShowsItsProgress(t *testing.T) {
	person, program := terminal(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "queue", "import", "--check", "-")
	cmd.Env = append(os.Environ(), asProgram, "TERM=xterm")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, program
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	program.Close()
	seen := ""
	_ = person.SetReadDeadline(time.Now().Add(time.Minute))
	for buf := make([]byte, 4096); !strings.Contains(seen, "import: 0 B in 1s"); {
		n, err := person.Read(buf)
		if seen += string(buf[:n]); err != nil {
			t.Fatalf("%v: %q", err, seen)
		}
	}
	in.Close() // an empty file is no export
	if err := cmd.Wait(); err == nil || out.Len() > 0 {
		t.Errorf("%v: %s", err, &out)
	}
}

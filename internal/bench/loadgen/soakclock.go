//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// steppedClock gives the relay a wall clock of its own. Programs of Go ask the kernel for the
// time, so a library cannot put another one in between. Under qemu's emulation of the
// processor, qemu asks the C library for them, and there libfaketime answers. The
// monotonic clock is the real one.
type steppedClock struct {
	emulator, library string
	file              string // has the difference to the real time
}

// newSteppedClock returns a clock that is right at first; the error says what is not
// installed.
func newSteppedClock(dir string) (*steppedClock, error) {
	names := map[string]string{"amd64": "qemu-x86_64", "arm64": "qemu-aarch64"}
	emulator, err := exec.LookPath(names[runtime.GOARCH])
	if err != nil {
		return nil, fmt.Errorf("a clock that can be stepped needs qemu-user: %w", err)
	}
	found, _ := filepath.Glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
	if len(found) == 0 {
		return nil, errors.New("a clock that can be stepped needs libfaketime")
	}
	c := &steppedClock{emulator: emulator, library: found[0], file: filepath.Join(dir, "clock")}
	return c, c.set(0)
}

// set sets the difference to the real time.
func (c *steppedClock) set(d time.Duration) error {
	// Written beside and renamed: it is read at each question for the time.
	if err := os.WriteFile(c.file+".new", fmt.Appendf(nil, "%+.0f\n", d.Seconds()), 0o600); err != nil {
		return err
	}
	return os.Rename(c.file+".new", c.file)
}

// under changes a command so that it has this clock.
func (c *steppedClock) under(cmd *exec.Cmd) {
	cmd.Args = append([]string{c.emulator, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = c.emulator
	cmd.Env = append(os.Environ(), "LD_PRELOAD="+c.library, "FAKETIME_TIMESTAMP_FILE="+c.file,
		"FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1", "NO_FAKE_STAT=1")
}

// clockFaults are steps of the clock. The certificates of hosts and policy hosts are valid for
// less than a year: with a clock a year ahead policies have expired and cannot be fetched, and
// with one a year back new sessions wait.
func (s *soaking) clockFaults() []fault {
	step := func(by time.Duration) func(context.Context) error {
		return func(ctx context.Context) error {
			return errors.Join(s.clock.set(by), wait(ctx, faultTime), s.clock.set(0))
		}
	}
	const day = 24 * time.Hour
	return []fault{
		{"clock an hour ahead", step(time.Hour)},
		{"clock an hour back", step(-time.Hour)},
		{"clock a day ahead", step(day)},
		{"clock a year ahead", step(365 * day)},
		{"clock a year back", step(-365 * day)},
		{"clock at 1970", step(-time.Since(time.Unix(3600, 0)))},
		// What waits has times of a clock that was wrong.
		{killed + ", and the clock was an hour ahead", func(ctx context.Context) error {
			return errors.Join(s.clock.set(time.Hour), wait(ctx, faultTime), s.clock.set(0), s.restart(ctx, syscall.SIGKILL))
		}},
		{killed + ", and the clock was a year back", func(ctx context.Context) error {
			return errors.Join(s.clock.set(-365*day), wait(ctx, faultTime), s.clock.set(0), s.restart(ctx, syscall.SIGKILL))
		}},
		// What waits for a host that is down seems to be too old.
		{killed + ", and a start with a clock a year ahead", func(ctx context.Context) error {
			h := s.hosts[s.random.IntN(len(s.hosts))]
			err := h.Set(testnet.Faults{Down: true})
			h.Cut()
			return errors.Join(err, wait(ctx, faultTime), s.clock.set(365*day),
				s.restart(ctx, syscall.SIGKILL), wait(ctx, faultTime), s.clock.set(0), h.Set(testnet.Faults{}))
		}},
	}
}

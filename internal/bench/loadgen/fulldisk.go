//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	diskSize = 1 << 30
	// freeSpace is what the relay is told to keep free.
	freeSpace = 128 << 20
	// returnsWithin is how soon mail must be accepted again.
	returnsWithin = 5 * time.Second
)

// fullDisk runs the relay on a small disk of its own (a file, mounted by the
// loop device, which needs root) that another program fills under load, again
// and again: in turn to the last block, and to below free_space only. Nothing
// that was acknowledged may be lost, the process must live, mail must be
// accepted again by itself, and below free_space deliveries must go on.
func fullDisk(ctx context.Context, o options, rounds int) (err error) {
	if os.Getuid() != 0 {
		fmt.Println("full disk: skipped, mounting a small disk needs root")
		return nil
	}
	o.kills = 1 // the senders go on until they are stopped
	l := newLoad(o)
	disk, unmount, err := smallDisk(ctx, diskSize)
	if err != nil {
		fmt.Println("full disk: skipped,", err)
		return nil
	}
	defer unmount()
	l.data, l.freeSpace = filepath.Join(disk, "data"), freeSpace
	if err := l.prepare(); err != nil {
		return err
	}
	defer os.RemoveAll(l.dir)
	defer l.net.Close()
	if err := l.startRelay(ctx); err != nil {
		return err
	}
	defer func() { _ = l.process.stop(syscall.SIGKILL) }()
	sent := make(chan error, 1)
	go func() { sent <- l.send(ctx) }()
	f := filler{disk: disk, random: rand.New(rand.NewPCG(o.seed, 1))}
	for i := range rounds {
		if err = l.fillRound(ctx, &f, i); err != nil {
			break
		}
	}
	l.stop.Store(true)
	if err = errors.Join(err, <-sent, f.empty()); err != nil {
		return errors.Join(err, l.lastLog())
	}
	if err := l.arrive(ctx); err != nil {
		return errors.Join(err, l.lastLog())
	}
	distinct, total := l.arrived()
	fmt.Printf("full disk: rounds %d, acknowledged %d, lost 0, twice %d, no SIGBUS, accepting again after at most %v\n",
		rounds, len(l.accepted), total-len(distinct), l.slowest.Round(10*time.Millisecond))
	return l.refusesToStart(ctx, &f)
}

// fillRound fills the disk once and gives the space back.
func (l *load) fillRound(ctx context.Context, f *filler, i int) error {
	if err := pause(ctx, time.Duration(100+f.random.IntN(600))*time.Millisecond); err != nil {
		return err
	}
	leave := int64(0)
	if i%2 == 1 {
		leave = freeSpace - 32<<20
	}
	err := f.fill(leave)
	if err == nil && leave > 0 {
		err = l.drains(ctx, f, leave)
	} else if err == nil {
		err = pause(ctx, time.Second)
	}
	free, _ := f.free()
	before := l.count()
	if err = errors.Join(err, f.empty()); err != nil {
		return err
	}
	start := time.Now()
	for l.count() == before {
		if time.Since(start) > returnsWithin {
			return fmt.Errorf("round %d: nothing is accepted %v after there is space", i+1, returnsWithin)
		}
		if err := l.lives(i); err != nil {
			return err
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	l.slowest = max(l.slowest, time.Since(start))
	if l.verbose {
		fmt.Printf("round %d: %d MiB free at the end of it, %d acknowledged so far, accepting again after %v\n", i+1, free>>20, before, time.Since(start).Round(time.Millisecond))
	}
	return l.lives(i)
}

// drains waits until all that was accepted has arrived while the disk stays
// below free_space, so that nothing more comes in.
func (l *load) drains(ctx context.Context, f *filler, leave int64) error {
	for end := time.Now().Add(30 * time.Second); ; {
		n := l.count()
		if err := l.lives(0); err != nil {
			return err
		}
		if l.missing() == 0 && n == l.count() {
			return nil
		}
		if err := f.fill(leave); err != nil { // what the store gives back
			return err
		}
		if time.Now().After(end) {
			free, _ := f.free()
			return fmt.Errorf("with %d MiB free %d messages are not delivered after 30 s", free>>20, l.missing())
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// refusesToStart tries a start on a full disk, once the ballast is used up.
func (l *load) refusesToStart(ctx context.Context, f *filler) error {
	if err := l.process.stop(syscall.SIGTERM); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(l.data, "queue", "ballast")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := f.fill(32 << 20); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, l.binary, "serve", "--config", filepath.Join(l.dir, "stsrelay.toml")).CombinedOutput()
	ended, ok := errors.AsType[*exec.ExitError](err)
	if !ok || ended.ExitCode() != 1 || !strings.Contains(string(out), "free some space") {
		return fmt.Errorf("a start on a full disk: %w: %s", err, out)
	}
	fmt.Printf("full disk: serve exits 1: %s\n", lastLine(out))
	if err := f.empty(); err != nil {
		return err
	}
	return l.startRelay(ctx)
}

// lives says whether the relay has ended.
func (l *load) lives(round int) error {
	select {
	case <-l.process.done:
		return fmt.Errorf("round %d: the relay has ended: %v", round+1, l.process.cmd.ProcessState)
	default:
		return nil
	}
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.accepted)
}

// lastLog is an error with the end of the relay's log.
func (l *load) lastLog() error {
	data, _ := os.ReadFile(filepath.Join(l.dir, "relay.log"))
	return errors.New(string(data[max(0, len(data)-4000):]))
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// smallDisk mounts a file system of so many octets.
func smallDisk(ctx context.Context, size int64) (dir string, unmount func(), err error) {
	base, err := os.MkdirTemp("", "stsrelay-disk-")
	if err != nil {
		return "", nil, err
	}
	image, dir := filepath.Join(base, "image"), filepath.Join(base, "disk")
	steps := [][]string{{"mkfs.ext4", "-q", "-m", "0", image}, {"mount", "-o", "loop", image, dir}}
	err = errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(image, nil, 0o600), os.Truncate(image, size))
	for _, s := range steps {
		if err != nil {
			break
		}
		if out, e := exec.CommandContext(ctx, s[0], s[1:]...).CombinedOutput(); e != nil { //nolint:gosec // constant commands
			err = fmt.Errorf("%s: %w: %s", s[0], e, out)
		}
	}
	if err != nil {
		_ = os.RemoveAll(base)
		return "", nil, err
	}
	return dir, func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			fmt.Fprintln(os.Stderr, "unmount:", err)
			return
		}
		_ = os.RemoveAll(base)
	}, nil
}

// filler is the other program on the disk.
type filler struct {
	disk   string
	random *rand.Rand
	file   *os.File
}

func (f *filler) free() (int64, error) {
	var st unix.Statfs_t
	err := unix.Statfs(f.disk, &st)
	return int64(st.Bavail) * st.Bsize, err
}

// fill writes until so many bytes are free; 0: until nothing more goes.
func (f *filler) fill(leave int64) (err error) {
	if f.file == nil {
		if f.file, err = os.Create(filepath.Join(f.disk, "filler")); err != nil {
			return err
		}
	}
	if leave == 0 && f.random.IntN(2) == 0 { // all at once, as a program does that reserves its space
		for n, err := f.free(); err == nil && n > 0; n /= 2 {
			st, err := f.file.Stat()
			if err != nil {
				return err
			}
			_ = unix.Fallocate(int(f.file.Fd()), 0, st.Size(), n)
		}
	}
	if free, err := f.free(); err == nil && leave > 0 && free-leave > 64<<20 {
		// Most of it in one step: a file system that cannot do it has it written below.
		_ = unix.Fallocate(int(f.file.Fd()), 0, 0, free-leave-64<<20)
	}
	block := make([]byte, 1<<20)
	for {
		free, err := f.free()
		if err != nil {
			return err
		}
		n := min(free-leave, int64(len(block)))
		if leave == 0 {
			n = int64(len(block))
		}
		if n <= 0 {
			return nil
		}
		if _, err := f.append(block[:n]); errors.Is(err, unix.ENOSPC) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

func (f *filler) append(p []byte) (int, error) {
	if _, err := f.file.Seek(0, io.SeekEnd); err != nil {
		return 0, err
	}
	return f.file.Write(p)
}

func (f *filler) empty() error {
	if f.file == nil {
		return nil
	}
	err := errors.Join(f.file.Close(), os.Remove(f.file.Name()))
	f.file = nil
	return err
}

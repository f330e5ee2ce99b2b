//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// faultTime is how long one fault lasts, and then the calm after it.
const faultTime = 3 * time.Second

// soaking is a load that goes on while one fault follows the other.
type soaking struct {
	*load
	http   string // where the relay's metrics are
	config string
	random *rand.Rand
	made   map[string]int // faults
	disk   *filler        // of the disk of the relay; nil: it has none of its own
}

// soak puts load on the relay for a time, while faults come and go, and checks that all
// that was acknowledged has arrived in the end. With steps, the faults are steps of the
// relay's clock, and no others.
func soak(ctx context.Context, o options, length time.Duration, steps bool) error {
	o.kills, o.domains, o.hosts = 1, 40, 8 // kills: the senders go on until they are stopped
	s := &soaking{load: newLoad(o), random: rand.New(rand.NewPCG(o.seed, 1)), made: make(map[string]int)}
	if !steps {
		unmount, err := s.ownDisk(ctx)
		if err != nil {
			fmt.Println("soak: the faults of the disk are left out:", err)
		} else {
			defer unmount()
		}
	}
	if err := s.prepare(); err != nil {
		return err
	}
	defer os.RemoveAll(s.dir)
	if steps {
		var err error
		if s.clock, err = newSteppedClock(s.dir); err != nil {
			return err
		}
	}
	defer s.net.Close()
	if err := s.reconfigure(); err != nil {
		return err
	}
	if err := s.startRelay(ctx); err != nil {
		return err
	}
	defer func() { _ = s.process.stop(syscall.SIGTERM) }()
	began := time.Now()
	sent := make(chan error, 1)
	go func() { sent <- s.send(ctx) }()
	if err := wait(ctx, 2*faultTime); err != nil {
		return err
	}
	first := s.measure(ctx)
	err := s.disturb(ctx, began.Add(length))
	s.stop.Store(true)
	took := time.Since(began)
	if err = errors.Join(err, <-sent); err != nil {
		return err
	}
	if err := s.arrive(ctx); err != nil {
		return err
	}
	if err := wait(ctx, 2*faultTime); err != nil { // idle sessions end, garbage is collected
		return err
	}
	return s.report(took, first, s.measure(ctx))
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// reconfigure adds the address of the metrics, and a retry that ends soon.
func (s *soaking) reconfigure() error {
	port, err := freePort()
	if err != nil {
		return err
	}
	s.http, s.config = "127.0.0.1:"+port, filepath.Join(s.dir, "stsrelay.toml")
	text, err := os.ReadFile(s.config)
	if err != nil {
		return err
	}
	text = append(bytes.Replace(text, []byte(`retry = ["1s", "2h"]`), []byte(`retry = ["1s"]`), 1), fmt.Sprintf("[admin]\nhttp = %q\n", s.http)...)
	return os.WriteFile(s.config, text, 0o600)
}

// measured is what the process uses.
type measured struct{ memory, goroutines, descriptors int }

var goroutines = regexp.MustCompile(`(?m)^go_goroutines (\d+)`)

// measure returns what the process uses now; -1 is not known.
func (s *soaking) measure(ctx context.Context) measured {
	m := measured{memory: -1, goroutines: -1, descriptors: -1}
	pid := s.process.cmd.Process.Pid
	if files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid)); err == nil {
		m.descriptors = len(files)
	}
	if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)); err == nil {
		_, rest, _ := strings.Cut(string(status), "RssAnon:")
		kib, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
		if n, err := strconv.Atoi(kib); err == nil {
			m.memory = n >> 10
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.http+"/metrics", nil)
	if err != nil {
		return m
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return m
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	if found := goroutines.FindSubmatch(text); found != nil {
		m.goroutines, _ = strconv.Atoi(string(found[1]))
	}
	return m
}

// report prints the result. Each kill, and each host that restarts, may repeat the deliveries
// that were in flight.
func (s *soaking) report(took time.Duration, first, last measured) error {
	distinct, total := s.arrived()
	repeats := s.made[stalls]
	for name, n := range s.made {
		if strings.HasPrefix(name, killed) {
			repeats += n
		}
	}
	twice, bound := total-len(distinct), repeats*inFlight
	fmt.Printf("soak %s, seed %d: %d acknowledged (%.0f a second), lost 0, twice %d (at most %d)\n", took.Round(time.Second), s.seed, len(s.accepted), float64(len(s.accepted))/took.Seconds(), twice, bound)
	fmt.Printf("at the start: %d MiB of its own, %d goroutines, %d descriptors; at the end: %d MiB, %d, %d\n",
		first.memory, first.goroutines, first.descriptors, last.memory, last.goroutines, last.descriptors)
	for name, n := range s.made {
		fmt.Printf("  %d × %s\n", n, name)
	}
	switch {
	case twice > bound:
		return errors.New("more messages came twice than were in flight")
	case last.goroutines > 2*max(first.goroutines, 100), last.descriptors > 2*max(first.descriptors, 100), last.memory > 2*max(first.memory, 64):
		return errors.New("the process uses more at the end than at the start, when it has nothing to do")
	}
	return nil
}

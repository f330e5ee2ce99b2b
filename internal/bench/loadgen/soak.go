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

	"github.com/stsrelay/stsrelay/internal/testnet"
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
}

// soak puts load on the relay for a time, while faults come and go, and checks that all
// that was acknowledged has arrived in the end.
func soak(ctx context.Context, o options, length time.Duration) error {
	o.kills, o.domains, o.hosts = 1, 40, 8 // kills: the senders go on until they are stopped
	s := &soaking{load: newLoad(o), random: rand.New(rand.NewPCG(o.seed, 1)), made: make(map[string]int)}
	if err := s.prepare(); err != nil {
		return err
	}
	defer os.RemoveAll(s.dir)
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

// disturb makes one fault after the other until the end.
func (s *soaking) disturb(ctx context.Context, end time.Time) error {
	faults := []struct {
		name string
		make func(context.Context) error
	}{
		{"MX host down", s.host(testnet.Faults{Down: true})},
		{"kill -9", func(ctx context.Context) error { return s.restart(ctx, syscall.SIGKILL) }},
		{"MX host stalls", s.host(testnet.Faults{Hang: "mail"})},
		{"HUP with a good file", func(context.Context) error { return s.process.cmd.Process.Signal(syscall.SIGHUP) }},
		{"policy host down", s.policyHost},
		{"HUP with a bad file", s.badFile},
		{"MX host without TLS", s.host(testnet.Faults{NoStartTLS: true})},
		{"upgrade of the binary", s.upgrade},
	}
	for i := 0; time.Now().Before(end); i++ {
		f := faults[i%len(faults)]
		s.made[f.name]++
		if err := f.make(ctx); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		if err := wait(ctx, faultTime/3); err != nil {
			return err
		}
	}
	return nil
}

// host returns a fault of one host, which ends after a while.
func (s *soaking) host(f testnet.Faults) func(context.Context) error {
	return func(ctx context.Context) error {
		h := s.hosts[s.random.IntN(len(s.hosts))]
		if err := h.Set(f); err != nil {
			return err
		}
		return errors.Join(wait(ctx, faultTime), h.Set(testnet.Faults{}))
	}
}

func (s *soaking) policyHost(ctx context.Context) error {
	h, err := s.net.PolicyHost(domainName(s.random.IntN(s.domains)))
	if err != nil {
		return err
	}
	if err := h.Set(testnet.PolicyFaults{Status: http.StatusInternalServerError}); err != nil {
		return err
	}
	return errors.Join(wait(ctx, faultTime), h.Set(testnet.PolicyFaults{}))
}

// badFile reloads a file with an error; the relay goes on as it was.
func (s *soaking) badFile(ctx context.Context) error {
	good, err := os.ReadFile(s.config)
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.config, append(bytes.Clone(good), "[nonsense\n"...), 0o600); err != nil {
		return err
	}
	err = errors.Join(s.process.cmd.Process.Signal(syscall.SIGHUP), wait(ctx, faultTime/3))
	return errors.Join(err, os.WriteFile(s.config, good, 0o600))
}

// upgrade puts a new file in the place of the program, stops it and starts it anew.
func (s *soaking) upgrade(ctx context.Context) error {
	program, err := os.ReadFile(s.binary)
	if err != nil {
		return err
	}
	s.binary = filepath.Join(s.dir, "stsrelay")
	if err := os.WriteFile(s.binary+".new", program, 0o700); err != nil { //nolint:gosec // it is a program
		return err
	}
	if err := os.Rename(s.binary+".new", s.binary); err != nil {
		return err
	}
	return s.restart(ctx, syscall.SIGTERM)
}

func (s *soaking) restart(ctx context.Context, by syscall.Signal) error {
	if err := s.process.stop(by); err != nil {
		return err
	}
	return s.startRelay(ctx)
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

// report prints the result. Each kill may repeat the deliveries that were in flight.
func (s *soaking) report(took time.Duration, first, last measured) error {
	distinct, total := s.arrived()
	twice, bound := total-len(distinct), s.made["kill -9"]*inFlight
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

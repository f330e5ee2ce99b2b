//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

// Faults that may repeat what was in flight: at the end of stalls a host cuts its sessions,
// and the names of those that kill the relay begin with killed.
const (
	stalls = "MX host stalls, restarts"
	killed = "kill -9"
)

// fault is something that goes wrong for a while.
type fault struct {
	name string
	make func(context.Context) error
}

// disturb makes one fault after the other until the end.
func (s *soaking) disturb(ctx context.Context, end time.Time) error {
	faults := []fault{
		{"MX host down", s.host(testnet.Faults{Down: true})},
		{killed, func(ctx context.Context) error { return s.restart(ctx, syscall.SIGKILL) }},
		{stalls, s.stall},
		{"HUP with a good file", func(context.Context) error { return s.process.cmd.Process.Signal(syscall.SIGHUP) }},
		{"policy host down", s.policyHost},
		{"HUP with a bad file", s.badFile},
		{"MX host without TLS", s.host(testnet.Faults{NoStartTLS: true})},
		{"upgrade of the binary", s.upgrade},
		{"DNS down", s.dnsDown},
	}
	if s.clock != nil {
		faults = s.clockFaults()
	}
	if s.disk != nil {
		faults = append(faults, fault{"disk below free_space", s.fillDisk(freeSpace - 32<<20)}, fault{"disk full", s.fillDisk(0)})
	}
	for i := 0; time.Now().Before(end); i++ {
		f := faults[i%len(faults)]
		s.made[f.name]++
		if s.verbose {
			fmt.Printf("%s: %s\n", time.Now().UTC().Format(time.TimeOnly), f.name)
		}
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

// stall has one host say nothing from MAIL on; then it restarts, which ends the sessions that
// wait for it: the relay would wait for five minutes.
func (s *soaking) stall(ctx context.Context) error {
	h := s.hosts[s.random.IntN(len(s.hosts))]
	if err := h.Set(testnet.Faults{Hang: "mail"}); err != nil {
		return err
	}
	err := errors.Join(wait(ctx, faultTime), h.Set(testnet.Faults{}))
	h.Cut()
	return err
}

func (s *soaking) policyHost(ctx context.Context) error {
	h, err := s.net.PolicyHost(domainName(s.random.IntN(s.domains)))
	if err != nil {
		return err
	}
	if err := h.Set(testnet.PolicyFaults{Down: true}); err != nil {
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

// dnsDown has the resolver say nothing.
func (s *soaking) dnsDown(ctx context.Context) error {
	s.net.DNS.SetResolver(testnet.ResolverFaults{Down: testnet.Silence})
	err := wait(ctx, faultTime)
	s.net.DNS.SetResolver(testnet.ResolverFaults{})
	return err
}

// soakDisk is the size of the relay's disk: a day of the history stays.
const soakDisk = 4 << 30

// ownDisk gives the relay a small disk of its own, which needs root.
func (s *soaking) ownDisk(ctx context.Context) (unmount func(), err error) {
	if os.Getuid() != 0 {
		return nil, errors.New("mounting a disk needs root")
	}
	disk, unmount, err := smallDisk(ctx, soakDisk)
	if err != nil {
		return nil, err
	}
	s.data, s.freeSpace = filepath.Join(disk, "data"), freeSpace
	s.disk = &filler{disk: disk, random: rand.New(rand.NewPCG(s.seed, 3))}
	return unmount, nil
}

// fillDisk returns a fault: another program leaves so many octets of the disk.
func (s *soaking) fillDisk(leave int64) func(context.Context) error {
	return func(ctx context.Context) error {
		return errors.Join(s.disk.fill(leave), wait(ctx, faultTime), s.disk.empty())
	}
}

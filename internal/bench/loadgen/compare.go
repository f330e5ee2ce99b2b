//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// startLeast starts the least that a durable relay can do (internal/bench/least).
func (l *load) startLeast(ctx context.Context) error {
	program := filepath.Join(l.dir, "least")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/stsrelay/stsrelay/internal/bench/least").CombinedOutput(); err != nil { //nolint:gosec // our own
		return fmt.Errorf("build least: %w: %s", err, out)
	}
	args := []string{"-listen", l.addr, "-log", filepath.Join(l.dir, "least.log")}
	if !l.accept {
		var routes strings.Builder
		for i := range l.domains {
			h := l.hosts[i%len(l.hosts)]
			fmt.Fprintf(&routes, "%s %s %s:25\n", domainName(i), h.Name, h.IP)
		}
		file := filepath.Join(l.dir, "routes")
		if err := os.WriteFile(file, []byte(routes.String()), 0o600); err != nil {
			return err
		}
		args = append(args, "-ca", filepath.Join(l.dir, "ca.pem"), "-routes", file)
	}
	return l.await(ctx, exec.Command(program, args...), filepath.Join(l.dir, "relay.log")) //nolint:gosec,noctx // stopped by a signal
}

// compare puts the same load on the three in turn, several rounds, and prints the
// medians.
func compare(ctx context.Context, o options) error {
	relays := []string{"least", "stsrelay", "postfix"}
	if _, err := exec.LookPath("postfix"); err != nil || o.accept {
		relays = relays[:2] // Postfix delivers what it has accepted
	}
	results := make(map[string][]result)
	for range o.rounds {
		for _, name := range relays {
			o.relay = name
			r, err := run(ctx, o)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			results[name] = append(results[name], r)
		}
	}
	median := func(name string, of func(result) float64) float64 {
		var list []float64
		for _, r := range results[name] {
			list = append(list, of(r))
		}
		slices.Sort(list)
		return list[len(list)/2]
	}
	fmt.Printf("\nmedians of %d rounds\n%-10s %12s %12s %16s  %s\n", o.rounds, "", "accepted/s", "delivered/s", "CPU s/thousand", "memory of the last")
	for _, name := range relays {
		fmt.Printf("%-10s %12.0f %12.0f %16.3f  %s\n", name, median(name, func(r result) float64 { return r.accepted }),
			median(name, func(r result) float64 { return r.delivered }), median(name, func(r result) float64 { return r.cpu }), results[name][len(results[name])-1].memory)
	}
	return nil
}

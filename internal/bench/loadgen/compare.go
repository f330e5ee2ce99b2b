//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// leastOnBadger is the name of the least whose log is a Badger database.
const leastOnBadger = "least+badger"

// startLeast starts the least that a durable relay can do (internal/bench/least).
func (l *load) startLeast(ctx context.Context) error {
	program := filepath.Join(l.dir, "least")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/stsrelay/stsrelay/internal/bench/least").CombinedOutput(); err != nil { //nolint:gosec // our own
		return fmt.Errorf("build least: %w: %s", err, out)
	}
	args := []string{"-listen", l.addr, "-log", filepath.Join(l.dir, "least.log")}
	if l.relay == leastOnBadger {
		args = append(args, "-badger")
	}
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

// variant is one of several loads that are compared.
type variant struct {
	name   string
	change func(*options)
}

// compareRelays puts the same load on each in turn.
func compareRelays(ctx context.Context, o options) error {
	var list []variant
	for _, name := range []string{"least", leastOnBadger, "stsrelay", "postfix"} {
		list = append(list, variant{name, func(o *options) { o.relay = name }})
	}
	if _, err := exec.LookPath("postfix"); err != nil || o.accept {
		list = list[:len(list)-1] // Postfix delivers what it has accepted
	}
	return compare(ctx, o, list)
}

// compareTop puts the same load on the relay, with and without somebody who watches it.
func compareTop(ctx context.Context, o options) error {
	return compare(ctx, o, []variant{{"without", func(*options) {}}, {"with top", func(o *options) { o.top = true }}})
}

// compare makes several rounds of the variants in turn, and prints the medians.
func compare(ctx context.Context, o options, variants []variant) error {
	results := make(map[string][]result)
	for range o.rounds {
		for _, v := range variants {
			with := o
			v.change(&with)
			r, err := run(ctx, with)
			if err != nil {
				return fmt.Errorf("%s: %w", v.name, err)
			}
			results[v.name] = append(results[v.name], r)
		}
	}
	quartiles := func(name string, of func(result) float64) (low, median, high float64) {
		var list []float64
		for _, r := range results[name] {
			list = append(list, of(r))
		}
		slices.Sort(list)
		return list[len(list)/4], list[len(list)/2], list[len(list)*3/4]
	}
	fmt.Printf("\nmedians of %d rounds, and the middle half of them\n%-12s %20s %20s %16s  %s\n", o.rounds, "", "accepted/s", "delivered/s", "CPU s/thousand", "memory of the last")
	for _, v := range variants {
		rate := func(of func(result) float64) string {
			low, median, high := quartiles(v.name, of)
			return fmt.Sprintf("%.0f (%.0f to %.0f)", median, low, high)
		}
		_, cpu, _ := quartiles(v.name, func(r result) float64 { return r.cpu })
		fmt.Printf("%-12s %20s %20s %16.3f  %s\n", v.name, rate(func(r result) float64 { return r.accepted }), rate(func(r result) float64 { return r.delivered }),
			cpu, results[v.name][len(results[v.name])-1].memory)
	}
	return nil
}

// watch runs "stsrelay top", which asks each second, until it is stopped. stop returns how often it
// got an answer.
func (l *load) watch(ctx context.Context) (stop func() (int, error), err error) {
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, l.binary, "top", "--json", "--count", "1000000", "--config", filepath.Join(l.dir, "stsrelay.toml")) //nolint:gosec // our own
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("top: %w", err)
	}
	return func() (int, error) {
		cancel()
		_ = cmd.Wait() // it was killed
		if n := bytes.Count(out.Bytes(), []byte(`"rates"`)); n > 0 {
			return n, nil
		}
		return 0, errors.New("top has shown nothing")
	}, nil
}

//go:build linux

// Command realhosts is the judge of deliveries to mail servers that nobody here
// wrote. Each of them runs in a root of its own on a loopback address, with a
// certificate of a test CA and an enforced MTA-STS policy. The built relay sends
// each of them 200 messages of six senders: good ones, refused and deferred ones,
// and content of all kinds. In the middle the hosts are killed and started again.
//
// What arrived is compared octet for octet with what was sent; every refusal must
// have been told to its sender once, every deferral must have ended, nothing may
// be lost and nothing may come twice.
//
// .ci/hosts installs the hosts and calls this in a network namespace.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

func main() {
	o := options{}
	flag.StringVar(&o.binary, "binary", "./stsrelay", "the relay's program")
	flag.StringVar(&o.files, "files", "internal/realhosts/testdata", "the hosts' descriptions and configurations")
	flag.StringVar(&o.roots, "roots", "", "the folder with the hosts' roots, one of the host's name each")
	flag.IntVar(&o.messages, "messages", 200, "messages for each service of a host")
	flag.DurationVar(&o.timeout, "timeout", 10*time.Minute, "of the whole")
	flag.BoolVar(&o.restart, "restart", true, "kill the hosts in the middle and start them again")
	flag.Parse()
	o.hosts = flag.Args()
	if err := testnet.LoopbackUp(); err != nil {
		fmt.Fprintln(os.Stderr, "realhosts:", err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	faults, err := run(ctx, o)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "realhosts:", err)
	}
	if err != nil || faults > 0 {
		os.Exit(1)
	}
}

type options struct {
	binary, files, roots string
	messages             int
	timeout              time.Duration
	restart              bool
	hosts                []string
}

// run judges all hosts, and returns how many faults were found.
func run(ctx context.Context, o options) (faults int, err error) {
	w, err := newWorld(o)
	if err != nil {
		return 0, err
	}
	defer w.close()
	for _, name := range o.hosts {
		h, err := w.addHost(name)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		w.hosts = append(w.hosts, h)
	}
	w.startHosts(ctx)
	if len(w.hosts) == 0 {
		return 0, fmt.Errorf("no host has started")
	}
	if err := w.startRelay(ctx); err != nil {
		return 0, err
	}
	p := newPlan(w.services(), o.messages)
	if err := w.setNextHops(p); err != nil {
		return 0, err
	}
	start := time.Now()
	if err := w.deliver(ctx, p); err != nil {
		fmt.Printf("after %s not everything had an end: %v\n", time.Since(start).Round(time.Second), err)
	}
	return w.report(p, time.Since(start))
}

// report prints the verdict of each service.
func (w *world) report(p *plan, took time.Duration) (faults int, err error) {
	log, err := w.readLog(p)
	if err != nil {
		return 0, err
	}
	for _, h := range w.hosts {
		for _, s := range h.Services {
			v := w.judge(s, p.of(s), log)
			faults += len(v.faults)
			fmt.Println(v.line())
			for _, f := range shorten(v.faults) {
				fmt.Println("  FAILED: " + f)
			}
		}
	}
	for _, f := range w.seen.stray {
		fmt.Println("  FAILED: stray: " + f)
	}
	faults += w.failed + len(w.seen.stray)
	fmt.Printf("%d messages, %d faults, %s\n", len(p.messages), faults, took.Round(time.Second))
	if faults > 0 && os.Getenv("KEEP") == "" {
		w.showLog()
	}
	return faults, nil
}

// shorten leaves the first faults of each kind.
func shorten(faults []string) (out []string) {
	const most = 3
	count := make(map[string]int)
	for _, f := range faults {
		kind, _, _ := strings.Cut(f, ":")
		if count[kind]++; count[kind] <= most {
			out = append(out, f)
		}
	}
	for kind, n := range count {
		if n > most {
			out = append(out, fmt.Sprintf("%s: %d more", kind, n-most))
		}
	}
	return out
}

func (w *world) path(elem ...string) string {
	return filepath.Join(append([]string{w.dir}, elem...)...)
}

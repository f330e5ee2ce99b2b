//go:build linux

// Command loadgen puts load on a real stsrelay process: it starts the fake
// Internet on ports 25 and 443 of loopback addresses, starts the program, sends
// messages, and counts what arrives: rates, lost ones, ones that came twice.
// With -kill it kills the process (SIGKILL) at random moments under load that
// goes on until the last of them, and starts it again. It needs the right to
// bind ports below 1024, and takes it in a network namespace of its own where
// it has it not.
//
//	go build -o stsrelay ./cmd/stsrelay
//	go run ./internal/bench/loadgen -binary ./stsrelay -sessions 20 -messages 50
//	go run ./internal/bench/loadgen -binary ./stsrelay -client smtp-source -messages 250
//	go run ./internal/bench/loadgen -binary ./stsrelay -size 1024 -kill 50
//
// With -fulldisk another program fills the disk of the relay under load, a small
// one of its own (root).
//
//	go run ./internal/bench/loadgen -binary ./stsrelay -fulldisk 20
//
// With -relay all, the least that a durable relay can do, the same with Badger as its log,
// stsrelay, and Debian's Postfix are under the same load in turn.
//
//	go run ./internal/bench/loadgen -binary ./stsrelay -relay all -messages 500
//
// With -top the relay is under the same load with and without "stsrelay top" in turn.
//
//	go run ./internal/bench/loadgen -binary ./stsrelay -top -rounds 9 -accept -messages 500
//
// With -strangers somebody owns so many domains, each with a policy of 64 KiB and
// an id that changes at each query, and wants an enforced policy out of the cache.
//
//	go run ./internal/bench/loadgen -binary ./stsrelay -strangers 2000
//
// With -silent there are so many domains whose hosts take connections and say
// nothing (with -oneaddress all at one address): how long does other mail take, and
// a stop?
//
//	go run ./internal/bench/loadgen -binary ./stsrelay -silent 10000
//
// With -soak the load goes on for so long, while hosts, policy hosts, the process and its
// configuration fail in turn.
//
//	go run ./internal/bench/loadgen -binary ./stsrelay -soak 1h -timeout 2h -sessions 8
//
// With -drain so many kills (SIGKILL) happen to two relays in turn, while one of them, which
// has mail waiting (-queued) and gets more, hands it to the other, and both deliver.
//
//	go run ./internal/bench/loadgen -binary ./stsrelay -drain 20 -queued 100000 -domains 20 -hosts 5 -size 1024
//
// With -steady it needs neither program nor ports: it puts a load on queue and
// store alone and watches the disk use.
//
//	go run ./internal/bench/loadgen -steady 30m -rate 1000 -size 10240
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"time"
)

func main() {
	var o options
	flag.StringVar(&o.binary, "binary", "./stsrelay", "the program under load")
	flag.StringVar(&o.relay, "relay", "stsrelay", "who is under load: stsrelay; postfix, with the same ways in and out; least, the least that a durable relay can do (internal/bench/least); least+badger, the same with a Badger database as its log; all: all in turn")
	flag.BoolVar(&o.accept, "accept", false, "messages are accepted and not delivered")
	flag.IntVar(&o.rounds, "rounds", 3, "of -relay all and -top; the medians are printed")
	flag.StringVar(&o.client, "client", "builtin", "who sends: builtin, smtp-source (Postfix's), swaks (one message)")
	flag.BoolVar(&o.dots, "dots", false, "the hosts do not offer CHUNKING: a message ends with a dot")
	flag.BoolVar(&o.lockstep, "lockstep", false, "the builtin client waits for the reply to each command")
	flag.IntVar(&o.sessions, "sessions", 20, "SMTP sessions that send at the same time")
	flag.IntVar(&o.messages, "messages", 50, "messages a session")
	flag.IntVar(&o.size, "size", 10<<10, "octets a message")
	flag.IntVar(&o.domains, "domains", 1, "recipient domains, with enforced policies")
	flag.IntVar(&o.hosts, "hosts", 1, "MX hosts that they share")
	flag.IntVar(&o.backlog, "queued", 0, "messages that wait already, for 1000 domains whose host is down")
	flag.IntVar(&o.kills, "kill", 0, "how often the process is killed under load")
	flag.DurationVar(&o.timeout, "timeout", 5*time.Minute, "for everything")
	flag.Uint64Var(&o.seed, "seed", rand.Uint64(), "of the moments of the kills")
	length := flag.Duration("steady", 0, "only queue and store, in = out for so long: what does the disk hold?")
	rate := flag.Int("rate", 1000, "messages a second with -steady")
	dir := flag.String("dir", "", "folder of the store with -steady; default a temporary one")
	flag.Int64Var(&o.disk, "disk", 0, "the relay has a disk of its own of so many MiB, which may be less than all that it delivers (root)")
	full := flag.Int("fulldisk", 0, "rounds in which the relay's disk, a small one of its own, is filled under load")
	strangers := flag.Int("strangers", 0, "domains of somebody who wants an enforced policy out of the cache")
	silent := flag.Int("silent", 0, "domains whose hosts are silent")
	oneAddress := flag.Bool("oneaddress", false, "the hosts of -silent have one address")
	soakTime := flag.Duration("soak", 0, "load for so long, while one fault follows the other")
	steps := flag.Bool("clock", false, "the faults of -soak are steps of the relay's clock; needs qemu-user and libfaketime")
	top := flag.Bool("top", false, "rounds with and without \"stsrelay top\", which asks each second, in turn; the medians are printed")
	drains := flag.Int("drain", 0, "kills while a relay hands its mail to another one")
	flag.BoolVar(&o.verbose, "v", false, "a line for every round")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), o.timeout)
	defer cancel()
	var err error
	if *length > 0 {
		err = steady(context.Background(), *dir, *rate, o.size, *length)
	} else if *full > 0 {
		err = fullDisk(ctx, o, *full)
	} else if err = ownNetwork(); err == nil && *strangers > 0 {
		err = strange(ctx, o, *strangers)
	} else if err == nil && *soakTime > 0 {
		err = soak(ctx, o, *soakTime, *steps)
	} else if err == nil && *top {
		err = compareTop(ctx, o)
	} else if err == nil && *drains > 0 {
		err = drain(ctx, o, *drains)
	} else if err == nil && *silent > 0 {
		err = silence(ctx, o, *silent, *oneAddress)
	} else if err == nil && o.relay == "all" {
		err = compareRelays(ctx, o)
	} else if err == nil {
		_, err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "loadgen:", err)
		cancel()
		os.Exit(1) //nolint:gocritic // cancel was called
	}
}

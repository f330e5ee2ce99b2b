//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/stsrelay/stsrelay/internal/testnet"
)

type options struct {
	relay, binary, client    string
	sessions, messages, size int
	domains, hosts, kills    int
	backlog                  int
	disk                     int64 // size of the relay's own disk in MiB; 0: it has none
	timeout                  time.Duration
	rounds                   int
	accept                   bool
	verbose, lockstep        bool
	dots                     bool // the hosts do not offer CHUNKING
	top                      bool // somebody watches
	seed                     uint64
}

// load is one run.
type load struct {
	options
	net     *testnet.Net
	hosts   []*testnet.Host
	dir     string
	addr    string
	process *process
	clock   *steppedClock // of the relay; nil: the real one

	startCPU time.Duration // used before the load began

	data      string // the relay's folder; "": in dir
	freeSpace int64
	slowest   time.Duration // until mail was accepted again after the disk was full

	mu        sync.Mutex
	accepted  map[string]time.Time // when a queue ID was acknowledged
	killed    []time.Time
	anonymous atomic.Int64 // acknowledged by a client that does not tell the IDs
	refused   atomic.Int64
	stop      atomic.Bool // of the senders, once all kills were made

	came map[string][]time.Time // when a message has come, by queue ID
	read map[*testnet.Host]int
	sum  int
}

// inFlight is the configured bound of deliveries at a time, and so of those
// that one kill may make twice.
const inFlight = 20

func newLoad(o options) *load {
	return &load{options: o, accepted: make(map[string]time.Time), came: make(map[string][]time.Time), read: make(map[*testnet.Host]int), freeSpace: 64 << 20}
}

// result is what a run has measured.
type result struct {
	accepted, delivered float64 // messages a second
	cpu                 float64 // seconds a thousand messages
	memory              string
}

func run(ctx context.Context, o options) (_ result, err error) {
	l := newLoad(o)
	if o.disk > 0 {
		disk, unmount, err := smallDisk(ctx, o.disk<<20)
		if err != nil {
			fmt.Println("small disk: skipped,", err)
			return result{}, nil
		}
		defer unmount()
		l.data = filepath.Join(disk, "data")
	}
	if err := l.prepare(); err != nil {
		return result{}, err
	}
	defer os.RemoveAll(l.dir)
	defer l.net.Close()
	if err := l.startRelay(ctx); err != nil {
		return result{}, err
	}
	defer func() { _ = l.process.stop(syscall.SIGTERM) }()

	if err := l.settle(ctx); err != nil {
		return result{}, err
	}
	// What the start costs (a certificate is made) is no cost of messages.
	l.startCPU = l.process.cpu()
	start := time.Now()
	if l.top {
		stop, err := l.watch(ctx)
		if err != nil {
			return result{}, err
		}
		defer func() {
			n, e := stop()
			fmt.Printf("top          has asked %d times\n", n)
			err = errors.Join(err, e)
		}()
	}
	killed := make(chan error, 1)
	killCtx, stopKilling := context.WithCancel(ctx)
	go func() {
		err := l.killNowAndThen(killCtx)
		l.stop.Store(l.kills > 0)
		killed <- err
	}()
	if err := l.send(ctx); err != nil {
		stopKilling()
		return result{}, errors.Join(err, <-killed)
	}
	sent := time.Since(start)
	stopKilling()
	if err := <-killed; err != nil {
		return result{}, err
	}
	if l.accept {
		return l.tell(sent, sent)
	}
	if err := l.arrive(ctx); err != nil {
		return result{}, err
	}
	all := time.Since(start)
	r, err := l.tell(sent, all)
	if err != nil || l.relay != "stsrelay" || l.client != "builtin" {
		return r, err
	}
	// Asked last: what the answer costs is no cost of the messages.
	c, err := l.compareHistory(ctx)
	if err != nil {
		return r, err
	}
	fmt.Printf("history      %d lines, %d gaps; of %d events before kills the lines are missing, %s before at most\n", c.lines, c.gaps, c.missing, c.longest.Round(time.Millisecond))
	return r, nil
}

// killNowAndThen kills the process as often as it should, and starts it again.
func (l *load) killNowAndThen(ctx context.Context) error {
	random := rand.New(rand.NewPCG(l.seed, 0))
	for i := range l.kills {
		select {
		case <-ctx.Done():
			return fmt.Errorf("ended after %d of %d kills", i, l.kills)
		case <-time.After(time.Duration(50+random.IntN(750)) * time.Millisecond):
		}
		l.mu.Lock()
		n := len(l.accepted)
		l.mu.Unlock()
		if l.verbose {
			fmt.Printf("round %d: killed after %d acknowledged messages\n", i+1, n)
		}
		l.killed = append(l.killed, time.Now())
		if err := l.process.stop(syscall.SIGKILL); err != nil {
			return err
		}
		if err := l.startRelay(context.WithoutCancel(ctx)); err != nil {
			return err
		}
	}
	return nil
}

// arrive waits until as many messages have come as were acknowledged, and a
// little longer for those that come twice.
func (l *load) arrive(ctx context.Context) error {
	for {
		missing := l.missing()
		distinct, total := l.arrived()
		if l.relay == "postfix" {
			missing = int(l.anonymous.Load()) - total
		}
		if missing == 0 && (l.relay == "postfix" || int64(len(distinct)) >= l.anonymous.Load()) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d acknowledged messages have not arrived%s", missing, len(l.accepted), l.firstMissing())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// missing is the number of messages that were acknowledged and have not come.
func (l *load) missing() (n int) {
	distinct, _ := l.arrived()
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.accepted {
		if len(distinct[id]) == 0 {
			n++
		}
	}
	return n
}

var queueID = regexp.MustCompile(`(?s)^Received: .*?\sid ([0-9A-Z]{26})`)

// firstMissing says what the relay knows of a message that has not come.
func (l *load) firstMissing() string {
	distinct, _ := l.arrived()
	for id := range l.accepted {
		if len(distinct[id]) == 0 {
			known := ""
			for _, command := range [][]string{{"history", "show", id}, {"queue", "show", id}, {"status"}} {
				out, _ := exec.Command(l.binary, append(command, "--config", filepath.Join(l.dir, "stsrelay.toml"))...).CombinedOutput() //nolint:gosec,noctx // our own
				known += string(out)
			}
			log, _ := os.ReadFile(filepath.Join(l.dir, "relay.log"))
			for line := range strings.Lines(string(log)) {
				if strings.Contains(line, id) {
					known += line
				}
			}
			return "; " + id + ", for example:\n" + known
		}
	}
	return ""
}

// arrived counts the messages that have come by their queue ID.
func (l *load) arrived() (distinct map[string][]time.Time, total int) {
	for _, h := range l.hosts {
		messages := h.Messages()
		for _, m := range messages[l.read[h]:] {
			l.sum++
			if id := queueID.FindSubmatch(m.Data[:min(len(m.Data), 2000)]); id != nil {
				l.came[string(id[1])] = append(l.came[string(id[1])], m.At)
			}
		}
		l.read[h] = len(messages)
	}
	return l.came, l.sum
}

// tell prints the result; a message that came twice without a kill, or in
// clear, is an error.
func (l *load) tell(sent, all time.Duration) (result, error) {
	distinct, total := l.arrived()
	n := len(l.accepted) + int(l.anonymous.Load())
	var connections, handshakes, inClear int64
	for _, h := range l.hosts {
		c := h.Counts()
		connections += c.Connections
		handshakes += c.Handshakes
		inClear += c.MailsInClear
	}
	cpu, memory := l.process.cpu(), l.process.memory()
	if l.kills == 0 {
		cpu -= l.startCPU
	}
	messages := fmt.Sprintf("%d", l.messages)
	if l.kills > 0 {
		messages = "many"
	}
	if l.relay == "postfix" {
		memory = "not counted"
	}
	if l.relay != "stsrelay" {
		l.client = l.relay + " < " + l.client
	}
	r := result{float64(n) / sent.Seconds(), float64(total) / all.Seconds(), cpu.Seconds() * 1000 / float64(max(n, 1)), memory}
	fmt.Printf("%-12s %d sessions × %s messages of %d octets to %d domains on %d hosts, %d kills (seed %d)\n",
		l.client, l.sessions, messages, l.size, l.domains, len(l.hosts), l.kills, l.seed)
	fmt.Printf("accepted     %d in %.2f s: %.0f a second\n", n, sent.Seconds(), r.accepted)
	fmt.Printf("delivered    %d in %.2f s: %.0f a second, over verified TLS\n", total, all.Seconds(), r.delivered)
	fmt.Printf("sessions out %d, handshakes %d; CPU of the relay %.2f s, %.3f s a thousand messages; memory %s\n",
		connections, handshakes, cpu.Seconds(), r.cpu, memory)
	twice, bound := total-len(distinct), l.kills*inFlight
	if l.relay == "postfix" {
		twice = total - n
	}
	fmt.Printf("rounds %d, acknowledged %d, lost 0, twice %d (at most %d: deliveries in flight at the kills)\n", l.kills, n, twice, bound)
	switch {
	case inClear > 0:
		return r, fmt.Errorf("%d messages went in clear", inClear)
	case twice > bound && !l.accept:
		return r, errors.New("more messages came twice than were in flight")
	}
	return r, nil
}

// memory is the most that the process has had in memory, and what of the
// present is its own: the rest are mapped files, which the system may take back.
func (p *process) memory() string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return "not known"
	}
	mebibytes := func(name string) int {
		_, rest, _ := strings.Cut(string(data), name)
		kib, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
		n, _ := strconv.Atoi(kib)
		return n >> 10
	}
	return fmt.Sprintf("%d MiB at most, %d MiB of its own now", mebibytes("VmHWM:"), mebibytes("RssAnon:"))
}

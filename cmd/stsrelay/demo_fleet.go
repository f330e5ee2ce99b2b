//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/internal/store/pgtest"
	"github.com/stsrelay/stsrelay/internal/store/postgres"
	"github.com/stsrelay/stsrelay/internal/testnet"
)

func (a *app) demoFleetCommand() *cobra.Command {
	var rounds int
	var senders int
	var outage time.Duration
	var other string
	c := &cobra.Command{
		Use: "fleet", Short: "Show three relays on one PostgreSQL that are killed", Args: noArgs,
		Long: `Start PostgreSQL from this machine (a primary and two standbys, in temporary
folders), three relays that share it, and senders. Kill one relay, suspend
another, let one leave and join again, and kill the primary. Count what was
accepted and what has arrived. The exit status is 0 only if nothing was lost and
the other relays took over in time.`,
		Example: "  stsrelay demo fleet",
		RunE: func(cmd *cobra.Command, _ []string) error {
			d := &fleetDemo{say: func(format string, args ...any) { fmt.Fprintf(a.out, format+"\n", args...) }, senders: senders, outage: outage, other: other}
			if a.json {
				d.say = func(string, ...any) {}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), time.Duration(rounds+1)*time.Minute+time.Minute+2*outage)
			defer cancel()
			err := d.play(ctx, rounds)
			d.close(err != nil)
			if err != nil {
				return fmt.Errorf("demo fleet: %w (the logs of the relays are in %s)", err, d.dir)
			}
			if a.json {
				return a.printJSON(&d.shown)
			}
			return nil
		},
	}
	c.Flags().IntVar(&rounds, "rounds", 1, "how often a relay is killed")
	c.Flags().IntVar(&senders, "senders", 24, "how many clients send at the same time")
	c.Flags().DurationVar(&outage, "outage", 0, "how long all of PostgreSQL is away, such as 2m")
	c.Flags().StringVar(&other, "other", "", "the program of another version, which the relay that leaves runs when it joins again")
	return c
}

// fleetTerm is the term of the relays: how long a dead one's mail waits.
const fleetTerm = 10 * time.Second

// fleetDemo is three relays on one PostgreSQL, and hosts that take their mail.
type fleetDemo struct {
	say     func(format string, args ...any)
	senders int
	outage  time.Duration // 0: there is none
	other   string        // a program; "": none
	dir     string
	cluster *pgtest.Cluster
	net     *testnet.Net
	host    *testnet.Host // takes all mail
	later   *testnet.Host // says 421 until the relay that has mail for it is dead
	relays  []*fleetRelay
	load    *fleetLoad
	wal     int64 // position in the WAL before the load
	shown   fleetDemoShown
}

// fleetDemoShown is what the demo has counted.
type fleetDemoShown struct {
	Accepted  int `json:"accepted"`
	Delivered int `json:"delivered"`
	Lost      int `json:"lost"`
	Twice     int `json:"twice"`
	// Refused were told to try again later, or lost their connection before an answer.
	Refused int `json:"refused"`
	Kills   int `json:"kills"`
	// AdoptedSeconds is from the kill of a relay to the first delivery of what it had left,
	// the longest of all rounds; FailoverSeconds from the kill of the primary to the next
	// message that was accepted.
	AdoptedSeconds  float64 `json:"adopted_seconds"`
	FailoverSeconds float64 `json:"failover_seconds"`
	// AgainSeconds is from the return of PostgreSQL after an outage to the next message
	// that was accepted.
	AgainSeconds float64 `json:"again_seconds,omitempty"`
	// WALOctets is what a message costs in the WAL of PostgreSQL, all that happened to it
	// included.
	WALOctets int64 `json:"wal_octets"`
}

// play shows everything. It is an error if a message is lost.
func (d *fleetDemo) play(ctx context.Context, rounds int) (err error) {
	if err := d.start(ctx); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	d.load = newFleetLoad(d.addresses())
	var sending sync.WaitGroup
	for i := range d.senders {
		sending.Go(func() { d.load.send(ctx, i) })
	}
	for round := range rounds {
		if err := d.killRelay(ctx, 1+round%2); err != nil {
			d.load.stop()
			sending.Wait()
			return err
		}
	}
	err = d.suspendRelay(ctx)
	for _, step := range []func(context.Context) error{d.leave, d.stopEngine, d.killPrimary} {
		if err == nil {
			err = step(ctx)
		}
	}
	d.load.stop()
	sending.Wait()
	if err != nil {
		return err
	}
	return d.count(ctx)
}

func (d *fleetDemo) start(ctx context.Context) (err error) {
	if d.dir, err = os.MkdirTemp("", "stsrelay-fleet-"); err != nil {
		return err
	}
	d.say("PostgreSQL: a primary and two standbys; a commit is answered when two of the three have it.")
	if d.cluster, err = pgtest.Start("", 2); err != nil {
		return err
	}
	if _, err := postgres.Init(ctx, d.cluster.URL(), postgres.Required); err != nil {
		return err
	}
	if d.net, err = testnet.New(testnet.Options{}); err != nil {
		return err
	}
	if d.host, err = d.net.AddHost("mx.demo.example"); err != nil {
		return err
	}
	if d.later, err = d.net.AddHost("mx.later.example"); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(d.dir, "url"), []byte(d.cluster.URL()), 0o600); err != nil {
		return err
	}
	for _, name := range []string{"a", "b", "c"} {
		r, err := d.newRelay(name)
		if err != nil {
			return err
		}
		d.relays = append(d.relays, r)
		if err := r.start(ctx); err != nil {
			return err
		}
	}
	d.say("Three relays share it; %d clients send through all of them.", d.senders)
	d.wal, err = d.walPosition()
	return err
}

func (d *fleetDemo) addresses() (list []string) {
	for _, r := range d.relays {
		list = append(list, r.address)
	}
	return list
}

// killRelay kills relay n while mail waits in it, and waits for the first delivery of that
// mail by another relay.
func (d *fleetDemo) killRelay(ctx context.Context, n int) error {
	r := d.relays[n]
	before, err := d.wait(ctx, r)
	if err != nil {
		return err
	}
	killed := time.Now()
	r.kill()
	if err := d.later.Set(testnet.Faults{}); err != nil {
		return err
	}
	d.shown.Kills++
	d.say("kill -9 of relay %s, with mail in it. Its clients go to the others.", r.name)
	wait, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if _, err := d.later.Wait(wait, before+1); err != nil {
		return fmt.Errorf("nobody delivers what relay %s has left: %w", r.name, err)
	}
	took := time.Since(killed).Seconds()
	d.shown.AdoptedSeconds = max(d.shown.AdoptedSeconds, took)
	d.say("  another relay delivers what waited there: the first one after %.1f s", took)
	if _, err := d.later.Wait(wait, before+10); err != nil {
		return err
	}
	if err := r.start(ctx); err != nil {
		return err
	}
	d.say("  relay %s is back, and has its place again", r.name)
	return nil
}

// wait sends mail to relay r that waits there, until later takes mail. It returns how much
// later has had before.
func (d *fleetDemo) wait(ctx context.Context, r *fleetRelay) (before int, err error) {
	if err := d.later.Set(testnet.Faults{Replies: map[string]string{"greeting": "421 4.3.2 later"}}); err != nil {
		return 0, err
	}
	before = len(d.later.Messages())
	for range 10 {
		if err := d.load.sendOne(r.address, "later.example"); err != nil {
			return 0, fmt.Errorf("mail that is to wait in relay %s: %w", r.name, err)
		}
	}
	sleep(ctx, 2*time.Second)
	return before, nil
}

// suspendRelay stops a relay as a virtual machine is suspended, until its mail was taken
// over. When it goes on it must deliver none of that.
func (d *fleetDemo) suspendRelay(ctx context.Context) error {
	r := d.relays[0]
	before, err := d.wait(ctx, r)
	if err != nil {
		return err
	}
	if err := r.process.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	d.say("SIGSTOP of relay %s, with mail in it.", r.name)
	if err := d.later.Set(testnet.Faults{}); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	_, err = d.later.Wait(wait, before+10)
	if err := errors.Join(err, r.process.Process.Signal(syscall.SIGCONT)); err != nil {
		return fmt.Errorf("relay %s is suspended, and nobody delivers its mail: %w", r.name, err)
	}
	for {
		sleep(ctx, 3*time.Second)
		if c, err := net.DialTimeout("tcp", r.address, time.Second); err == nil {
			_ = c.Close()
			break
		}
		if wait.Err() != nil {
			return fmt.Errorf("relay %s does not come back after it was suspended", r.name)
		}
	}
	if got := len(d.later.Messages()); got != before+10 {
		return fmt.Errorf("relay %s has delivered %d messages that another relay had delivered", r.name, got-before-10)
	}
	d.say("  the others have delivered it; relay %s goes on, delivers none of it again, and has its place again", r.name)
	return nil
}

// killPrimary kills the primary, promotes the standby that has most, and waits until mail
// is accepted again.
func (d *fleetDemo) killPrimary(ctx context.Context) error {
	d.cluster.Nodes[0].Kill()
	killed := time.Now()
	d.say("kill -9 of the primary of PostgreSQL. A standby is promoted.")
	next, err := d.cluster.Latest()
	if err != nil {
		return err
	}
	if err := next.Promote(); err != nil {
		return err
	}
	for d.load.lastAccepted().Before(killed.Add(500 * time.Millisecond)) {
		if time.Since(killed) > time.Minute || ctx.Err() != nil {
			return errors.New("no mail is accepted after the primary was killed")
		}
		sleep(ctx, 50*time.Millisecond)
	}
	d.shown.FailoverSeconds = d.load.lastAccepted().Sub(killed).Seconds()
	d.say("  mail is accepted again after %.1f s", d.shown.FailoverSeconds)
	sleep(ctx, 3*time.Second)
	return nil
}

// count waits until the mail has arrived, and counts.
func (d *fleetDemo) count(ctx context.Context) error {
	accepted, refused := d.load.result()
	deadline := time.Now().Add(45 * time.Second)
	arrived := make(map[string]int)
	for {
		clear(arrived)
		for _, h := range []*testnet.Host{d.host, d.later} {
			for _, m := range h.Messages() {
				arrived[subject(m.Data)]++
			}
		}
		missing := 0
		for _, id := range accepted {
			if arrived[id] == 0 {
				missing++
			}
		}
		d.shown.Lost = missing
		if missing == 0 || time.Now().After(deadline) || ctx.Err() != nil {
			break
		}
		sleep(ctx, 200*time.Millisecond)
	}
	d.shown.Accepted, d.shown.Refused, d.shown.Delivered = len(accepted), refused, len(accepted)-d.shown.Lost
	for _, n := range arrived {
		if n > 1 {
			d.shown.Twice++
		}
	}
	d.say("accepted %d, delivered %d, lost %d, twice %d (of what was under way at a kill); %d were told to come again",
		d.shown.Accepted, d.shown.Delivered, d.shown.Lost, d.shown.Twice, refused)
	end, err := d.walPosition()
	if err != nil {
		return err
	}
	d.shown.WALOctets = (end - d.wal) / int64(max(1, len(accepted)))
	d.say("a message of 4 KiB cost %s in the WAL of PostgreSQL", human.Size(d.shown.WALOctets))
	if d.shown.Lost > 0 {
		return fmt.Errorf("%d messages were lost", d.shown.Lost)
	}
	return nil
}

// close stops everything, and removes configurations and logs unless keep says otherwise.
func (d *fleetDemo) close(keep bool) {
	for _, r := range d.relays {
		r.stop(syscall.SIGTERM)
	}
	if d.net != nil {
		d.net.Close()
	}
	if d.cluster != nil {
		d.cluster.Stop()
	}
	if d.dir != "" && !keep {
		_ = os.RemoveAll(d.dir)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

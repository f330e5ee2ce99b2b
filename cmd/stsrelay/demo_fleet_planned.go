//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// leave stops a relay as planned and starts it again, perhaps as another version. No
// message may be refused by all relays meanwhile.
func (d *fleetDemo) leave(ctx context.Context) error {
	r, before := d.relays[2], d.load.nowhere.Load()
	began := time.Now()
	r.stop(syscall.SIGTERM)
	what := "relay c leaves, and joins again"
	if d.other != "" {
		program, err := filepath.Abs(d.other)
		if err != nil {
			return err
		}
		r.program, what = program, "relay c leaves, and joins again as "+d.other
	}
	sleep(ctx, time.Second)
	if err := r.start(ctx); err != nil {
		return err
	}
	sleep(ctx, 2*time.Second)
	if n := d.load.nowhere.Load() - before; n > 0 {
		return fmt.Errorf("%s: %d messages were refused by all relays", what, n)
	}
	d.say("%s, in %.1f s: every message was taken by one of the others.", what, time.Since(began).Seconds())
	return nil
}

// mostAgain is how long mail may be refused after the return of PostgreSQL.
const mostAgain = 5 * time.Second

// stopEngine stops all of PostgreSQL for a time, and waits until mail is accepted again.
func (d *fleetDemo) stopEngine(ctx context.Context) error {
	if d.outage == 0 {
		return nil
	}
	before := d.load.refused.Load()
	for _, n := range d.cluster.Nodes {
		n.Shutdown()
	}
	down := time.Now()
	d.say("All of PostgreSQL is stopped for %s.", d.outage)
	sleep(ctx, d.outage)
	accepted := d.load.lastAccepted()
	if accepted.After(down.Add(time.Second)) {
		return errors.New("a message was accepted while PostgreSQL was away")
	}
	back := time.Time{}
	for i, n := range d.cluster.Nodes {
		if err := n.Start(); err != nil {
			return err
		}
		if i == 0 { // the primary
			back = time.Now()
		}
	}
	for !d.load.lastAccepted().After(accepted) {
		if time.Since(back) > mostAgain {
			return fmt.Errorf("no message is accepted within %s after PostgreSQL is there again", mostAgain)
		}
		sleep(ctx, 20*time.Millisecond)
	}
	d.shown.AgainSeconds = d.load.lastAccepted().Sub(back).Seconds()
	d.say("  %d tries were answered with 451 or lost; PostgreSQL is back, and mail is accepted after %.1f s", d.load.refused.Load()-before, d.shown.AgainSeconds)
	// The terms of all relays have run out. They take their own spaces up again, and leave
	// those of others alone for one term.
	sleep(ctx, 2*time.Second)
	return nil
}

// walPosition is where the WAL of the primary ends, in octets.
func (d *fleetDemo) walPosition() (int64, error) {
	for _, n := range d.cluster.Nodes {
		if !n.Running() {
			continue
		}
		out, err := n.Query("select case when pg_is_in_recovery() then -1 else pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint end")
		if err != nil {
			return 0, err
		}
		if at, err := strconv.ParseInt(out, 10, 64); err != nil || at >= 0 {
			return at, err
		}
	}
	return 0, errors.New("no primary of PostgreSQL runs")
}

//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"
)

const (
	// historyLoss is how much of the time before a kill the history may lack: what waits to
	// be written, and a write that waits for the disk.
	historyLoss = time.Second + historySlack
	// historySlack is between an event and the clock of whoever saw it from outside.
	historySlack = 250 * time.Millisecond
)

// historyRecord is what is compared of a line of the history.
type historyRecord struct {
	Kind        string    `json:"event"`
	QueueID     string    `json:"queue_id"`
	Verdict     string    `json:"verdict"`
	MissingFrom time.Time `json:"missing_from"`
	MissingTo   time.Time `json:"missing_to"`
}

// compared is the history beside what clients and hosts have seen.
type compared struct {
	lines, gaps int
	missing     int           // lines of what happened shortly before a kill
	longest     time.Duration // before a kill that a line is missing
}

// compareHistory holds the history against what happened: it has no delivery that no host
// has seen, and it lacks only what happened shortly before a kill, where a gap says so.
// The last results may be on their way to it still.
func (l *load) compareHistory(ctx context.Context) (c compared, err error) {
	for range 20 {
		if c, err = l.compareHistoryNow(ctx); err == nil {
			return c, nil
		}
		if err := wait(ctx, 250*time.Millisecond); err != nil {
			return c, err
		}
	}
	return c, err
}

func (l *load) compareHistoryNow(ctx context.Context) (c compared, err error) {
	list, err := l.historyLines(ctx)
	if err != nil {
		return c, err
	}
	accepted, delivered := make(map[string]int), make(map[string]int)
	var gaps []historyRecord
	for _, r := range list {
		switch {
		case r.Kind == "accepted":
			accepted[r.QueueID]++
		case r.Kind == "attempt" && r.Verdict == "delivered":
			delivered[r.QueueID]++
		case r.Kind == "gap":
			gaps = append(gaps, r)
		}
	}
	c.lines, c.gaps = len(list), len(gaps)
	came, _ := l.arrived()
	for id, n := range delivered {
		if n > len(came[id]) {
			return c, fmt.Errorf("the history has %d deliveries of %s, and the hosts %d", n, id, len(came[id]))
		}
	}
	// lost counts a line that is missing of what happened at a time.
	lost := func(what, id string, at time.Time) error {
		before, found := l.beforeKill(at)
		said := false
		for _, g := range gaps {
			said = said || !at.Before(g.MissingFrom.Add(-historySlack)) && !at.After(g.MissingTo.Add(historySlack))
		}
		if !found || !said || before > historyLoss {
			return fmt.Errorf("%s of %s at %s is missing in the history; said by a gap: %t; %s before a kill", what, id, at.UTC().Format(time.RFC3339Nano), said, before)
		}
		c.missing++
		c.longest = max(c.longest, before)
		return nil
	}
	for id, at := range l.accepted {
		if accepted[id] > 1 {
			return c, fmt.Errorf("the history has the acceptance of %s %d times", id, accepted[id])
		}
		if accepted[id] == 0 {
			if err := lost("the acceptance", id, at); err != nil {
				return c, err
			}
		}
	}
	for id, times := range came {
		for _, at := range times[:len(times)-min(delivered[id], len(times))] {
			if err := lost("a delivery", id, at); err != nil {
				return c, err
			}
		}
	}
	return c, nil
}

// historyLines returns the history of the relay that runs.
func (l *load) historyLines(ctx context.Context) (list []historyRecord, err error) {
	out, err := exec.CommandContext(ctx, l.binary, "history", "--json", "--config", filepath.Join(l.dir, "stsrelay.toml")).Output() //nolint:gosec // our own
	if err == nil {
		err = json.Unmarshal(out, &list)
	}
	if err != nil {
		return nil, fmt.Errorf("read the history: %w", err)
	}
	return list, nil
}

// beforeKill returns how long before the next kill a time is.
func (l *load) beforeKill(at time.Time) (before time.Duration, found bool) {
	for _, kill := range l.killed {
		if kill.After(at.Add(-historySlack)) {
			return max(0, kill.Sub(at)), true
		}
	}
	return 0, false
}

package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/live"
	"github.com/stsrelay/stsrelay/relay/operator"
)

func TestTopPrintsOnceWhereThereIsNoTerminal(t *testing.T) {
	file, _ := operated(t)
	r := command(t, "", "top", "--config", file)
	if r.status != 0 || !strings.Contains(r.out, "2 messages to 2 recipients") || !strings.Contains(r.out, "accepted/s") || !strings.Contains(r.out, "one.example") ||
		!strings.Contains(r.out, "paused") || strings.Contains(r.out, "\x1b") {
		t.Errorf("%d\n%s%s", r.status, r.out, r.err)
	}
	r = command(t, "", "top", "--config", file, "--json", "--count", "2", "--interval", "100ms")
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	if r.status != 0 || len(lines) != 2 {
		t.Fatalf("%d\n%s%s", r.status, r.out, r.err)
	}
	for _, line := range lines {
		var l operator.Live
		if err := json.Unmarshal([]byte(line), &l); err != nil || len(l.Domains) != 2 {
			t.Errorf("%v: %s", err, line)
		}
	}
	for _, args := range []string{"--interval 1ms", "--count 0"} {
		if r := command(t, "", append([]string{"top", "--config", file}, strings.Fields(args)...)...); r.status != exitUsage {
			t.Errorf("%s: %d %s", args, r.status, r.err)
		}
	}
}

func TestTopFitsIntoTheTerminal(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	until := now.Add(4 * time.Minute)
	l := operator.Live{At: now, Rates: []live.Rate{{Window: 10, Accepted: 12.34}, {Window: 60}, {Window: 900}}}
	for range 20 {
		l.Domains = append(l.Domains, operator.LiveDomain{Domain: strings.Repeat("long.", 20) + "example", Deliveries: 1000, OldestAt: now.Add(-time.Hour), State: operator.Resting, Until: &until,
			Reason: operator.Reason{Code: "connect", Detail: strings.Repeat("no answer ", 20)}})
		l.Results = append(l.Results, live.Result{At: now, Verdict: "deferred", Domain: "a.example", Why: "connect", Text: strings.Repeat("no answer ", 20)})
	}
	for _, height := range []int{24, 50, 0} {
		var out bytes.Buffer
		writeLive(&out, &l, 80, height)
		lines := strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
		if height > 0 && len(lines) > height {
			t.Errorf("%d lines in %d", len(lines), height)
		}
		for _, line := range lines[3:] {
			if n := len([]rune(line)); n > 80 && height > 0 {
				t.Errorf("%d columns: %s", n, line)
			}
		}
		if !strings.Contains(out.String(), "resting 4m 0s") || !strings.Contains(out.String(), "12.3") {
			t.Errorf("%s", out.String())
		}
	}
}

func TestTopShowsTheFleet(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	l := operator.Live{At: now, Rates: []live.Rate{{Window: 10}, {Window: 60}, {Window: 900}}, Fleet: &operator.FleetStatus{
		Relays:   []operator.FleetRelay{{Name: "a", Holder: "a", Messages: 1}, {Name: "b", Holder: "a", Messages: 2}, {Name: "c"}},
		Troubles: []phrase.Phrase{phrase.Quote("no standby is in step")},
	}}
	for range 20 {
		l.Domains = append(l.Domains, operator.LiveDomain{Domain: "a.example"})
	}
	var out bytes.Buffer
	writeLive(&out, &l, 80, 24)
	for _, want := range []string{"fleet     a: 1 message, runs\n", "fleet     b: 2 messages, taken over by a\n", "fleet     c: 0 messages, nobody holds it\n", "trouble   no standby is in step\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if n := strings.Count(out.String(), "\n"); n > 24 {
		t.Errorf("%d lines", n)
	}
	out.Reset()
	l.Fleet = &operator.FleetStatus{Problem: phrase.Quote("PostgreSQL does not answer")}
	if writeLive(&out, &l, 80, 24); !strings.Contains(out.String(), "fleet     PostgreSQL does not answer\n") {
		t.Error(out.String())
	}
}

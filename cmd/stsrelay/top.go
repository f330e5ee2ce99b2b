package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/internal/printable"
	"github.com/stsrelay/stsrelay/relay/adminapi"
	"github.com/stsrelay/stsrelay/relay/live"
	"github.com/stsrelay/stsrelay/relay/operator"
)

func (a *app) topCommand() *cobra.Command {
	var interval time.Duration
	var count int
	c := &cobra.Command{
		Use: "top", Short: "Show what the relay does at this moment, again and again", Args: noArgs,
		Long: `Show what the relay does at this moment: how fast mail comes in and goes out,
the 20 domains with the most mail and what happens to it, and the last 20
results.

On a terminal it is shown anew each second until Ctrl-C. Elsewhere it is printed
once; with --count, more often.

STATE is "going" while mail to the domain is under way, "resting" while it could
not be reached and its mail waits for the next try, "paused" while the operator
has paused delivery, else "waiting". ACTIVE is how many deliveries are under
way, of those that may be at a time.`,
		Example: "  stsrelay top\n  stsrelay top --json --count 60 > minute.jsonl",
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case interval < 100*time.Millisecond:
				return usageError{errors.New("--interval must be at least 100ms")}
			case cmd.Flags().Changed("count") && count < 1:
				return usageError{errors.New("--count must be at least 1")}
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			screen, ok := a.terminal()
			ok = ok && !a.json
			if count == 0 && !ok {
				count = 1
			}
			v := &topView{app: a, client: client, screen: screen}
			if !ok {
				v.screen = nil
			}
			return v.run(cmd.Context(), interval, count)
		},
	}
	c.Flags().DurationVar(&interval, "interval", time.Second, "time between two looks")
	c.Flags().IntVar(&count, "count", 0, "look so often, and end (default: until Ctrl-C on a terminal, else once)")
	return c
}

// terminal returns the terminal that standard output is, if it is one.
func (a *app) terminal() (*os.File, bool) {
	f, ok := a.raw.(*os.File)
	return f, ok && term.IsTerminal(int(f.Fd()))
}

// topView shows the live view, until it is told to end.
type topView struct {
	app    *app
	client *adminapi.Client
	screen *os.File // nil: it is no terminal
}

// Sequences of ECMA-48 and xterm: the other screen without a cursor, and back.
const (
	enterScreen = "\x1b[?1049h\x1b[?25l"
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	toTop       = "\x1b[H"
	clearLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
)

func (v *topView) run(ctx context.Context, interval time.Duration, count int) error {
	if v.screen != nil {
		_, _ = io.WriteString(v.screen, enterScreen)
		defer func() { _, _ = io.WriteString(v.screen, leaveScreen) }()
	}
	t := time.NewTicker(interval)
	defer t.Stop()
	for n := 1; ; n++ {
		if err := v.show(ctx); err != nil {
			if ctx.Err() != nil {
				return nil // Ctrl-C
			}
			return err
		}
		if n == count {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// show asks the relay once, and prints the answer.
func (v *topView) show(ctx context.Context) error {
	var l operator.Live
	if err := v.client.Get(ctx, "/v1/live", nil, &l); err != nil {
		return err
	}
	switch {
	case v.app.json:
		return json.NewEncoder(printable.NewJSONWriter(v.app.raw)).Encode(l) // a line each
	case v.screen == nil:
		writeLive(v.app.out, &l, 0, 0)
		return nil
	}
	width, height, err := term.GetSize(int(v.screen.Fd()))
	if err != nil {
		width, height = 80, 24
	}
	var text bytes.Buffer
	writeLive(printable.NewWriter(&text), &l, width, height)
	lines := strings.Split(strings.TrimRight(text.String(), "\n"), "\n")
	lines = lines[:min(len(lines), height)]
	for i, line := range lines {
		lines[i] = human.Shorten(line, width) + clearLine
	}
	_, err = io.WriteString(v.screen, toTop+strings.Join(lines, "\r\n")+clearBelow)
	return err
}

// writeLive prints the live view for people, in at most height lines; 0: as many as
// there are.
func writeLive(w io.Writer, l *operator.Live, width, height int) {
	s := &l.Status
	fmt.Fprintf(w, "stsrelay %s on %s, up %s: %s  %s\n", s.Version, s.Hostname, human.Span(time.Duration(s.UptimeSeconds)*time.Second), stateOf(s), l.At.UTC().Format("15:04:05Z"))
	fmt.Fprintf(w, "queue     %s to %s, %d held, %d under way\n", human.Plural(s.Queue.Messages, "message"), human.Plural(s.Queue.Recipients, "recipient"), s.Queue.Held, l.Active)
	fmt.Fprintf(w, "sessions  %d in, %d out\n", s.Sessions.In, s.Sessions.Out)
	lines := 3
	for _, t := range s.Alerts {
		fmt.Fprintf(w, "trouble   %s\n", t.What)
		lines++
	}
	lines += writeFleet(w, l.Fleet)
	fmt.Fprintln(w)
	lines += 1 + writeRates(w, l.Rates)

	domains, results := l.Domains, l.Results
	if height > 0 { // the domains may have three quarters of what is left beside two headers and two empty lines
		room := max(height-lines-4, 2)
		domains = domains[:min(len(domains), max(room*3/4, room-len(results)))]
		results = results[:min(len(results), max(room-len(domains), 0))]
	}
	fmt.Fprintln(w)
	t := &table{width: width, rows: [][]string{{"DOMAIN", "MAIL", "ACTIVE", "OLDEST", "STATE", "WHY"}}}
	for i := range domains {
		d := &domains[i]
		t.add(d.Domain, strconv.Itoa(d.Deliveries), fmt.Sprintf("%d/%d", d.Active, d.Limit), human.Span(l.At.Sub(d.OldestAt)), liveState(d, l.At), whyLive(d))
	}
	t.print(w)
	if len(results) == 0 {
		return
	}
	fmt.Fprintln(w)
	t = &table{width: width, rows: [][]string{{"TIME", "RESULT", "DOMAIN", "BY", "HOST OR REASON"}}}
	for i := range results {
		r := &results[i]
		t.add(r.At.UTC().Format("15:04:05"), r.Verdict, r.Domain, r.Protection, resultText(r))
	}
	t.print(w)
}

// writeFleet prints a line for each relay that shares a PostgreSQL, and returns the number
// of lines; f is nil where this relay is alone.
func writeFleet(w io.Writer, f *operator.FleetStatus) (lines int) {
	if f == nil {
		return 0
	}
	if !f.Problem.IsZero() {
		fmt.Fprintf(w, "fleet     %s\n", f.Problem)
		return 1
	}
	for i := range f.Relays {
		r := &f.Relays[i]
		holder := "nobody holds it"
		switch {
		case r.Holder == r.Name:
			holder = "runs"
		case r.Holder != "":
			holder = "taken over by " + r.Holder
		}
		fmt.Fprintf(w, "fleet     %s: %s, %s\n", r.Name, human.Plural(int(r.Messages), "message"), holder)
	}
	for _, t := range f.Troubles {
		fmt.Fprintf(w, "trouble   %s\n", t)
	}
	return len(f.Relays) + len(f.Troubles)
}

// writeRates prints the rates side by side, and returns the number of lines.
func writeRates(w io.Writer, rates []live.Rate) int {
	fmt.Fprintf(w, "%-12s", "")
	for _, r := range rates {
		fmt.Fprintf(w, "%11s", human.Span(time.Duration(r.Window)*time.Second))
	}
	fmt.Fprintln(w)
	rows := []struct {
		name string
		of   func(*live.Rate) float64
	}{
		{"accepted/s", func(r *live.Rate) float64 { return r.Accepted }},
		{"delivered/s", func(r *live.Rate) float64 { return r.Delivered }},
		{"deferred/s", func(r *live.Rate) float64 { return r.Deferred }},
		{"bounced/s", func(r *live.Rate) float64 { return r.Bounced }},
		{"commit ms", func(r *live.Rate) float64 { return r.CommitMS }},
	}
	for _, row := range rows {
		fmt.Fprintf(w, "%-12s", row.name)
		for i := range rates {
			fmt.Fprintf(w, "%11.1f", row.of(&rates[i]))
		}
		fmt.Fprintln(w)
	}
	return 1 + len(rows)
}

// liveState is the state of a domain, and until when it lasts.
func liveState(d *operator.LiveDomain, now time.Time) string {
	if d.Until == nil {
		return string(d.State)
	}
	return fmt.Sprintf("%s %s", d.State, human.Span(d.Until.Sub(now)))
}

// whyLive is why the mail of a domain waits, "" where it does not.
func whyLive(d *operator.LiveDomain) string {
	if d.Reason.Code == "new" {
		return ""
	}
	return d.Reason.String()
}

// resultText is where mail was delivered, or why not.
func resultText(r *live.Result) string {
	if r.Verdict == "delivered" {
		return r.Host
	}
	return strings.TrimSpace(r.Why + "  " + r.Text)
}

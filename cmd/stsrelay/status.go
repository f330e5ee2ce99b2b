package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/relay/adminapi"
	"github.com/stsrelay/stsrelay/relay/alert"
	"github.com/stsrelay/stsrelay/relay/operator"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show how the running relay is", Args: noArgs, Example: "  stsrelay status --json",
		Long: `Show how the running relay is. The exit status is 0 where it takes mail in, also
while delivery is paused; 1 where it does not; 3 where it is not running.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			var s operator.Status
			if err := client.Get(cmd.Context(), "/v1/status", nil, &s); err != nil {
				if a.json && errors.Is(err, adminapi.ErrNotRunning) { // who reads JSON gets JSON
					return errors.Join(a.printJSON(map[string]any{"running": false, "accepting": false, "delivering": false, "problem": err.Error()}), err)
				}
				return err
			}
			var sick error // an error if the relay takes no mail in; a paused one is healthy
			if !s.Accepting {
				sick = errAnswered
			}
			if a.json {
				return errors.Join(a.printJSON(s), sick)
			}
			writeStatus(a.out, &s)
			return sick
		},
	}
}

// writeStatus prints the status for people.
func writeStatus(w io.Writer, s *operator.Status) {
	fmt.Fprintf(w, "stsrelay %s on %s, up %s: %s\n", s.Version, s.Hostname, human.Span(time.Duration(s.UptimeSeconds)*time.Second), stateOf(s))
	fmt.Fprintf(w, "queue     %s to %s, %d held\n", human.Plural(s.Queue.Messages, "message"), human.Plural(s.Queue.Recipients, "recipient"), s.Queue.Held)
	n := s.SinceStart
	fmt.Fprintf(w, "so far    %s accepted; %s delivered, %d bounced, %d put off since the start\n", human.Plural(int(n.Accepted), "message"), human.Plural(int(n.Delivered), "recipient"), n.Bounced, n.Deferred)
	fmt.Fprintf(w, "lately    last 15 min: %d delivered, %d deferred, %d bounced\n", s.Last.Delivered, s.Last.Deferred, s.Last.Bounced)
	fmt.Fprintf(w, "sessions  %d in, %d out\n", s.Sessions.In, s.Sessions.Out)
	for _, p := range s.Pauses {
		fmt.Fprintf(w, "paused    %s %s\n", cmp.Or(p.Domain, "delivery as a whole"), p)
	}
	if s.LogDropped > 0 {
		fmt.Fprintf(w, "log       %s dropped: the reader of standard error does not keep up\n", human.Plural(int(min(s.LogDropped, math.MaxInt32)), "line"))
	}
	if !s.Problem.IsZero() && !slices.ContainsFunc(s.Alerts, tellsProblem) {
		fmt.Fprintf(w, "problem   %s\n", s.Problem)
	}
	for _, t := range s.Alerts {
		fmt.Fprintf(w, "trouble   %s\n          what helps: %s\n", t.What, t.Remedy)
	}
}

// stateOf returns whether the relay takes mail in and delivers, in words.
func stateOf(s *operator.Status) string {
	state := "accepting"
	if !s.Accepting {
		state = "NOT accepting"
	}
	switch {
	case !s.Delivering:
		return state + ", delivery paused"
	case s.Outage != nil:
		return state + ", delivering NOTHING since " + human.Clock(s.Outage.Since)
	case slices.ContainsFunc(s.Alerts, tellsResolver):
		return state + ", NOT delivering: no resolver answers"
	}
	return state + ", delivering"
}

// tellsProblem reports whether an alert says why no mail is taken in.
func tellsProblem(t alert.Alert) bool { return t.Key == alert.NotAccepting }

func tellsResolver(t alert.Alert) bool { return t.Key == alert.ResolverSilent }

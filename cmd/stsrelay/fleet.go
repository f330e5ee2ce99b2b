package main

import (
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/internal/store/postgres"
)

func (a *app) fleetCommand() *cobra.Command {
	return group("fleet", "Several relays that share one PostgreSQL (docs/fleet.md)", a.fleetInit(), a.fleetStatus())
}

// sharedURL returns the configuration of a relay with queue.engine = "postgres", and the
// URL of its PostgreSQL.
func (a *app) sharedURL() (*config.Config, string, error) {
	c, _, err := a.load()
	if err != nil {
		return nil, "", err
	}
	if !c.Shared() {
		return nil, "", errors.New("queue.engine is not \"postgres\": this relay is alone")
	}
	url, err := config.ReadSecret(c.Queue.URLFile)
	if err != nil {
		return nil, "", fmt.Errorf("queue.url_file: %s %w", c.Queue.URLFile, err)
	}
	return c, url, nil
}

func (a *app) fleetInit() *cobra.Command {
	return &cobra.Command{
		Use: "init", Short: "Make what the relays need in an empty database", Args: noArgs,
		Long: `Make the schema "stsrelay" in the database of queue.url_file, if it is not
there. Nothing that is there is changed. A server that may lose mail is refused.`,
		Example: "  stsrelay fleet init",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, url, err := a.sharedURL()
			if err != nil {
				return err
			}
			made, err := postgres.Init(cmd.Context(), url, postgres.Replication(c.Queue.Replication))
			if err != nil {
				return err
			}
			if made {
				fmt.Fprintln(a.out, "made the schema stsrelay; start the relays")
			} else {
				fmt.Fprintln(a.out, "the schema stsrelay is there already")
			}
			return nil
		},
	}
}

// fleetShown is what fleet status prints as JSON.
type fleetShown struct {
	postgres.Fleet
	ClockSeconds float64  `json:"clock_seconds"`
	Troubles     []string `json:"troubles"`
}

func (a *app) fleetStatus() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Show the relays, what waits in each, and the servers of PostgreSQL", Args: noArgs,
		Long: `Show which relay holds what, since when, how many messages wait there, and the
standbys of PostgreSQL. It asks PostgreSQL, not the relays. The exit status is 1
if something needs a person.`,
		Example: "  stsrelay fleet status",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, url, err := a.sharedURL()
			if err != nil {
				return err
			}
			d, err := postgres.NewDirectory(url, "fleet status")
			if err != nil {
				return err
			}
			defer d.Close()
			f, err := d.Fleet(cmd.Context())
			if err != nil {
				return err
			}
			troubles := []string{}
			for _, t := range f.Troubles(postgres.Replication(c.Queue.Replication)) {
				troubles = append(troubles, t.Text.String())
			}
			if a.json {
				err = a.printJSON(fleetShown{Fleet: f, ClockSeconds: f.Clock.Seconds(), Troubles: troubles})
			} else {
				err = a.printFleet(&f, troubles)
			}
			if err == nil && len(troubles) > 0 {
				return errAnswered
			}
			return err
		},
	}
}

func (a *app) printFleet(f *postgres.Fleet, troubles []string) error {
	w := tabwriter.NewWriter(a.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "MESSAGES OF\tHELD BY\tTERM\tSINCE\tWAITING")
	for i := range f.Spaces {
		s := &f.Spaces[i]
		holder, since := s.Holder, s.Since.Format(time.DateTime)
		if !s.Held() {
			holder, since = "nobody", "-"
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\n", s.Name, holder, s.Term, since, human.Plural(int(s.Messages), "message"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, s := range f.Standbys {
		fmt.Fprintf(a.out, "standby %s: %s, %s\n", s.Name, s.State, s.Sync)
	}
	fmt.Fprintf(a.out, "clock of PostgreSQL: %+.3f s from this machine's\n", f.Clock.Seconds())
	for _, t := range troubles {
		fmt.Fprintf(a.out, "TROUBLE: %s\n", t)
	}
	return nil
}

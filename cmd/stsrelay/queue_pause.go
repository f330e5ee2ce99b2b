package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/relay/adminapi"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// printPaused prints a line below a list of messages for each pause of delivery.
func (a *app) printPaused(ctx context.Context, client *adminapi.Client) error {
	var s operator.Status
	if err := client.Get(ctx, "/v1/status", nil, &s); err != nil {
		return err
	}
	writePauses(a.out, s.Pauses)
	return nil
}

// shownPauses is how many pauses are named below a list.
const shownPauses = 5

// writePauses prints a line for each pause.
func writePauses(w io.Writer, pauses []operator.Pause) {
	for i, p := range pauses {
		if i == shownPauses {
			fmt.Fprintf(w, "%s more: stsrelay status names them\n", human.Plural(len(pauses)-i, "pause"))
			return
		}
		what, resume := "delivery", "stsrelay queue resume"
		if p.Domain != "" {
			what += " to " + p.Domain
			resume += " --domain " + p.Domain
		}
		if p.Until == nil {
			fmt.Fprintf(w, "%s is paused: nothing is tried before %s\n", what, resume)
		} else {
			fmt.Fprintf(w, "%s is paused %s; to end it: %s\n", what, p, resume)
		}
	}
}

func (a *app) queuePause() *cobra.Command {
	var order operator.PauseOrder
	var d time.Duration
	c := &cobra.Command{
		Use: "pause", Short: "Pause delivery as a whole, or to one domain", Args: noArgs,
		Long: `Pause delivery as a whole, or with --domain to one domain. Mail is taken in;
none is tried, given up or warned of. What is being delivered goes on.

With --for the pause ends by itself. Without it, that of a domain lasts until
queue resume, and that of delivery as a whole until queue resume or the next
start.`,
		Example: "  stsrelay queue pause --domain partner.example --for 2h",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("for") {
				if d <= 0 {
					return usageError{errors.New("--for must be more than 0, such as 2h")}
				}
				order.For = d.String()
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			var p operator.Pause
			if err := client.Do(cmd.Context(), http.MethodPost, "/v1/queue/pause", order, &p); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(struct {
					Paused bool `json:"paused"`
					operator.Pause
				}{true, p})
			}
			fmt.Fprintf(a.out, "delivery%s paused %s\n", toDomain(p.Domain), p)
			return nil
		},
	}
	c.Flags().StringVar(&order.Domain, "domain", "", "to recipients of this domain only")
	c.Flags().DurationVar(&d, "for", 0, "for how long, such as 2h")
	return c
}

func (a *app) queueResume() *cobra.Command {
	var order operator.PauseOrder
	c := &cobra.Command{
		Use: "resume", Short: "Resume delivery as a whole, or to one domain", Args: noArgs,
		Long: `Resume delivery as a whole, or with --domain to one domain. Domains that were
paused by themselves stay so.`,
		Example: "  stsrelay queue resume",
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			var done operator.Resumed
			if err := client.Do(cmd.Context(), http.MethodPost, "/v1/queue/resume", order, &done); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(struct {
					Paused bool `json:"paused"`
					operator.Resumed
				}{false, done})
			}
			if done.Resumed {
				fmt.Fprintf(a.out, "delivery%s resumed\n", toDomain(order.Domain))
			} else {
				fmt.Fprintf(a.out, "delivery%s was not paused\n", toDomain(order.Domain))
			}
			writePauses(a.out, done.Pauses)
			return nil
		},
	}
	c.Flags().StringVar(&order.Domain, "domain", "", "to recipients of this domain only")
	return c
}

// toDomain returns " to DOMAIN", "" for none.
func toDomain(domain string) string {
	if domain == "" {
		return ""
	}
	return " to " + domain
}

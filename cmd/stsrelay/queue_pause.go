package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/relay/adminapi"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// printPaused prints a line below a list of messages if delivery is paused: their next
// attempt is not when the list says.
func (a *app) printPaused(ctx context.Context, client *adminapi.Client) error {
	var s operator.Status
	if err := client.Get(ctx, "/v1/status", nil, &s); err != nil {
		return err
	}
	if !s.Delivering {
		fmt.Fprintln(a.out, "delivery is paused: nothing is tried before stsrelay queue resume")
	}
	return nil
}

func (a *app) queuePause(action, short string) *cobra.Command {
	return &cobra.Command{
		Use: action, Short: short, Args: noArgs, Example: "  stsrelay queue " + action,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			if err := client.Do(cmd.Context(), http.MethodPost, "/v1/queue/"+action, nil, nil); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]bool{"paused": action == "pause"})
			}
			fmt.Fprintf(a.out, "delivery %sd\n", strings.TrimSuffix(action, "d"))
			return nil
		},
	}
}

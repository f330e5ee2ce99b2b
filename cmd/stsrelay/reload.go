package main

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/relay/operator"
)

func (a *app) reloadCommand() *cobra.Command {
	return &cobra.Command{
		Use: "reload", Short: "Let the relay read its configuration again", Args: noArgs,
		Long: `A configuration that is wrong changes nothing; what is wrong is printed. So are
the keys that change with the next start only.`, Example: "  stsrelay reload",
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			var done operator.Reloaded
			if err := client.Do(cmd.Context(), http.MethodPost, "/v1/reload", nil, &done); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(done)
			}
			fmt.Fprintln(a.out, "reloaded")
			for _, key := range done.Restart {
				fmt.Fprintln(a.out, "with the next start only:", key)
			}
			return nil
		},
	}
}

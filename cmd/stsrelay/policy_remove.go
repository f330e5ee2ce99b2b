package main

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/relay/operator"
)

func (a *app) policyRemove() *cobra.Command {
	return &cobra.Command{
		Use: "remove DOMAIN", Short: "Forget the cached policy of a domain", Args: oneArg("domain"), Example: "  stsrelay policy remove example.com",
		RunE: func(cmd *cobra.Command, args []string) error {
			path, domain, err := policyPath(args[0])
			if err != nil {
				return err
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			var done operator.Affected
			if err := client.Do(cmd.Context(), http.MethodDelete, path, nil, &done); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(done)
			}
			fmt.Fprintf(a.out, "the policy of %s is forgotten\n", domain)
			return nil
		},
	}
}

package main

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/internal/mailbox"
)

func (a *app) publishRenew() *cobra.Command {
	return &cobra.Command{
		Use: "renew DOMAIN", Short: "Order a certificate for a policy host now",
		Long: `Order a certificate for the policy host of a domain now, once an hour at most.`, Args: oneArg("domain"), Example: "  stsrelay publish renew example.com",
		RunE: func(cmd *cobra.Command, args []string) error {
			domain, err := mailbox.ParseName(args[0])
			if err != nil {
				return usageError{err}
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			var answer map[string]bool
			if err := client.Do(cmd.Context(), http.MethodPost, "/v1/publish/"+url.PathEscape(domain)+"/renew", nil, &answer); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(answer)
			}
			fmt.Fprintf(a.out, "a new certificate for the policy host of %s is in use\n", domain)
			return nil
		},
	}
}

package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/relay/operator"
)

func (a *app) policyList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the cached policies", Args: noArgs, Example: "  stsrelay policy list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			var list []operator.Policy
			if err := client.Get(cmd.Context(), "/v1/policies", nil, &list); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(list)
			}
			if len(list) == 0 {
				fmt.Fprintln(a.out, "no policies are cached")
				return nil
			}
			t := a.table("DOMAIN", "MODE", "ID", "MX", "FETCHED", "EXPIRES", "LAST ERROR")
			for _, p := range list {
				mode := p.Mode
				if mode == "" {
					mode = "-"
				}
				t.add(p.Domain, mode, human.Shorten(p.ID, 14), patterns(p.MX), human.Ago(p.FetchedAt), human.Until(p.ExpiresAt), p.LastError)
			}
			t.print(a.out)
			return nil
		},
	}
}

func patterns(mx []string) string {
	if len(mx) < 2 {
		return strings.Join(mx, "")
	}
	return fmt.Sprintf("%s +%d", mx[0], len(mx)-1)
}

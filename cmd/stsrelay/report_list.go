package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

func (a *app) reportList() *cobra.Command {
	var sel selection
	c := &cobra.Command{
		Use: "list", Short: "List the reports of the last days and where they stand", Args: noArgs,
		Example: "  stsrelay report list --date 2026-11-23",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := sel.check(""); err != nil {
				return err
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			q := sel.query()
			q.Set("date", sel.date)
			list := []tlsrpt.Status{}
			if err := client.Get(cmd.Context(), "/v1/reports", q, &list); err != nil {
				return err
			}
			return a.printReports(list)
		},
	}
	sel.flags(c)
	return c
}

// printReports prints the state of reports.
func (a *app) printReports(list []tlsrpt.Status) error {
	if a.json {
		return a.printJSON(list)
	}
	if len(list) == 0 {
		fmt.Fprintln(a.out, "nothing was counted")
		return nil
	}
	t := a.table("DAY", "DOMAIN", "SESSIONS", "FAILURES", "STATE", "NEXT", "WHY")
	for _, s := range list {
		t.add(s.Day, s.Domain, fmt.Sprint(s.Sessions), fmt.Sprint(s.Failures), string(s.State), human.Until(s.NextAt), s.Why.String())
	}
	t.print(a.out)
	return nil
}

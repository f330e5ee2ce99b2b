package main

import (
	"encoding/json"
	"time"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/tlsrpt"
)

func (a *app) reportPreview() *cobra.Command {
	var sel selection
	c := &cobra.Command{
		Use: "preview", Short: "Print the reports of a day as they would be sent, as JSON", Args: noArgs,
		Long:    "Today (UTC) where no date is given. With --domain the one report is\nprinted, without it an array.",
		Example: "  stsrelay report preview --domain example.com",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := sel.check(tlsrpt.DayOf(time.Now())); err != nil {
				return err
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			reports := []json.RawMessage{} // printed as the relay gives them
			if err := client.Get(cmd.Context(), "/v1/reports/"+sel.date, sel.query(), &reports); err != nil {
				return err
			}
			if sel.domain == "" {
				return a.printJSON(reports)
			}
			if len(reports) == 0 {
				return &tlsrpt.NothingCountedError{Domain: sel.domain, Day: sel.date}
			}
			return a.printJSON(reports[0])
		},
	}
	sel.flags(c)
	return c
}

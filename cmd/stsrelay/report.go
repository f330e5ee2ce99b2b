package main

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/tlsrpt"
)

func (a *app) reportCommand() *cobra.Command {
	return group("report", "Look at what is counted for TLS reports (RFC 8460)", a.reportPreview())
}

func (a *app) reportPreview() *cobra.Command {
	var date, domain string
	c := &cobra.Command{
		Use: "preview", Short: "Print the reports of a day as they stand, as JSON", Args: noArgs,
		Long:    "Today (UTC) where no date is given. With --domain the one report is printed, without it an array.",
		Example: "  stsrelay report preview --domain example.com",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if date == "" {
				date = time.Now().UTC().Format(tlsrpt.DayFormat)
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			var reports []tlsrpt.Report
			if err := client.Get(cmd.Context(), "/v1/reports/"+date, url.Values{"domain": {domain}}, &reports); err != nil {
				return err
			}
			if domain == "" {
				return a.printJSON(reports)
			}
			if len(reports) == 0 {
				return fmt.Errorf("nothing was counted for %s on %s", strings.ToLower(domain), date)
			}
			return a.printJSON(reports[0])
		},
	}
	c.Flags().StringVar(&date, "date", "", "the day, such as 2026-11-23")
	c.Flags().StringVar(&domain, "domain", "", "the policy domain")
	return c
}

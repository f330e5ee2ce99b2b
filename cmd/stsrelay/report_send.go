package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

func inQueue(d tlsrpt.DestinationStatus) bool { return d.State == tlsrpt.InQueue }

func (a *app) reportSend() *cobra.Command {
	var sel selection
	c := &cobra.Command{
		Use: "send", Short: "Send the reports of a day now", Args: noArgs,
		Long: `Send the reports of a day (UTC) now, yesterday's where no date is given. What a
receiver has accepted already is not sent again; what was given up is tried once
more. The date may be today: what is counted later goes into a second report.`,
		Example: "  stsrelay report send --date 2026-11-23 --domain example.com",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := sel.check(tlsrpt.DayOf(time.Now().AddDate(0, 0, -1))); err != nil {
				return err
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			body, err := client.Open(cmd.Context(), http.MethodPost, "/v1/reports/"+sel.date+"/send", sel.query(), nil)
			if err != nil {
				return err
			}
			defer body.Close()
			list := []tlsrpt.Status{}
			if err := json.NewDecoder(body).Decode(&list); err != nil {
				return fmt.Errorf("the relay's answer was cut short: %w", err)
			}
			if err := a.printReports(list); err != nil {
				return err
			}
			failed, later := 0, 0
			for _, s := range list {
				switch {
				case s.State == tlsrpt.Failed:
					failed++
				case s.State == tlsrpt.Waiting && !slices.ContainsFunc(s.To, inQueue):
					later++
				}
			}
			var errs []error
			if failed > 0 {
				errs = append(errs, fmt.Errorf("%s could not be sent", human.Plural(failed, "report")))
			}
			if later > 0 {
				errs = append(errs, fmt.Errorf("%s could not be sent yet; the relay tries again by itself", human.Plural(later, "report")))
			}
			return errors.Join(errs...)
		},
	}
	sel.flags(c)
	return c
}

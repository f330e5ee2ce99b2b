package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

func (a *app) reportCommand() *cobra.Command {
	return group("report", "Daily TLS reports to the owners of domains (RFC 8460)", a.reportList(), a.reportPreview(), a.reportSend(), a.reportSetup())
}

// selection are the flags that say which reports.
type selection struct{ date, domain string }

func (s *selection) flags(c *cobra.Command) {
	c.Flags().StringVar(&s.date, "date", "", "the day (UTC), such as 2026-11-23")
	c.Flags().StringVar(&s.domain, "domain", "", "the recipients' domain")
}

// check checks the flags; a date that is left out becomes day.
func (s *selection) check(day string) error {
	if s.date == "" {
		s.date = day
	} else if _, err := tlsrpt.ParseDay(s.date); err != nil {
		return usageError{fmt.Errorf("--date: %w", err)}
	}
	if s.domain != "" {
		domain, err := mailbox.ParseName(s.domain)
		if err != nil {
			return usageError{fmt.Errorf("--domain: %w", err)}
		}
		s.domain = domain
	}
	return nil
}

func (s *selection) query() url.Values {
	q := url.Values{}
	if s.domain != "" {
		q.Set("domain", s.domain)
	}
	return q
}

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

// printReports prints where reports stand.
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
		t.add(s.Day, s.Domain, fmt.Sprint(s.Sessions), fmt.Sprint(s.Failures), string(s.State), human.Until(s.NextAt), s.Why)
	}
	t.print(a.out)
	return nil
}

func (a *app) reportPreview() *cobra.Command {
	var sel selection
	c := &cobra.Command{
		Use: "preview", Short: "Print the reports of a day as they would be sent, as JSON", Args: noArgs,
		Long:    "Today (UTC) where no date is given. With --domain the one report is printed, without it an array.",
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
				return fmt.Errorf("nothing was counted for %s on %s", sel.domain, sel.date)
			}
			return a.printJSON(reports[0])
		},
	}
	sel.flags(c)
	return c
}

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

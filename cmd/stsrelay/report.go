package main

import (
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

func (a *app) reportCommand() *cobra.Command {
	return group("report", "Daily TLS reports to the owners of domains (RFC 8460)", a.reportList(), a.reportPreview(), a.reportSend(), a.reportSetup())
}

// selection has the flags that select reports.
type selection struct{ date, domain string }

func (s *selection) flags(c *cobra.Command) {
	c.Flags().StringVar(&s.date, "date", "", "the day (UTC), such as 2026-11-23")
	c.Flags().StringVar(&s.domain, "domain", "", "the recipients' domain")
}

// check checks the flags. If there is no date it becomes day.
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

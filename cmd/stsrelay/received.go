package main

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/relay/received"
)

func (a *app) receivedCommand() *cobra.Command {
	return group("received", "TLS reports about your own domains, which others send", a.receivedSummary(), a.receivedList(), a.receivedShow(), a.receivedImport())
}

// receivedSince reads --since as the day that the API takes.
func receivedSince(since string) (string, error) {
	t, err := parseTime(since, time.Now())
	if err != nil {
		return "", usageError{fmt.Errorf("--since: %w", err)}
	}
	return t.UTC().Format(time.DateOnly), nil
}

const receivedSinceHelp = "from this day on: 2026-11-27, yesterday, or 30d for so long ago"

func (a *app) receivedSummary() *cobra.Command {
	var since string
	c := &cobra.Command{
		Use: "summary [DOMAIN]", Short: "Show what senders report of your domains, and what to mend", Args: cobra.MaximumNArgs(1),
		Example: "  stsrelay received summary\n  stsrelay received summary example.com --since 90d",
		RunE: func(cmd *cobra.Command, args []string) error {
			day, err := receivedSince(since)
			if err != nil {
				return err
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			list := []received.Summary{}
			if err := client.Get(cmd.Context(), "/v1/received-summary", url.Values{"domain": {strings.Join(args, "")}, "since": {day}}, &list); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(list)
			}
			if len(list) == 0 {
				fmt.Fprintf(a.out, "no reports since %s\n", day)
			}
			for i := range list {
				a.printReceived(&list[i])
			}
			return nil
		},
	}
	c.Flags().StringVar(&since, "since", "30d", receivedSinceHelp)
	return c
}

// printReceived prints what is known of one domain.
func (a *app) printReceived(s *received.Summary) {
	fmt.Fprintf(a.out, "%s: %d sessions went well, %d failed; %s with reports\n", s.Domain, s.Successful, s.Failed, human.Plural(len(s.Days), "day"))
	for _, p := range s.Seen {
		what := p.Type
		if p.Mode != "" {
			what += ", mode " + p.Mode + ", id " + p.ID
		}
		fmt.Fprintf(a.out, "  seen as your policy from %s to %s: %s\n", p.FirstDay, p.LastDay, what)
	}
	t := a.table("  SENDER", "WENT WELL", "FAILED", "LAST DAY")
	for _, sender := range s.Senders {
		t.add("  "+sender.Organization, fmt.Sprint(sender.Successful), fmt.Sprint(sender.Failed), sender.LastDay)
	}
	t.print(a.out)
	for _, f := range s.Failures {
		host := f.MX
		if host == "" {
			host = "(no host named)"
		}
		fmt.Fprintf(a.out, "  %s  %s: %d failed, the last on %s, seen by %s\n", host, f.Type, f.Sessions, f.LastDay, strings.Join(f.Senders, ", "))
		if f.Reason != "" {
			fmt.Fprintf(a.out, "    the sender says: %s\n", f.Reason)
		}
		fmt.Fprintf(a.out, "    mend (%s): %s\n", f.Rule, f.Remedy)
	}
	fmt.Fprintf(a.out, "  %s\n\n", s.Verdict.String())
}

func (a *app) receivedList() *cobra.Command {
	var since, domain string
	var mails bool
	c := &cobra.Command{
		Use: "list", Short: "List the reports that came in", Args: noArgs,
		Example: "  stsrelay received list --domain example.com\n  stsrelay received list --mails",
		RunE: func(cmd *cobra.Command, _ []string) error {
			day, err := receivedSince(since)
			if err != nil {
				return err
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			q := url.Values{"domain": {domain}, "since": {day}}
			if mails {
				list := []received.Mail{}
				if err := client.Get(cmd.Context(), "/v1/received-mails", q, &list); err != nil {
					return err
				}
				return a.printReceivedMails(list)
			}
			list := []received.Record{}
			if err := client.Get(cmd.Context(), "/v1/received", q, &list); err != nil {
				return err
			}
			return a.printReceivedReports(list)
		},
	}
	c.Flags().StringVar(&since, "since", "30d", receivedSinceHelp)
	c.Flags().StringVar(&domain, "domain", "", "the domain that the reports are about")
	c.Flags().BoolVar(&mails, "mails", false, "list the mails to reports.address that have no report")
	return c
}

func (a *app) printReceivedReports(list []received.Record) error {
	if a.json {
		return a.printJSON(list)
	}
	if len(list) == 0 {
		fmt.Fprintln(a.out, "no reports")
		return nil
	}
	t := a.table("ID", "DAY", "DOMAIN", "SENDER", "WENT WELL", "FAILED", "PROOF", "UNUSUAL")
	for i := range list {
		r := &list[i]
		t.add(r.ID, r.Day, r.Domain, r.Organization, fmt.Sprint(r.Successful), fmt.Sprint(r.Failed), r.Proof(), strings.Join(r.Oddities, "; "))
	}
	t.print(a.out)
	return nil
}

func (a *app) printReceivedMails(list []received.Mail) error {
	if a.json {
		return a.printJSON(list)
	}
	if len(list) == 0 {
		fmt.Fprintln(a.out, "no mails")
		return nil
	}
	t := a.table("ID", "RECEIVED", "FROM", "SUBJECT", "WHY")
	for i := range list {
		m := &list[i]
		t.add(m.ID, human.Clock(m.ReceivedAt), m.From, m.Subject, m.Why)
	}
	t.print(a.out)
	return nil
}

func (a *app) receivedShow() *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show a report, or a mail to reports.address that has none", Args: oneArg("ID"),
		Example: "  stsrelay received show 3f0c",
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			var shown received.Shown
			if err := client.Get(cmd.Context(), "/v1/received/"+url.PathEscape(args[0]), nil, &shown); err != nil {
				return err
			}
			if a.json || shown.Mail == nil {
				return a.printJSON(shown)
			}
			fmt.Fprintf(a.out, "%s: received %s; %s\n\n%s", shown.Mail.ID, human.Clock(shown.Mail.ReceivedAt), shown.Mail.Why, shown.Content)
			return nil
		},
	}
}

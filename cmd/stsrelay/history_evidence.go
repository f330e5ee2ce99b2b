package main

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/relay/history"
	"github.com/stsrelay/stsrelay/relay/operator"
)

func (a *app) historyEvidence() *cobra.Command {
	var f historyFlags
	var language, file string
	c := &cobra.Command{
		Use: "evidence [ID|MESSAGE-ID]", Short: "Prove to which hosts, and over what TLS, mail travelled",
		Long: `Prove how a message travelled, or all messages that a search finds: to which
hosts, over what TLS, and who vouched for them. A search is for deliveries; mail
that was not delivered has no part in it.`,
		Example: "  stsrelay history evidence '<invoice-7@example.com>' --lang de -o invoice.html\n" +
			"  stsrelay history evidence --from invoices@example.com --since 2026-10-01 \\\n    --until 2026-11-01 -o october.html",
		RunE: func(cmd *cobra.Command, args []string) error {
			path, q, err := f.evidencePath(args)
			if err != nil {
				return err
			}
			if !slices.Contains(history.Languages, language) {
				return usageError{fmt.Errorf("--lang %q is not %s", language, strings.Join(history.Languages, " or "))}
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			var all []history.Evidence
			if err := client.Get(cmd.Context(), path, q, &all); err != nil {
				return err
			}
			write := history.Text
			switch {
			case a.json && file == "":
				return a.printJSON(all)
			case strings.HasSuffix(file, ".html"):
				write = history.HTML
			}
			text, err := write(all, language)
			if err != nil {
				return err
			}
			if file == "" {
				_, err = a.out.Write(text)
				return err
			}
			if err := os.WriteFile(file, text, 0o600); err != nil {
				return fmt.Errorf("write the evidence: %w", err)
			}
			fmt.Fprintf(a.err, "%s: how %s travelled\n", file, human.Plural(len(all), "message"))
			return nil
		},
	}
	f.addFilter(c)
	c.Flags().StringVar(&language, "lang", "en", "language: "+strings.Join(history.Languages, ", "))
	c.Flags().StringVarP(&file, "output", "o", "", "file to write; a name that ends in .html makes a page that prints on A4")
	return c
}

// evidencePath returns where the evidence of a message is, or that of a search.
func (f *historyFlags) evidencePath(args []string) (path string, q url.Values, err error) {
	if q, err = f.query(time.Now()); err != nil {
		return "", nil, err
	}
	switch {
	case len(args) == 1 && len(q) == 0:
		return "/v1/history/" + url.PathEscape(args[0]) + "/evidence", nil, nil
	case len(args) == 0 && len(q) > 0:
		return "/v1/history-evidence", q, nil
	}
	return "", nil, usageError{errors.New("give the ID of one message, or say what to search for, such as --from and --since")}
}

func (a *app) historySummary() *cobra.Command {
	var month, since, until string
	c := &cobra.Command{
		Use: "summary", Short: "How the mail of a month was protected, and what went in clear", Args: noArgs,
		Example: "  stsrelay history summary --month 2026-10",
		RunE: func(cmd *cobra.Command, _ []string) error {
			from, to, err := summaryTime(month, since, until, time.Now())
			if err != nil {
				return usageError{err}
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			var s history.Summary
			q := url.Values{"since": {from.UTC().Format(time.RFC3339)}, "until": {to.UTC().Format(time.RFC3339)}}
			if err := client.Get(cmd.Context(), "/v1/history-summary", q, &s); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(s)
			}
			a.printHistorySummary(&s)
			return nil
		},
	}
	c.Flags().StringVar(&month, "month", "", "2026-10; default: the present one")
	c.Flags().StringVar(&since, "since", "", "from this time on")
	c.Flags().StringVar(&until, "until", "", "before this time; default: now")
	return c
}

// summaryTime returns the time that a summary is of.
func summaryTime(month, since, until string, now time.Time) (from, to time.Time, err error) {
	now = now.UTC()
	if month != "" && since+until != "" {
		return from, to, errors.New("--month does not go with --since and --until")
	}
	if since == "" {
		from = time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
		if month != "" {
			if from, err = time.Parse("2006-01", month); err != nil {
				return from, to, fmt.Errorf("--month %q is not a month such as 2026-10", month)
			}
		}
	} else if from, err = parseTime(since, now); err != nil {
		return from, to, fmt.Errorf("--since: %w", err)
	}
	to = now
	if month != "" {
		to = from.AddDate(0, 1, 0)
	}
	if until != "" {
		if to, err = parseTime(until, now); err != nil {
			return from, to, fmt.Errorf("--until: %w", err)
		}
	}
	return from, to, nil
}

func (a *app) printHistorySummary(s *history.Summary) {
	fmt.Fprintf(a.out, "%s to %s: delivered to %s\n", s.Since.UTC().Format("2006-01-02 15:04"), s.Until.UTC().Format("2006-01-02 15:04 UTC"), human.Plural(s.Deliveries, "recipient"))
	for _, p := range []struct {
		proof history.Proof
		says  string
	}{
		{history.ProofDANE, "DANE: a signed TLSA record vouched for the host"},
		{history.ProofSTS, "MTA-STS: the domain's policy named the host"},
		{history.ProofVerified, "a valid certificate; the host's name came from unsigned DNS"},
		{history.ProofEncrypted, "encrypted; nobody vouched for the host"},
		{history.ProofNone, "in clear"},
	} {
		share := 0.0
		if s.Deliveries > 0 {
			share = 100 * float64(s.ByProof[p.proof]) / float64(s.Deliveries)
		}
		fmt.Fprintf(a.out, "%9d  %5.1f %%  %s\n", s.ByProof[p.proof], share, p.says)
	}
	if len(s.InClear) > 0 {
		fmt.Fprintln(a.out, "in clear, by domain:")
		domains := slices.SortedFunc(maps.Keys(s.InClear), func(x, y string) int {
			if s.InClear[x] != s.InClear[y] {
				return s.InClear[y] - s.InClear[x]
			}
			return strings.Compare(x, y)
		})
		for _, d := range domains {
			fmt.Fprintf(a.out, "%9d  %s\n", s.InClear[d], d)
		}
	}
	for _, g := range s.Gaps {
		fmt.Fprintf(a.out, "records may be missing from %s to %s\n", g.MissingFrom.UTC().Format("2006-01-02 15:04:05"), g.MissingTo.UTC().Format("2006-01-02 15:04:05"))
	}
}

func (a *app) historyForget() *cobra.Command {
	var address string
	var dryRun bool
	c := &cobra.Command{
		Use: "forget --address A", Short: "Take an address out of the history; its domain stays", Args: noArgs,
		Example: "  stsrelay history forget --address kurt@partner.example --dry-run",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if address == "" {
				return usageError{errors.New("say which address: --address kurt@partner.example")}
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			var out operator.Affected
			in := map[string]any{"address": address, "dry_run": dryRun}
			if err := client.Do(cmd.Context(), "POST", "/v1/history/forget", in, &out); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(out)
			}
			verb := "was taken out of"
			if dryRun {
				verb = "is in"
			}
			fmt.Fprintf(a.out, "%s %s %s\n", address, verb, human.Plural(out.Affected, "record"))
			return nil
		},
	}
	c.Flags().StringVar(&address, "address", "", "the mail address")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "count, and change nothing")
	return c
}

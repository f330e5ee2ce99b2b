package main

import (
	"encoding/csv"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/internal/dnsclient"
	"github.com/stsrelay/stsrelay/sts/publish"
)

func (a *app) publishRecords() *cobra.Command {
	var format string
	c := &cobra.Command{
		Use: "records [DOMAIN...]", Short: "Print the DNS records that the published policies need",
		Long: `Print the DNS records that the published policies need: the policy host's, that
with the policy's id, and that which asks for TLS reports. The MX records stay
as they are. The addresses of [publisher] host are looked up where a record
needs them, and CAA records where certificates come by ACME: one that keeps the
authority from issuing needs another one beside it.`,
		Example: "  stsrelay publish records example.com\n  stsrelay publish records --format bind",
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains([]string{"table", "bind", "csv"}, format) {
				return usageError{errors.New("--format must be table, bind or csv")}
			}
			conf, domains, err := a.loadPublished(args)
			if err != nil {
				return err
			}
			records, err := recordsOf(cmd, conf, domains)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(records)
			}
			return a.printRecords(format, records)
		},
	}
	c.Flags().StringVar(&format, "format", "table", `"table", "bind" (lines of a zone file) or "csv"`)
	return c
}

// recordsOf returns the records that domains need. Those that several share come first.
func recordsOf(cmd *cobra.Command, c *config.Config, domains []publish.Domain) ([]publish.Record, error) {
	ask, err := dnsclient.New(dnsclient.Options{Servers: c.DNS.Servers, TrustAD: c.DNS.TrustAD})
	if err != nil {
		return nil, fmt.Errorf("dns: %w", err)
	}
	defer func() { _ = ask.Close() }() // nothing was written
	host, err := publishHost(cmd.Context(), c, ask, domains)
	if err != nil {
		return nil, err
	}
	out := publish.SharedRecords(domains)
	caa, err := missingCAA(cmd.Context(), c, ask, domains)
	if err != nil {
		return nil, err
	}
	out = append(out, caa...)
	for _, d := range domains {
		for _, r := range publish.Records(d, host) {
			if !slices.ContainsFunc(out, func(o publish.Record) bool { return o.Name == r.Name && o.Type == r.Type && o.Value == r.Value }) {
				out = append(out, r)
			}
		}
	}
	return out, nil
}

func (a *app) printRecords(format string, records []publish.Record) error {
	switch format {
	case "csv":
		w := csv.NewWriter(a.out)
		_ = w.Write([]string{"name", "type", "value", "why"})
		for _, r := range records {
			_ = w.Write([]string{r.Name, r.Type, r.Value, r.Why})
		}
		w.Flush()
		return w.Error() // of any Write
	case "bind":
		for _, r := range records {
			fmt.Fprintln(a.out, zoneLine(r))
		}
		return nil
	}
	for i, r := range records {
		if i > 0 {
			fmt.Fprintln(a.out)
		}
		fmt.Fprintf(a.out, "%s\n    %s  %s\n    # %s\n", r.Name, r.Type, r.Value, r.Why)
	}
	return nil
}

// zoneLine is a record in the form of a zone file.
func zoneLine(r publish.Record) string {
	value := r.Value
	switch r.Type {
	case "TXT":
		value = zoneText(value)
	case "CNAME":
		value += "."
	}
	return fmt.Sprintf("%s. IN %s %s", r.Name, r.Type, value)
}

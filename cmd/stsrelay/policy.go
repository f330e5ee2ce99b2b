package main

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/relay/operator"
)

func (a *app) policyCommand() *cobra.Command {
	return group("policy", "Look into the cache of MTA-STS policies and change it",
		a.policyList(),
		a.policyOne("show", "Show the cached policy of a domain", http.MethodGet, ""),
		a.policyOne("refresh", "Fetch the policy of a domain now; a failure keeps the old one", http.MethodPost, "/refresh"),
		a.policyRemove(),
	)
}

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

func (a *app) policyOne(name, short, method, suffix string) *cobra.Command {
	return &cobra.Command{
		Use: name + " DOMAIN", Short: short, Args: oneArg("domain"), Example: "  stsrelay policy " + name + " example.com",
		RunE: func(cmd *cobra.Command, args []string) error {
			path, _, err := policyPath(args[0])
			if err != nil {
				return err
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			var p operator.Policy
			if err := client.Do(cmd.Context(), method, path+suffix, nil, &p); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(p)
			}
			a.printPolicy(&p)
			return nil
		},
	}
}

func (a *app) printPolicy(p *operator.Policy) {
	row := func(name, format string, args ...any) {
		fmt.Fprintf(a.out, "%-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	row("domain", "%s", p.Domain)
	if p.Mode != "" {
		row("mode", "%s, id %s", p.Mode, p.ID)
		row("mx", "%s", strings.Join(p.MX, ", "))
		row("max_age", "%d s", p.MaxAge)
		row("fetched", "%s (%s)", human.Clock(*p.FetchedAt), human.Ago(p.FetchedAt))
		row("expires", "%s (%s)", human.Clock(*p.ExpiresAt), human.Until(p.ExpiresAt))
	} else {
		row("mode", "no policy is cached")
	}
	if p.NextRefreshAt != nil {
		row("refresh", "%s", human.Until(p.NextRefreshAt))
	}
	if p.LastError != "" {
		row("error", "%s (%s)", p.LastError, human.Ago(p.LastErrorAt))
	}
}

func (a *app) policyRemove() *cobra.Command {
	return &cobra.Command{
		Use: "remove DOMAIN", Short: "Forget the cached policy of a domain", Args: oneArg("domain"), Example: "  stsrelay policy remove example.com",
		RunE: func(cmd *cobra.Command, args []string) error {
			path, domain, err := policyPath(args[0])
			if err != nil {
				return err
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			var done operator.Affected
			if err := client.Do(cmd.Context(), http.MethodDelete, path, nil, &done); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(done)
			}
			fmt.Fprintf(a.out, "the policy of %s is forgotten\n", domain)
			return nil
		},
	}
}

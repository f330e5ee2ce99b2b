package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/relay/operator"
)

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

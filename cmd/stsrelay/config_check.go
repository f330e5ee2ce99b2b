package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/config"
)

func (a *app) configCheck() *cobra.Command {
	return &cobra.Command{
		Use: "check", Short: "Check the configuration; exit 1 where it is wrong", Args: noArgs, Example: "  stsrelay config check --config relay.toml",
		RunE: func(*cobra.Command, []string) error {
			_, warnings, err := config.Check(a.configPath(), a.environ)
			if a.json {
				return a.configAnswer(warnings, err)
			}
			for _, w := range warnings {
				fmt.Fprintln(a.err, "warning:", w)
			}
			if err != nil {
				return err
			}
			name := a.configPath()
			if name == "" {
				name = "defaults and environment"
			}
			_, err = fmt.Fprintln(a.out, name+": ok")
			return err
		},
	}
}

// configAnswer prints what was found as JSON.
func (a *app) configAnswer(warnings []config.Warning, found error) error {
	problems := []string{}
	if found != nil {
		problems = strings.Split(found.Error(), "\n")
	}
	err := a.printJSON(map[string]any{
		"ok": found == nil, "file": a.configPath(), "warnings": append([]config.Warning{}, warnings...), "problems": problems,
	})
	if err == nil && found != nil {
		err = errAnswered
	}
	return err
}

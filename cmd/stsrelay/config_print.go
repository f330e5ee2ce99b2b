package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/internal/printable"
)

func (a *app) configPrint() *cobra.Command {
	var changed bool
	c := &cobra.Command{
		Use: "print", Short: "Print the configuration in force, with its defaults", Args: noArgs,
		Example: "  stsrelay config print --json\n  stsrelay config print --changed",
		RunE: func(*cobra.Command, []string) error {
			c, _, err := a.load()
			if err != nil {
				return err
			}
			switch {
			case a.json && changed:
				return usageError{errors.New("--changed prints TOML, not JSON")}
			case changed:
				return c.PrintChanged(a.out)
			case a.json:
				return c.PrintJSON(printable.NewJSONWriter(a.raw))
			}
			return c.Print(a.out)
		},
	}
	c.Flags().BoolVar(&changed, "changed", false, "print only what differs from the defaults")
	return c
}

package main

import (
	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/internal/printable"
)

func (a *app) configPrint() *cobra.Command {
	return &cobra.Command{
		Use: "print", Short: "Print the configuration in force, with its defaults", Args: noArgs, Example: "  stsrelay config print --json",
		RunE: func(*cobra.Command, []string) error {
			c, _, err := a.load()
			if err != nil {
				return err
			}
			if a.json {
				return c.PrintJSON(printable.NewJSONWriter(a.raw))
			}
			return c.Print(a.out)
		},
	}
}

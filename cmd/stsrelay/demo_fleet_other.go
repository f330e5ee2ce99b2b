//go:build !unix

package main

import "github.com/spf13/cobra"

// demoFleetCommand has nothing to show where no relay runs; see main_other.go.
func (a *app) demoFleetCommand() *cobra.Command {
	return &cobra.Command{Use: "fleet", Short: "Show three relays on one PostgreSQL (not on this system)", Args: noArgs}
}

package main

import (
	"github.com/spf13/cobra"
)

func (a *app) configCommand() *cobra.Command {
	return group("config", "Check and print the configuration", a.configCheck(), a.configPrint())
}

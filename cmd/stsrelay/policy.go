package main

import (
	"net/http"

	"github.com/spf13/cobra"
)

func (a *app) policyCommand() *cobra.Command {
	return group("policy", "Look into the cache of MTA-STS policies and change it",
		a.policyList(),
		a.policyOne("show", "Show the cached policy of a domain", http.MethodGet, ""),
		a.policyOne("refresh", "Fetch the policy of a domain now; a failure keeps the old one", http.MethodPost, "/refresh"),
		a.policyRemove(),
	)
}

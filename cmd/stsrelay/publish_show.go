package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/sts/publish"
)

// shownPolicy is the output of `publish show`.
type shownPolicy struct {
	Domain string `json:"domain"`
	URL    string `json:"url"`
	ID     string `json:"id"`
	Text   string `json:"text"`
}

func (a *app) publishShow() *cobra.Command {
	return &cobra.Command{
		Use: "show DOMAIN", Short: "Print the policy of a domain as it is served, and its id", Args: oneArg("domain"), Example: "  stsrelay publish show example.com",
		RunE: func(_ *cobra.Command, args []string) error {
			_, domains, err := a.loadPublished(args)
			if err != nil {
				return err
			}
			d := domains[0]
			text := publish.Text(d.Policy)
			s := shownPolicy{Domain: d.Name, URL: "https://" + publish.PolicyHost(d.Name) + publish.Path, ID: publish.ID(text), Text: text}
			if a.json {
				return a.printJSON(s)
			}
			fmt.Fprintf(a.out, "%s, id %s\n\n%s", s.URL, s.ID, strings.ReplaceAll(text, "\r\n", "\n"))
			return nil
		},
	}
}

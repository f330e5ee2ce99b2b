package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/relay/operator"
)

func (a *app) queueSummary() *cobra.Command {
	return &cobra.Command{
		Use: "summary", Short: "Show what waits, by domain", Args: noArgs,
		Example: "  stsrelay queue summary",
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			var list []operator.DomainSummary
			if err := client.Get(cmd.Context(), "/v1/summary", nil, &list); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(list)
			}
			if len(list) == 0 {
				fmt.Fprintln(a.out, "the queue is empty")
				return nil
			}
			t := a.table("DOMAIN", "MSGS", "RCPT", "OLDEST", "NEXT", "WHY")
			for _, d := range list {
				t.add(d.Domain, strconv.Itoa(d.Messages), strconv.Itoa(d.Recipients), human.Span(time.Since(d.OldestAt)), d.Next(), d.Reason.String())
			}
			t.print(a.out)
			for _, why := range operator.Reasons(list) {
				fmt.Fprintf(a.out, "\n%s (%s)  %s\n    %s\n", why.Code, why.Whose(), why.Says, why.Remedy)
			}
			return a.printPaused(cmd.Context(), client)
		},
	}
}

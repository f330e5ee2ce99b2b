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
	var ages bool
	c := &cobra.Command{
		Use: "summary", Short: "Show what waits, by domain", Args: noArgs,
		Long: `Show what waits, by domain, and why.

With --ages it is shown by age, as Postfix's qshape does: how many recipients
wait in all (T), and how many of them for less than 5, 10, 20, 40, 80, 160, 320,
640 and 1280 minutes, and longer. Much on the left is a domain that has just
begun to fail, or much new mail; much on the right is one that has failed for
long.`,
		Example: "  stsrelay queue summary --ages",
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
			if ages {
				writeAges(a.out, list, a.table().width)
				return a.printPaused(cmd.Context(), client)
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
	c.Flags().BoolVar(&ages, "ages", false, "by domain and age, in minutes")
	return c
}

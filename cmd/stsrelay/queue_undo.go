package main

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/relay/operator"
)

func (a *app) queueUndo() *cobra.Command {
	within := 10 * time.Minute
	c := &cobra.Command{
		Use: "undo", Short: "Take back what was removed or bounced in the last minutes", Args: noArgs,
		Long: `Take back what was removed in the last 10 minutes (--within), and stop the
bounces whose notices have not been sent: queue bounce gives messages up after a
minute. What was removed is due at once again; a message that was being
delivered when it was removed may arrive twice. queue trash restore brings
single messages back.`,
		Example: "  stsrelay queue undo --within 2m",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if within <= 0 {
				return usageError{errors.New("--within must be more than 0, such as 10m")}
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			var done operator.Undone
			if err := client.Do(cmd.Context(), http.MethodPost, "/v1/queue/undo", map[string]string{"within": within.String()}, &done); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(done)
			}
			if done.Kept == 0 && len(done.IDs) == 0 {
				fmt.Fprintf(a.out, "undo: nothing was removed or bounced in the last %s that could be taken back\n", human.Span(within))
				return nil
			}
			fmt.Fprintf(a.out, "undo: %s not bounced, %s back in the queue\n", human.Plural(done.Kept, "message"), human.Plural(len(done.IDs), "message"))
			return nil
		},
	}
	c.Flags().DurationVar(&within, "within", within, "what was removed in this time")
	return c
}

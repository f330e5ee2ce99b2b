package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/operator"
)

func (a *app) queueTrash() *cobra.Command {
	return group("trash", "Look at what was removed, and put it back",
		a.trashList(), a.trashRestore(), a.trashEmpty())
}

func (a *app) trashList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List what was removed in the last 24 hours", Args: noArgs,
		Long: `List what queue remove took away in the last 24 hours, as far as
limits.trash_size has room for it. ACTIVE says that a delivery was under way: it
may have arrived.`,
		Example: "  stsrelay queue trash list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			body, err := client.Open(cmd.Context(), http.MethodGet, "/v1/trash", nil, nil)
			if err != nil {
				return err
			}
			defer body.Close()
			if a.json {
				return a.copyJSON(body)
			}
			var list []operator.Trashed
			if err := json.NewDecoder(body).Decode(&list); err != nil {
				return err
			}
			if len(list) == 0 {
				fmt.Fprintln(a.out, "the trash is empty")
				return nil
			}
			t := a.table("ID", "REMOVED", "GONE IN", "SIZE", "ACTIVE", "FROM", "TO")
			for _, m := range list {
				active := "-"
				if m.Active {
					active = "yes"
				}
				from := m.From
				if from == "" {
					from = "<>"
				}
				t.add(m.ID, human.Span(time.Since(m.RemovedAt))+" ago", human.Span(time.Until(m.ExpiresAt)), human.Size(m.Size), active, from, strings.Join(m.To, ", "))
			}
			t.shortIDs()
			t.print(a.out)
			return nil
		},
	}
}

func (a *app) trashRestore() *cobra.Command {
	var sel operator.Selection
	c := &cobra.Command{
		Use: "restore [ID…]", Short: "Put removed messages back into the queue",
		Long:    `Put removed messages back into the queue, due now; held ones are held again.`,
		Example: "  stsrelay queue trash restore 01KAR7M3",
		RunE: func(cmd *cobra.Command, args []string) error {
			if sel.IDs = args; sel.All == (len(args) > 0) {
				return usageError{errors.New("say which messages: IDs, or --all")}
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			var done operator.Restored
			if err := client.Do(cmd.Context(), http.MethodPost, "/v1/trash/restore", sel, &done); err != nil {
				return err
			}
			if a.json {
				err = a.printJSON(done)
			} else {
				fmt.Fprintf(a.out, "restore: %s back in the queue\n", human.Plural(len(done.IDs), "message"))
			}
			if len(done.Missing) > 0 {
				err = errors.Join(err, fmt.Errorf("not in the trash: %s", strings.Join(done.Missing, ", ")))
			}
			if len(done.Ambiguous) > 0 {
				err = errors.Join(err, fmt.Errorf("%w: %s", queue.ErrAmbiguous, strings.Join(done.Ambiguous, ", ")))
			}
			return err
		},
	}
	c.Flags().BoolVar(&sel.All, "all", false, "all messages of the trash")
	return c
}

func (a *app) trashEmpty() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use: "empty", Short: "Delete all that is in the trash for good", Args: noArgs, Example: "  stsrelay queue trash empty --yes",
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			if !yes && !a.interactive() {
				return usageError{errors.New("there is no terminal to ask at; nothing was changed. Add --yes if the trash is to be emptied")}
			}
			if !yes && !a.confirm("Delete all that is in the trash for good? [y/N] ") {
				return errors.New("nothing was changed")
			}
			var done operator.Affected
			if err := client.Do(cmd.Context(), http.MethodPost, "/v1/trash/empty", nil, &done); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(done)
			}
			fmt.Fprintf(a.out, "empty: %s deleted\n", human.Plural(done.Affected, "message"))
			return nil
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask; needed where nobody can be asked (docker exec, ssh, cron)")
	return c
}

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/relay/failure"
	"github.com/stsrelay/stsrelay/relay/operator"
)

func (a *app) queueList() *cobra.Command {
	var sel operator.Selection
	var limit int
	c := &cobra.Command{
		Use: "list", Short: "List the messages that wait, oldest first", Args: noArgs,
		Example: "  stsrelay queue list --domain partner.example --limit 20",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkSelection(&sel); err != nil {
				return err
			}
			if cmd.Flags().Changed("limit") && limit < 1 {
				return usageError{errors.New("--limit must be at least 1")}
			}
			q := url.Values{"domain": {sel.Domain}, "from": {sel.From}, "to": {sel.To}, "state": {sel.State}, "older_than": {sel.OlderThan}, "why": {sel.Why}}
			if limit > 0 {
				q.Set("limit", strconv.Itoa(limit))
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			body, err := client.Open(cmd.Context(), http.MethodGet, "/v1/queue", q, nil)
			if err != nil {
				return err
			}
			defer body.Close()
			if a.json {
				return a.copyJSON(body)
			}
			if err := a.printMessages(body); err != nil {
				return err
			}
			return a.printPaused(cmd.Context(), client)
		},
	}
	selectionFlags(c, &sel)
	c.Flags().IntVar(&limit, "limit", 0, "at most so many")
	return c
}

func selectionFlags(c *cobra.Command, sel *operator.Selection) {
	c.Flags().StringVar(&sel.Domain, "domain", "", "with recipients of this domain")
	c.Flags().StringVar(&sel.From, "from", "", "from this sender (<> is the null sender)")
	c.Flags().StringVar(&sel.To, "to", "", "to this recipient")
	c.Flags().StringVar(&sel.State, "state", "", "queued, active or held")
	c.Flags().StringVar(&sel.Why, "why", "", "waiting for this reason, such as connect (docs/reasons.md lists the codes)")
	c.Flags().StringVar(&sel.OlderThan, "older-than", "", "in the queue for longer, such as 2h")
	var codes []cobra.Completion
	for _, row := range failure.All() {
		codes = append(codes, cobra.CompletionWithDesc(row.Code, row.Says))
	}
	_ = c.RegisterFlagCompletionFunc("why", cobra.FixedCompletions(codes, cobra.ShellCompDirectiveNoFileComp)) // the flag is there
}

// printMessages prints the messages of a list.
func (a *app) printMessages(r io.Reader) error {
	dec := json.NewDecoder(r)
	if _, err := dec.Token(); err != nil {
		return err
	}
	titles := []string{"ID", "AGE", "FROM", "TO", "TRY", "NEXT", "WHY"}
	t := a.table(titles...)
	n := 0
	for dec.More() {
		var m operator.Message
		if err := dec.Decode(&m); err != nil {
			return err
		}
		if n == 0 && m.Relay != "" { // a fleet
			t = a.table(slices.Insert(titles, 1, "RELAY")...)
		}
		n++
		row := []string{m.ID, human.Span(time.Since(m.ReceivedAt)), m.Sender(), m.To(), strconv.Itoa(m.Attempts), m.Next(), m.Why()}
		if m.Relay != "" {
			row = slices.Insert(row, 1, m.Relay)
		}
		t.add(row...)
	}
	if n == 0 {
		fmt.Fprintln(a.out, "no messages")
		return nil
	}
	t.shortIDs()
	t.print(a.out)
	return nil
}

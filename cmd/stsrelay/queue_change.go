package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/adminapi"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// queueChange returns one of the commands that change messages.
func (a *app) queueChange(action, short, example string) *cobra.Command {
	var sel operator.Selection
	var yes, strict bool
	destructive := action == "remove" || action == "bounce"
	long := short + `.

A message is touched as a whole: with --domain, also for its recipients of other
domains.`
	switch action {
	case "remove":
		long = short + `. For 24 hours queue trash restore brings
them back.

With --domain only the recipients of that domain are removed, and the message
stays for the others; those that are being tried are removed when the attempt
has ended. A whole message goes at once; a delivery of it that is under way ends
as it may.`
	case "bounce":
		long = short + `.

With --domain only the recipients of that domain are given up, and the message
stays for the others. What is being delivered is given up when the attempt under
way has ended without ending it.

The notices are sent a minute later; until then nothing is tried, and queue undo
stops it. A restart of the relay within that minute forgets the order, and the
messages stay.`
	}
	c := &cobra.Command{
		Use: action + " [ID…]", Short: short, Long: long, Example: "  " + example,
		RunE: func(cmd *cobra.Command, args []string) error {
			sel.IDs = args
			filtered := sel.Domain != "" || sel.From != "" || sel.To != "" || sel.State != "" || sel.OlderThan != "" || sel.Why != ""
			switch {
			case len(args) == 0 && !filtered && !sel.All:
				return usageError{errors.New("say which messages: IDs, --domain, --from, or --all")}
			case sel.All && (filtered || len(args) > 0):
				return usageError{errors.New("--all is all messages; with IDs or a filter it is a contradiction: leave one of them out")}
			}
			if err := checkSelection(&sel); err != nil {
				return err
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			if destructive && !yes && !sel.DryRun && (filtered || sel.All || len(args) > 1) {
				if err := a.confirmChange(cmd.Context(), client, action, sel); err != nil {
					return err
				}
			}
			var done operator.Affected
			p := a.progress(action, 0, nil)
			err = client.Do(cmd.Context(), http.MethodPost, "/v1/queue/"+action, sel, &done)
			if p.end(); err != nil {
				return err
			}
			if a.json {
				err = a.printJSON(done)
			} else if done.Affected == 0 && len(args) == 0 {
				fmt.Fprintf(a.out, "%s: no message is selected; nothing was touched\n", action)
			} else if sel.DryRun {
				fmt.Fprintf(a.out, "%s: %s would be touched\n", action, human.Plural(done.Affected, "message"))
			} else {
				fmt.Fprintf(a.out, "%s: %s touched\n", action, human.Plural(done.Affected, "message"))
				if action == "remove" && done.Affected > 0 {
					fmt.Fprintln(a.out, "stsrelay queue trash restore ID brings back what has room there, for 24 hours")
				}
				if done.UndoSeconds > 0 && done.Affected > 0 {
					fmt.Fprintf(a.out, "the notices are sent in %d s; until then stsrelay queue undo stops that\n", done.UndoSeconds)
				}
				if action == "retry" || action == "release" {
					err = a.printPaused(cmd.Context(), client)
				}
			}
			if done.Affected == 0 && len(args) == 0 && strict {
				err = errors.Join(err, errAnswered)
			}
			if len(done.Missing) > 0 {
				err = errors.Join(err, fmt.Errorf("not in the queue: %s", strings.Join(done.Missing, ", ")))
			}
			if len(done.Unreached) > 0 {
				err = errors.Join(err, fmt.Errorf("not done at all relays: %s", strings.Join(done.Unreached, "; ")))
			}
			if len(done.Ambiguous) > 0 {
				err = errors.Join(err, fmt.Errorf("%w: %s", queue.ErrAmbiguous, strings.Join(done.Ambiguous, ", ")))
			}
			return err
		},
	}
	selectionFlags(c, &sel)
	c.Flags().BoolVar(&strict, "strict", false, "exit status 1 where the filter selects no message")
	c.Flags().BoolVar(&sel.All, "all", false, "all messages")
	if destructive {
		c.Flags().BoolVar(&sel.DryRun, "dry-run", false, "count the messages, and change nothing")
		c.Flags().BoolVar(&yes, "yes", false, "do not ask; needed for more than one message where nobody can be asked (docker exec, ssh, cron)")
	}
	if action == "hold" || action == "bounce" {
		c.Flags().StringVar(&sel.Reason, "reason", "", "why, for those who look later")
	}
	return c
}

// confirmChange asks the operator to confirm a change of more than one message. It
// returns an error if they do not, or if nobody can be asked.
func (a *app) confirmChange(ctx context.Context, client *adminapi.Client, action string, sel operator.Selection) error {
	sel.DryRun = true
	var would operator.Affected
	p := a.progress(action+": counting", 0, nil)
	err := client.Do(ctx, http.MethodPost, "/v1/queue/"+action, sel, &would)
	if p.end(); err != nil || would.Affected < 2 {
		return err
	}
	if !a.interactive() {
		return usageError{fmt.Errorf("%s would end %s, and there is no terminal to ask at; nothing was changed. Add --yes if that is meant, --dry-run to count only",
			action, human.Plural(would.Affected, "message"))}
	}
	told := "nobody is told"
	if action == "bounce" {
		told = "their senders are told"
		if would.UndoSeconds > 0 {
			told += fmt.Sprintf(" in %d s, before which queue undo stops it", would.UndoSeconds)
		}
	}
	if !a.confirm(fmt.Sprintf("%s %s: they are not tried again, and %s. Go on? [y/N] ", action, human.Plural(would.Affected, "message"), told)) {
		return errors.New("nothing was changed")
	}
	return nil
}

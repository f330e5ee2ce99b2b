package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/adminapi"
	"github.com/stsrelay/stsrelay/relay/operator"
)

func (a *app) queueCommand() *cobra.Command {
	return group("queue", "Look into the queue and change it",
		a.queueList(), a.queueShow(), a.queueCat(), a.queueSummary(),
		a.queueChange("retry", "Make messages due now; held ones stay held", "stsrelay queue retry --domain partner.example"),
		a.queueChange("hold", "Keep messages from being tried", "stsrelay queue hold --from scanner@example.com"),
		a.queueChange("release", "Let held messages go, now", "stsrelay queue release --all"),
		a.queueChange("remove", "Delete messages; nobody is told. queue trash restore brings them back for 24 hours", "stsrelay queue remove 01KAR7M3QVJ0Z6"),
		a.queueChange("bounce", "Give messages up and tell their senders", "stsrelay queue bounce --domain gone.example --reason 'no such company'"),
		a.queueTrash(), a.queueExport(), a.queueImport(), a.queueRescue(),
		a.queuePause("pause", "Pause delivery as a whole, until resume or the next start"),
		a.queuePause("resume", "Resume delivery"),
	)
}

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
			q := url.Values{"domain": {sel.Domain}, "from": {sel.From}, "to": {sel.To}, "state": {sel.State}, "older_than": {sel.OlderThan}}
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
	c.Flags().StringVar(&sel.OlderThan, "older-than", "", "in the queue for longer, such as 2h")
}

// printMessages prints in portions, so that the first row of a long list does
// not wait for the last.
func (a *app) printMessages(r io.Reader) error {
	dec := json.NewDecoder(r)
	if _, err := dec.Token(); err != nil {
		return err
	}
	t := a.table("ID", "AGE", "FROM", "TO", "TRY", "NEXT", "WHY")
	n := 0
	for dec.More() {
		var m operator.Message
		if err := dec.Decode(&m); err != nil {
			return err
		}
		n++
		t.add(m.ID, human.Span(time.Since(m.ReceivedAt)), human.Shorten(m.Sender(), 20), human.Shorten(m.To(), 24), strconv.Itoa(m.Attempts), m.Next(), m.Reason.String())
	}
	if n == 0 {
		fmt.Fprintln(a.out, "no messages")
		return nil
	}
	t.print(a.out)
	return nil
}

func (a *app) queueShow() *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show one message: envelope, recipients, and why it waits", Args: oneArg("ID"),
		Example: "  stsrelay queue show 01KAR7M3",
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := messagePath(args[0])
			if err != nil {
				return err
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			var m operator.Message
			if err := client.Get(cmd.Context(), path, nil, &m); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(m)
			}
			a.printMessage(&m)
			return a.printPaused(cmd.Context(), client)
		},
	}
}

func (a *app) printMessage(m *operator.Message) {
	fmt.Fprintf(a.out, "%s  %s, %s, in the queue for %s\n", m.ID, m.State, human.Size(m.Size), human.Span(time.Since(m.ReceivedAt)))
	row := func(name, format string, args ...any) {
		fmt.Fprintf(a.out, "%-9s %s\n", name, fmt.Sprintf(format, args...))
	}
	row("from", "%s", m.Sender())
	row("client", "%s, %s, at %s", m.Client, m.Received(), human.Clock(m.ReceivedAt))
	if m.MessageID != "" {
		row("msg-id", "%s", m.MessageID)
	}
	if m.HeldFor != "" {
		row("held", "%s", m.HeldFor)
	}
	if m.State == "queued" {
		row("next", "%s, after %s", human.Until(m.NextAttemptAt), human.Plural(m.Attempts, "attempt"))
	}
	if m.Reason.Code != "new" {
		row("why", "%s (%s)  %s", m.Reason.Code, m.Reason.Whose(), m.Reason.Says)
		row("remedy", "%s", m.Reason.Remedy)
	}
	for _, r := range m.Recipients {
		row("to", "%s  %s, %s", r.Address, r.State, human.Plural(r.Attempts, "attempt"))
		for _, d := range []struct{ name, text string }{{"host", r.Host}, {"TLS", r.TLS}, {"reply", r.LastReply}, {"error", r.LastError}} {
			if d.text != "" {
				row("", "  %-6s %s", d.name, d.text)
			}
		}
	}
}

func (a *app) queueCat() *cobra.Command {
	return &cobra.Command{
		Use: "cat ID", Short: "Print the content of a message", Args: oneArg("ID"),
		Example: "  stsrelay queue cat 01KAR7M3 > message.eml",
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := messagePath(args[0])
			if err != nil {
				return err
			}
			client, err := a.client()
			if err != nil {
				return err
			}
			body, err := client.Open(cmd.Context(), http.MethodGet, path+"/content", nil, nil)
			if err != nil {
				return err
			}
			defer body.Close()
			to := a.raw // octet for octet, into a file or a pipe
			if a.colour() {
				to = a.out
			}
			_, err = io.Copy(to, body)
			return err
		},
	}
}

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
				t.add(d.Domain, strconv.Itoa(d.Messages), strconv.Itoa(d.Recipients), human.Span(time.Since(d.OldestAt)), human.Until(d.NextAttemptAt), d.Reason.String())
			}
			t.print(a.out)
			for _, why := range operator.Reasons(list) {
				fmt.Fprintf(a.out, "\n%s (%s)  %s\n    %s\n", why.Code, why.Whose(), why.Says, why.Remedy)
			}
			return a.printPaused(cmd.Context(), client)
		},
	}
}

// printPaused says below what waits that it is not its time that it waits for.
func (a *app) printPaused(ctx context.Context, client *adminapi.Client) error {
	var s operator.Status
	if err := client.Get(ctx, "/v1/status", nil, &s); err != nil {
		return err
	}
	if !s.Delivering {
		fmt.Fprintln(a.out, "delivery is paused: nothing is tried before stsrelay queue resume")
	}
	return nil
}

// queueChange is one of the commands that change messages.
func (a *app) queueChange(action, short, example string) *cobra.Command {
	var sel operator.Selection
	var yes bool
	destructive := action == "remove" || action == "bounce"
	long := short + `.

A message is touched as a whole: with --domain, also for its recipients of other domains.`
	switch action {
	case "remove":
		long = short + `.

With --domain only the recipients of that domain are removed, and the message stays for the others; those that are being tried
are removed when the attempt has ended. A whole message goes at once; a delivery of it that is under way ends as it may.`
	case "bounce":
		long = short + `.

With --domain only the recipients of that domain are given up, and the message stays for the others. What is being delivered is
given up when the attempt under way has ended without ending it; a restart of the relay forgets that.`
	}
	c := &cobra.Command{
		Use: action + " [ID…]", Short: short, Long: long, Example: "  " + example,
		RunE: func(cmd *cobra.Command, args []string) error {
			sel.IDs = args
			filtered := sel.Domain != "" || sel.From != "" || sel.To != "" || sel.State != "" || sel.OlderThan != ""
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
			if err := client.Do(cmd.Context(), http.MethodPost, "/v1/queue/"+action, sel, &done); err != nil {
				return err
			}
			if a.json {
				err = a.printJSON(done)
			} else if sel.DryRun {
				fmt.Fprintf(a.out, "%s: %s would be touched\n", action, human.Plural(done.Affected, "message"))
			} else {
				fmt.Fprintf(a.out, "%s: %s touched\n", action, human.Plural(done.Affected, "message"))
				if action == "remove" && done.Affected > 0 {
					fmt.Fprintln(a.out, "stsrelay queue trash restore ID brings back what has room there, for 24 hours")
				}
				if action == "retry" || action == "release" {
					err = a.printPaused(cmd.Context(), client)
				}
			}
			if len(done.Missing) > 0 {
				err = errors.Join(err, fmt.Errorf("not in the queue: %s", strings.Join(done.Missing, ", ")))
			}
			if len(done.Ambiguous) > 0 {
				err = errors.Join(err, fmt.Errorf("%w: %s", queue.ErrAmbiguous, strings.Join(done.Ambiguous, ", ")))
			}
			return err
		},
	}
	selectionFlags(c, &sel)
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

// confirmChange asks the operator whether they mean what they have selected, where
// it is more than one message. The error says that they do not, or that nobody can
// be asked.
func (a *app) confirmChange(ctx context.Context, client *adminapi.Client, action string, sel operator.Selection) error {
	sel.DryRun = true
	var would operator.Affected
	if err := client.Do(ctx, http.MethodPost, "/v1/queue/"+action, sel, &would); err != nil || would.Affected < 2 {
		return err
	}
	if !a.interactive() {
		return usageError{fmt.Errorf("%s would end %s, and there is no terminal to ask at; nothing was changed. Add --yes if that is meant, --dry-run to count only",
			action, human.Plural(would.Affected, "message"))}
	}
	told := "nobody is told"
	if action == "bounce" {
		told = "their senders are told"
	}
	if !a.confirm(fmt.Sprintf("%s %s: they are not tried again, and %s. Go on? [y/N] ", action, human.Plural(would.Affected, "message"), told)) {
		return errors.New("nothing was changed")
	}
	return nil
}

func (a *app) queuePause(action, short string) *cobra.Command {
	return &cobra.Command{
		Use: action, Short: short, Args: noArgs, Example: "  stsrelay queue " + action,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := a.client()
			if err != nil {
				return err
			}
			if err := client.Do(cmd.Context(), http.MethodPost, "/v1/queue/"+action, nil, nil); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]bool{"paused": action == "pause"})
			}
			fmt.Fprintf(a.out, "delivery %sd\n", strings.TrimSuffix(action, "d"))
			return nil
		},
	}
}

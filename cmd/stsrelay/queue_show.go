package main

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/relay/adminapi"
	"github.com/stsrelay/stsrelay/relay/history"
	"github.com/stsrelay/stsrelay/relay/operator"
)

func (a *app) queueShow() *cobra.Command {
	var transcript bool
	c := &cobra.Command{
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
				return a.leftQueue(cmd.Context(), client, args[0], err)
			}
			if transcript {
				return a.printTranscripts(cmd.Context(), path)
			}
			if a.json {
				return a.printJSON(m)
			}
			a.printMessage(&m)
			return a.printPaused(cmd.Context(), client)
		},
	}
	c.Flags().BoolVar(&transcript, "trace", false, "what the last failed attempt said and heard")
	return c
}

// leftQueue returns the error of a message that is not in the queue: what became of it,
// if the history has it, else err.
func (a *app) leftQueue(ctx context.Context, client *adminapi.Client, id string, err error) error {
	var list []history.Record
	if client.Get(ctx, "/v1/history/"+url.PathEscape(id), nil, &list) != nil || len(list) == 0 {
		return err
	}
	last := list[len(list)-1]
	if slices.ContainsFunc(list, func(r history.Record) bool { return r.QueueID != last.QueueID }) {
		return err // several messages have an ID that begins so
	}
	// A bounce is followed by the record of its notice, which says nothing of the message.
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].Kind != history.Notice {
			last = list[i]
			break
		}
	}
	what := last.Verdict
	if what == "" {
		what = last.What
	}
	return fmt.Errorf("%s has left the queue: %s at %s, to %s; stsrelay history show %s has all of it",
		last.QueueID, what, last.At.UTC().Format("2006-01-02 15:04:05 UTC"), recipientsOf(&last), shortID(last.QueueID))
}

func (a *app) printMessage(m *operator.Message) {
	fmt.Fprintf(a.out, "%s  %s, %s, in the queue for %s\n", m.ID, m.State, human.Size(m.Size), human.Span(time.Since(m.ReceivedAt)))
	row := func(name, format string, args ...any) {
		fmt.Fprintf(a.out, "%-9s %s\n", name, fmt.Sprintf(format, args...))
	}
	if m.Relay != "" {
		row("relay", "%s", m.Relay)
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
		row("next", "%s, %s", m.Next(), tried(m.Attempts))
	}
	for _, w := range m.WaitsFor {
		row("waits for", "%s", w)
	}
	if m.GivesUpAt != nil {
		row("gives up", "%s, at %s", human.Until(m.GivesUpAt), human.Clock(*m.GivesUpAt))
	}
	if m.Reason.Code != "new" {
		row("why", "%s (%s)  %s", m.Reason.Code, m.Reason.Whose(), m.Reason.Says)
		row("remedy", "%s", m.Reason.Remedy)
		if m.Reason.WayOut != "" {
			row("or", "%s", m.Reason.WayOut)
		}
	}
	for _, r := range m.Recipients {
		row("to", "%s  %s, %s", r.Address, r.State, tried(r.Attempts))
		for _, d := range []struct{ name, text string }{
			{"last", at(r.LastAttemptAt, human.Ago)}, {"next", nextOf(m, &r)}, {"waits", withDomain(&r)},
			{"host", r.Host}, {"TLS", r.TLS}, {"reply", r.LastReply}, {"error", r.LastError},
		} {
			if d.text != "" {
				row("", "  %-6s %s", d.name, d.text)
			}
		}
	}
}

// tried is how often something was tried.
func tried(attempts int) string {
	if attempts == 0 {
		return "not tried yet"
	}
	return human.Plural(attempts, "attempt")
}

// nextOf is when a recipient of a message is tried next, "" where it is not.
func nextOf(m *operator.Message, r *operator.Recipient) string {
	if m.Paused != nil && r.State == "queued" {
		return "paused " + m.Paused.String()
	}
	return at(r.NextAttemptAt, human.Until)
}

// at is a time, and how far from now it is; "" for nil.
func at(t *time.Time, span func(*time.Time) string) string {
	if t == nil {
		return ""
	}
	return span(t) + ", at " + human.Clock(*t)
}

// withDomain says since when a recipient waits because its domain cannot be reached, and
// why; "" where it does not.
func withDomain(r *operator.Recipient) string {
	if r.DomainSince == nil {
		return ""
	}
	return fmt.Sprintf("with its domain since %s, %s: %s", human.Clock(*r.DomainSince), human.Ago(r.DomainSince), r.DomainError)
}

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
	"time"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/relay/operator"
	"github.com/stsrelay/stsrelay/relay/trace"
)

// errNoAttempt is the error of a trace that has seen no attempt.
var errNoAttempt = errors.New("no attempt was made in this time; --retry makes waiting mail due now")

func (a *app) traceCommand() *cobra.Command {
	var f trace.Filter
	var retry bool
	timeout := 10 * time.Minute
	c := &cobra.Command{
		Use: "trace (ID | --domain D | --host H)", Short: "Show the next attempt to deliver as it happens, line by line",
		Long: `Show the next attempt to deliver a message, or mail to a domain or a host, as it
happens: DNS answers ("AD": DNSSEC vouches for them), the MTA-STS policy and its
origin, each host and why it is taken or passed over, the SMTP dialogue, what
the TLS handshake showed, what each source of demands says of it, and the
results.

"->" is what the relay sends, "<-" what the host answers. Content is shown as
its number of octets, passwords as ***. --retry makes the mail due now; else the
trace waits for the next attempt. queue show ID --trace shows the last attempt
that failed.`,
		Example: "  stsrelay trace 01KAR7M3 --retry\n  stsrelay trace --domain partner.example --attempts 3",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			sel, err := traceSelection(&f, args)
			if err != nil {
				return err
			}
			if f.Attempts < 1 || timeout <= 0 {
				return usageError{errors.New("--attempts must be at least 1, and --timeout more than 0")}
			}
			if retry && f.ID == "" && f.Domain == "" {
				return usageError{errors.New("--retry needs a message or --domain: it is not known which mail would go to a host")}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			return a.trace(ctx, &f, sel, retry)
		},
	}
	c.Flags().StringVar(&f.Domain, "domain", "", "attempts at recipients of this domain")
	c.Flags().StringVar(&f.Host, "host", "", "attempts at this mail host")
	c.Flags().IntVar(&f.Attempts, "attempts", 1, "end after so many attempts")
	c.Flags().BoolVar(&retry, "retry", false, "make the mail due now")
	c.Flags().DurationVar(&timeout, "timeout", timeout, "end after this time")
	return c
}

// traceSelection completes the filter of a trace. It returns the messages that --retry
// is for.
func traceSelection(f *trace.Filter, args []string) (sel operator.Selection, err error) {
	if len(args) > 0 {
		f.ID = args[0]
	}
	named := 0
	for _, s := range []string{f.ID, f.Domain, f.Host} {
		if s != "" {
			named++
		}
	}
	if named != 1 {
		return sel, usageError{errors.New("say what to trace: one ID, --domain or --host")}
	}
	if f.ID != "" {
		_, err := messagePath(f.ID)
		return operator.Selection{IDs: []string{f.ID}}, err
	}
	for _, name := range []*string{&f.Domain, &f.Host} {
		if *name == "" {
			continue
		}
		if *name, err = mailbox.ParseName(*name); err != nil {
			return sel, usageError{err}
		}
	}
	return operator.Selection{Domain: f.Domain}, nil
}

func (a *app) trace(ctx context.Context, f *trace.Filter, sel operator.Selection, retry bool) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	q := url.Values{"id": {f.ID}, "domain": {f.Domain}, "host": {f.Host}, "attempts": {strconv.Itoa(f.Attempts)}}
	body, err := client.Open(ctx, http.MethodGet, "/v1/trace", q, nil)
	if err != nil {
		if f.ID != "" {
			return a.leftQueue(ctx, client, f.ID, err)
		}
		return err
	}
	defer body.Close()
	if retry {
		if err := client.Do(ctx, http.MethodPost, "/v1/queue/retry", sel, nil); err != nil {
			return err
		}
	}
	if a.json {
		return a.copyJSON(body)
	}
	var s operator.Status
	if err := client.Get(ctx, "/v1/status", nil, &s); err == nil && !s.Delivering {
		fmt.Fprintln(a.err, "delivery is paused: nothing is tried before stsrelay queue resume")
	}
	p := tracePrinter{out: a.out}
	for dec := json.NewDecoder(body); ; {
		var e trace.Event
		if err := dec.Decode(&e); err != nil {
			switch {
			case p.seen == 0 && errors.Is(ctx.Err(), context.DeadlineExceeded):
				return errNoAttempt
			case errors.Is(err, io.EOF), ctx.Err() != nil:
				return nil
			}
			return err
		}
		p.print(&e)
	}
}

// tracePrinter prints events for people, each with the time since the first one.
type tracePrinter struct {
	out   io.Writer
	begun time.Time
	host  string // of the event before
	id    string
	seen  int
}

func (p *tracePrinter) print(e *trace.Event) {
	if e.Dropped > 0 {
		fmt.Fprintf(p.out, "          (%s dropped, since they came too fast)\n", human.Plural(e.Dropped, "event"))
	}
	if p.seen == 0 || e.Step == trace.Began {
		p.begun = e.At
		fmt.Fprintf(p.out, "%s  %s  to %s\n", human.Clock(e.At), e.QueueID, e.Domain)
	}
	p.seen++
	if e.Host != "" && (e.Host != p.host || e.QueueID != p.id) {
		fmt.Fprintf(p.out, "%9s %s\n", "", e.Host)
	}
	p.host, p.id = e.Host, e.QueueID
	name := map[trace.Step]string{trace.Sent: "->", trace.Received: "<-"}[e.Step]
	if name == "" {
		name = string(e.Step)
	}
	fmt.Fprintf(p.out, "%8.3fs %-7s %s\n", e.At.Sub(p.begun).Seconds(), name, e.Text)
}

// printTranscripts prints what the last failed attempts at a message said and heard.
func (a *app) printTranscripts(ctx context.Context, path string) error {
	client, err := a.client()
	if err != nil {
		return err
	}
	var list []trace.Transcript
	if err := client.Get(ctx, path+"/trace", nil, &list); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(list)
	}
	if len(list) == 0 {
		fmt.Fprintln(a.out, "no transcript is in memory: no attempt has failed since the start, or 1,000 others failed later; stsrelay trace ID --retry shows the next one")
		return nil
	}
	for i := range list {
		p := tracePrinter{out: a.out}
		if n := list[i].Dropped; n > 0 {
			fmt.Fprintf(a.out, "(there was no room for the first %s)\n", human.Plural(n, "event"))
		}
		for k := range list[i].Events {
			p.print(&list[i].Events[k])
		}
	}
	return nil
}

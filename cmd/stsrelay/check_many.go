package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/internal/printable"
	"github.com/stsrelay/stsrelay/relay/adminapi"
	"github.com/stsrelay/stsrelay/relay/check"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// checksAtOnce is how many domains are checked at the same time.
const checksAtOnce = 8

// checkMany checks domains and prints what was found, in the order in which they were given.
type checkMany struct {
	app           *app
	file          string
	queued        bool
	brief, strict bool

	failed bool // the exit status is 1
}

func (c *checkMany) run(ctx context.Context, client *adminapi.Client, o check.Options, args []string) error {
	var err error
	if c.queued {
		err = c.checkQueued(ctx, client, o)
	} else {
		err = c.checkGiven(ctx, o, args)
	}
	if err == nil && c.failed {
		err = errAnswered
	}
	return err
}

// checkAll checks domains, several at the same time, and yields the reports in their order.
func (c *checkMany) checkAll(ctx context.Context, domains []string, o check.Options, yield func(i int, r *check.Report) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pending := make(chan chan *check.Report, checksAtOnce-1)
	go func() {
		defer close(pending)
		for _, d := range domains {
			one := make(chan *check.Report, 1)
			select {
			case pending <- one:
				go func() { one <- check.Run(ctx, d, o) }()
			case <-ctx.Done():
				return
			}
		}
	}()
	p := c.app.progress("check", int64(len(domains)), number)
	defer p.end()
	i := 0
	for one := range pending {
		r := <-one
		if ctx.Err() != nil {
			return ctx.Err()
		}
		c.failed = c.failed || !r.Outcome.Deliverable || c.strict && r.Faulty()
		p.add(1)
		if err := p.print(func() error { return yield(i, r) }); err != nil {
			return err
		}
		i++
	}
	return ctx.Err()
}

// checkGiven checks the domains that were named. One domain gives a page, or an object of
// JSON; several give pages one after the other, or an object a line.
func (c *checkMany) checkGiven(ctx context.Context, o check.Options, args []string) error {
	domains, err := c.domains(args)
	if err != nil {
		return err
	}
	width := 0
	for _, d := range domains {
		width = max(width, utf8.RuneCountInString(d))
	}
	a, lines := c.app, json.NewEncoder(printable.NewJSONWriter(c.app.raw))
	_, terminal := a.terminal()
	o.Versions = len(domains) == 1 && !c.brief
	return c.checkAll(ctx, domains, o, func(i int, r *check.Report) error {
		b := r.Brief()
		switch {
		case a.json && c.brief:
			return lines.Encode(b)
		case a.json && (c.file != "" || len(domains) > 1):
			return lines.Encode(r)
		case a.json:
			return a.printJSON(r)
		case c.brief:
			return c.printBrief(&b, width)
		case i > 0:
			fmt.Fprintln(a.out)
		}
		return r.Text(a.raw, check.Style{Colour: a.colour(), OutcomeFirst: terminal})
	})
}

// briefRequirement is the width of the column of what is asked.
const briefRequirement = 16

func (c *checkMany) printBrief(b *check.Brief, width int) error {
	line := fmt.Sprintf("%-*s  %-*s  %s", width, b.Domain, briefRequirement, b.Requirement, b)
	if columns := c.app.columns(); columns > 0 {
		line = human.Shorten(line, max(columns-6, width+briefRequirement))
	}
	_, err := fmt.Fprintf(c.app.raw, "%s  %s\n", check.Mark(b.Outcome.Deliverable, c.app.colour()), line)
	return err
}

// domains returns those of the arguments and of the file, each once. An address stands for
// its domain.
func (c *checkMany) domains(args []string) (out []string, err error) {
	known := make(map[string]bool)
	add := func(s string) error {
		domain, err := mailbox.ParseName(s[strings.LastIndexByte(s, '@')+1:])
		if err == nil && !known[domain] {
			known[domain] = true
			out = append(out, domain)
		}
		return err
	}
	for _, arg := range args {
		if err := add(arg); err != nil {
			return nil, usageError{err}
		}
	}
	if c.file == "" {
		return out, nil
	}
	in, name := c.app.in, "standard input"
	if c.file != "-" {
		f, err := os.Open(c.file)
		if err != nil {
			return nil, fmt.Errorf("--file: %w", err)
		}
		defer f.Close()
		in, name = f, c.file
	}
	if err := readLines(in, name, add); err != nil {
		return nil, usageError{err}
	}
	if len(out) == 0 {
		return nil, usageError{fmt.Errorf("%s names no domain; write one a line", name)}
	}
	return out, nil
}

// readLines hands over each line that is not empty or a comment.
func readLines(r io.Reader, name string, add func(string) error) error {
	lines := bufio.NewScanner(r)
	n := 0
	for lines.Scan() {
		n++
		line, _, _ := strings.Cut(strings.TrimPrefix(lines.Text(), "\ufeff"), "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if err := add(line); err != nil {
			return fmt.Errorf("%s, line %d: %w", name, n, err)
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("%s, line %d: it is too long for a domain", name, n+1)
	}
	return lines.Err()
}

// queuedCheck is one domain of --all-queued.
type queuedCheck struct {
	Domain   string        `json:"domain"`
	Messages int           `json:"messages"`
	Outcome  check.Outcome `json:"outcome"`
}

// checkQueued checks the domains for which mail waits, and prints the results in the order
// of the queue.
func (c *checkMany) checkQueued(ctx context.Context, client *adminapi.Client, o check.Options) error {
	var summary []operator.DomainSummary
	if err := client.Get(ctx, "/v1/summary", nil, &summary); err != nil {
		return err
	}
	domains := make([]string, len(summary))
	for i := range summary {
		domains[i] = summary[i].Domain
	}
	a, all := c.app, []queuedCheck{}
	err := c.checkAll(ctx, domains, o, func(i int, r *check.Report) error {
		q := queuedCheck{r.Domain, summary[i].Messages, r.Outcome}
		if a.json {
			all = append(all, q)
			return nil
		}
		_, err := fmt.Fprintf(a.raw, "%s  %s  %s: %s\n", check.Mark(q.Outcome.Deliverable, a.colour()), q.Domain, human.Plural(q.Messages, "message"), q.Outcome.Text)
		return err
	})
	switch {
	case err != nil:
		return err
	case a.json:
		return a.printJSON(all)
	case len(summary) == 0:
		fmt.Fprintln(a.out, "nothing is queued")
	}
	return nil
}

package operator

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/check"
	"github.com/stsrelay/stsrelay/relay/failure"
)

const (
	// checksAtOnce is how many checks run at a time, and checksAMinute how many begin in a
	// minute: each connects to hosts that a stranger has named.
	checksAtOnce  = 4
	checksAMinute = 30
)

// Errors of Check where it was asked for too often.
var (
	errChecksRun  = failed(tooMany, phrase.Errorf("other checks are under way; try again in some seconds"))
	errManyChecks = failed(tooMany, phrase.Errorf("many domains were checked in the last minute; try again in a minute"))
	errChecksOff  = failed(conflict, phrase.Errorf("this relay checks no domains"))
)

// checks bounds the checks that run.
type checks struct {
	mu      sync.Mutex
	running int
	begun   []time.Time // in the last minute
}

// begin reports whether a check may begin; end must follow then.
func (c *checks) begin(now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.begun) > 0 && now.Sub(c.begun[0]) >= time.Minute {
		c.begun = c.begun[1:]
	}
	switch {
	case c.running >= checksAtOnce:
		return errChecksRun
	case len(c.begun) >= checksAMinute:
		return errManyChecks
	}
	c.running++
	c.begun = append(c.begun, now)
	return nil
}

func (c *checks) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running--
}

// Check finds out what the relay would do with mail for a domain. An address stands for its
// domain. sender is an address or a domain, where rules hang on it, "" for any. The check
// connects to the domain's hosts and sends nothing.
func (o *Operator) Check(ctx context.Context, actor Actor, domain, sender string) (*check.Report, error) {
	if o.o.Check == nil {
		return nil, errChecksOff
	}
	domain, err := mailbox.ParseName(afterAt(domain))
	if err != nil {
		return nil, failed(invalid, err)
	}
	if sender != "" {
		if sender, err = mailbox.ParseName(afterAt(sender)); err != nil {
			return nil, failed(invalid, phrase.Errorf("the sender: %w", err))
		}
	}
	if err := o.checks.begin(time.Now()); err != nil {
		return nil, err
	}
	defer o.checks.end()
	report, err := o.o.Check(ctx, domain, sender)
	if err != nil {
		return nil, err
	}
	o.log(ctx, actor, "domain checked by the operator", slog.String("domain", domain), slog.String("outcome", report.Outcome.Action))
	return report, nil
}

// afterAt returns what stands after the last "@" of a text.
func afterAt(s string) string { return s[strings.LastIndexByte(s, '@')+1:] }

// Waiting is the mail of the domain as a check shows it, with what its last attempt met.
func (d *DomainSummary) Waiting() *check.Waiting {
	w := &check.Waiting{Messages: d.Messages, OldestAt: d.OldestAt, FailingSince: d.FailingSince, NextAttemptAt: d.NextAttemptAt, Why: d.Reason.Code, Detail: d.Reason.Detail}
	if d.Reason.Detail != "" {
		w.Problems = []check.Problem{{
			Severity: check.Warning, Text: phrase.New("the last attempt at this mail met: %s", d.Reason.Detail), Rule: "docs/reasons.md, " + d.Reason.Code,
			Remedy: phrase.Text(d.Reason.Row().Remedy).Filtered(func(s string) string { return failure.Fill(s, d.Domain, "") }),
		}}
	}
	return w
}

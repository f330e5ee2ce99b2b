package operator

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/received"
)

// defaultReceived is the time that reads of TLS reports cover where none is asked for.
const defaultReceived = 30 * 24 * time.Hour

// ReceivedSummaries returns what the TLS reports of others say of each of the operator's
// domains, or ("" for all) of one, since a day ("" for 30 days ago).
func (o *Operator) ReceivedSummaries(ctx context.Context, domain, since string) ([]received.Summary, error) {
	domain, since, err := o.receivedQuery(domain, since)
	if err != nil {
		return nil, err
	}
	return o.o.Received.Summaries(ctx, domain, since)
}

// ReceivedReports calls yield with the reports about the days since one ("" for 30 days
// ago), the oldest first, until it returns false: those about a domain, or ("") all.
func (o *Operator) ReceivedReports(ctx context.Context, domain, since string, yield func(*received.Record) bool) error {
	domain, since, err := o.receivedQuery(domain, since)
	if err != nil {
		return err
	}
	return o.o.Received.List(ctx, domain, since, yield)
}

// ReceivedMails calls yield with the mails to reports.address that have no report, from a
// day on ("" for 30 days ago), the oldest first, until it returns false.
func (o *Operator) ReceivedMails(ctx context.Context, since string, yield func(*received.Mail) bool) error {
	_, since, err := o.receivedQuery("", since)
	if err != nil {
		return err
	}
	return o.o.Received.Mails(ctx, since, yield)
}

// ReceivedReport returns a report, or a mail without one, by its ID or the beginning of it.
func (o *Operator) ReceivedReport(ctx context.Context, id string) (*received.Shown, error) {
	shown, err := o.o.Received.Show(ctx, id)
	if errors.Is(err, received.ErrNotFound) {
		return nil, failed(notFound, phrase.Errorf("%s: %w", id, err))
	}
	return shown, err
}

// ImportReports reads a file with TLS reports. name is its name, for what a report itself
// leaves out.
func (o *Operator) ImportReports(ctx context.Context, actor Actor, r io.Reader, name string) ([]received.Result, error) {
	results, err := o.o.Received.Add(ctx, r, name, received.ByImport)
	kept := 0
	for i := range results {
		if results[i].Outcome == received.Kept {
			kept++
		}
	}
	o.log(ctx, actor, "TLS reports imported by the operator", slog.String("file", name), slog.Int("found", len(results)), slog.Int("kept", kept))
	return results, err
}

// receivedQuery checks a domain and a day that are asked for.
func (o *Operator) receivedQuery(domain, since string) (string, string, error) {
	if since == "" {
		since = o.o.Received.Since(defaultReceived)
	} else if _, err := time.Parse(time.DateOnly, since); err != nil {
		return "", "", failed(invalid, phrase.Errorf("since %q is not a day such as 2026-11-23", since))
	}
	if domain != "" {
		name, err := mailbox.ParseName(domain)
		if err != nil {
			return "", "", failed(invalid, err)
		}
		domain = name
	}
	return domain, since, nil
}

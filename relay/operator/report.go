package operator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// Reports calls yield with the state of the TLS reports, the newest day first,
// until it returns false: those of one day or ("") all, for one domain or ("") all.
func (o *Operator) Reports(ctx context.Context, day, domain string, yield func(tlsrpt.Status) bool) error {
	domain, err := o.reportDomain(day, domain)
	if err != nil {
		return err
	}
	return o.o.Reports.List(ctx, day, domain, yield)
}

// PreviewReports calls yield with the reports of a day as they would be sent, for
// one domain or ("") all, until it returns false.
func (o *Operator) PreviewReports(ctx context.Context, day, domain string, yield func(*tlsrpt.Report) bool) error {
	domain, err := o.reportDomain(day, domain)
	if err != nil {
		return err
	}
	return o.o.Reports.Preview(ctx, day, domain, yield)
}

// SendReports sends the reports of a day now, for one domain or ("") all, and calls
// yield with the state of each.
func (o *Operator) SendReports(ctx context.Context, actor Actor, day, domain string, yield func(tlsrpt.Status) bool) error {
	domain, err := o.reportDomain(day, domain)
	if err != nil {
		return err
	}
	n := 0
	err = o.o.Reports.SendNow(ctx, day, domain, func(s tlsrpt.Status) bool { n++; return yield(s) })
	o.log(ctx, actor, "TLS reports sent by the operator", slog.String("day", day), slog.String("domain", domain), slog.Int("reports", n))
	if err != nil && n == 0 {
		return fmt.Errorf("nothing was sent: %w", err)
	}
	return err
}

// reportDomain checks a day and a domain that are asked for, "" for all, where
// reports are made at all. It returns the domain in the form of the reports.
func (o *Operator) reportDomain(day, domain string) (string, error) {
	if o.o.Reports == nil {
		return "", failed(conflict, errors.New("TLS reports are switched off (tlsrpt.enabled)"))
	}
	if day != "" {
		if _, err := tlsrpt.ParseDay(day); err != nil {
			return "", failed(invalid, err)
		}
	}
	if domain == "" {
		return "", nil
	}
	ascii, err := mailbox.ParseName(domain)
	if err != nil {
		return "", failed(invalid, err)
	}
	return ascii, nil
}

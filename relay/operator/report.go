package operator

import (
	"context"
	"errors"
	"log/slog"

	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// ErrReportsElsewhere means that another relay of the fleet makes the TLS reports.
var ErrReportsElsewhere = phrase.Errorf("another relay of the fleet makes the TLS reports")

// Reports calls yield with the state of the TLS reports, the newest day first,
// until it returns false: those of one day or ("") all, for one domain or ("") all.
func (o *Operator) Reports(ctx context.Context, day, domain string, yield func(tlsrpt.Status) bool) error {
	reports, domain, err := o.reporter(day, domain)
	if err != nil {
		return err
	}
	if reports == nil {
		return askReports(ctx, o, order{Do: "report list", Day: day, Domain: domain}, yield)
	}
	return reports.List(ctx, day, domain, yield)
}

// PreviewReports calls yield with the reports of a day as they would be sent, for
// one domain or ("") all, until it returns false.
func (o *Operator) PreviewReports(ctx context.Context, day, domain string, yield func(*tlsrpt.Report) bool) error {
	reports, domain, err := o.reporter(day, domain)
	if err != nil {
		return err
	}
	if reports == nil {
		return askReports(ctx, o, order{Do: "report preview", Day: day, Domain: domain}, func(r tlsrpt.Report) bool { return yield(&r) })
	}
	return reports.Preview(ctx, day, domain, yield)
}

// SendReports sends the reports of a day now, for one domain or ("") all, and calls
// yield with the state of each.
func (o *Operator) SendReports(ctx context.Context, actor Actor, day, domain string, yield func(tlsrpt.Status) bool) error {
	reports, domain, err := o.reporter(day, domain)
	if err != nil {
		return err
	}
	if reports == nil {
		return askReports(ctx, o, order{Do: "report send", Day: day, Domain: domain, Actor: actor}, yield)
	}
	n := 0
	err = reports.SendNow(ctx, day, domain, func(s tlsrpt.Status) bool { n++; return yield(s) })
	o.log(ctx, actor, "TLS reports sent by the operator", slog.String("day", day), slog.String("domain", domain), slog.Int("reports", n))
	if err != nil && n == 0 {
		err = phrase.Errorf("nothing was sent: %w", err)
	}
	if _, ok := errors.AsType[*tlsrpt.NothingCountedError](err); ok {
		return failed(notFound, err)
	}
	return err
}

// reporter returns the reporter of this relay, nil if another relay of the fleet makes the
// reports. It checks a day and a
// domain that are asked for, "" for all, and returns the domain in the form of the reports.
func (o *Operator) reporter(day, domain string) (r *tlsrpt.Reporter, ascii string, err error) {
	if o.o.Reports == nil {
		return nil, "", failed(conflict, phrase.Errorf("TLS reports are switched off (tlsrpt.enabled)"))
	}
	if r, err = o.o.Reports(); err != nil && (o.o.Fleet == nil || !errors.Is(err, ErrReportsElsewhere)) {
		return nil, "", failed(conflict, err)
	}
	if day != "" {
		if _, err := tlsrpt.ParseDay(day); err != nil {
			return nil, "", failed(invalid, err)
		}
	}
	if domain == "" {
		return r, "", nil
	}
	if ascii, err = mailbox.ParseName(domain); err != nil {
		return nil, "", failed(invalid, err)
	}
	return r, ascii, nil
}

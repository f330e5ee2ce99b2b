package relay

import (
	"context"
	"io"
	"time"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/relay/alert"
	"github.com/stsrelay/stsrelay/relay/ingress"
	"github.com/stsrelay/stsrelay/relay/received"
)

// openReceived opens the archive of the TLS reports that others send.
func (r *Relay) openReceived() {
	r.received = received.Open(received.Options{
		Store: r.store, Settings: r.receivedSettings, LookupTXT: r.resolver.FreshTXT,
		Counted: r.metrics.ReceivedSessions, Now: r.o.Now, After: r.o.After, Logger: r.log,
	})
}

// receivedSettings returns the settings of the archive. Where the files of [[publish]]
// cannot be read now, no report is thrown away for that.
func (r *Relay) receivedSettings() received.Settings {
	c := r.config.Load()
	domains, err := c.ReportedDomains()
	if err != nil {
		r.log.Warn("TLS reports about all domains are kept for now", "error", err)
		domains = nil
	}
	return received.Settings{Keep: time.Duration(c.Reports.Keep), Domains: domains}
}

// drop returns the mail drop for TLS reports, nil for none.
func (r *Relay) drop(c *config.Config) *ingress.Drop {
	if c.Reports.Address == "" {
		return nil
	}
	return &ingress.Drop{Address: c.Reports.Address, Take: func(ctx context.Context, queueID string, open func() (io.Reader, error)) error {
		return r.received.Take(ctx, queueID, open)
	}}
}

// receivedTroubles returns what the operator should know of the reports.
func (r *Relay) receivedTroubles(ctx context.Context) (out alert.Received) {
	t, err := r.received.Troubles(ctx)
	if err != nil {
		if ctx.Err() == nil {
			r.log.Error("TLS reports about own domains cannot be read", "error", err)
		}
		return out
	}
	out.Mails, out.Dropped = t.Mails, t.Dropped
	for i := range t.Failures {
		f := &t.Failures[i]
		out.Failures = append(out.Failures, alert.ReceivedFailure{Domain: f.Domain, Type: f.Type, MX: f.MX, Sessions: f.Sessions, Remedy: f.Remedy})
	}
	return out
}

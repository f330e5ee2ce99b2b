package operator

import (
	"context"
	"log/slog"
	"time"

	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/received"
)

// Published is a domain of the operator's own whose policy the relay serves.
type Published struct {
	Domain string    `json:"domain"`
	Mode   string    `json:"mode"`
	ID     string    `json:"id"`
	Text   string    `json:"text"`
	Since  time.Time `json:"since"`
	// BindsUntil is until when senders may hold another policy that was served before.
	BindsUntil *time.Time `json:"binds_until,omitempty"`
	// Leaving reports whether the configuration has the domain no more; mode none is served
	// until BindsUntil.
	Leaving      bool       `json:"leaving"`
	LastFetch    *time.Time `json:"last_fetch,omitempty"`
	FetchesToday int        `json:"fetches_today"`
	// NearMisses counts the requests since the start for a path that is nearly right, and
	// LastMiss is the last one.
	NearMisses int    `json:"near_misses"`
	LastMiss   string `json:"last_miss,omitempty"`
	// Certificate is nil where the relay does not have it: a proxy does.
	Certificate *PublishedCertificate `json:"certificate,omitempty"`
	// Reports is what the reports of others say of the step to enforce.
	Reports *received.Verdict `json:"reports,omitempty"`
	// Report is that in a sentence.
	Report phrase.Phrase `json:"report,omitzero"`
}

// PublishedCertificate is that of a policy host.
type PublishedCertificate struct {
	NotBefore *time.Time `json:"not_before,omitempty"`
	NotAfter  *time.Time `json:"not_after,omitempty"`
	// Problem is why there is none, or why it is not renewed.
	Problem string     `json:"problem,omitempty"`
	NextTry *time.Time `json:"next_try,omitempty"`
}

// Published returns the domains whose policies are served, with the verdicts of the
// reports of others.
func (o *Operator) Published(ctx context.Context) ([]Published, error) {
	if o.o.Published == nil {
		return []Published{}, nil
	}
	list := o.o.Published()
	verdicts, err := o.o.Received.Verdicts(ctx)
	if err != nil {
		return nil, err
	}
	for i := range list {
		if v, ok := verdicts[list[i].Domain]; ok {
			list[i].Reports, list[i].Report = &v, v.Phrase()
		}
	}
	return list, nil
}

// RenewPublished orders a certificate for the policy host of a domain now.
func (o *Operator) RenewPublished(ctx context.Context, actor Actor, name string) error {
	domain, err := mailbox.ParseName(name)
	if err != nil {
		return failed(invalid, err)
	}
	if err := o.o.RenewPublished(ctx, domain); err != nil {
		return failed(conflict, err)
	}
	o.log(ctx, actor, "a certificate was renewed", slog.String("domain", domain))
	return nil
}

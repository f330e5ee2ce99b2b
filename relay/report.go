package relay

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/internal/dkim"
	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/operator"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// newReporter opens what counts the sessions of the mail in q, and sends reports, nil if
// reports are switched off. neighbors are the stores of other relays whose counts go into
// the reports; nil: none.
func (r *Relay) newReporter(st store.Store, q *queue.Queue, neighbors func(context.Context) ([]tlsrpt.Neighbor, error)) (*tlsrpt.Reporter, error) {
	if !r.config.Load().TLSRPT.Enabled {
		return nil, nil
	}
	poster := tlsrpt.NewHTTPSubmitter(tlsrpt.HTTPSubmitterOptions{
		Hellos: r.hellos,
		Roots:  r.roots, LookupAddrs: r.lookupReceiver, DialContext: r.o.Dial, Logger: r.log, Now: r.o.Now,
		AllowPrivate: func() bool { return r.config.Load().Delivery.PrivateAddresses == "allow" },
		Insecure:     func() bool { return r.config.Load().TLSRPT.InsecureHTTPS },
	})
	return tlsrpt.New(tlsrpt.Options{
		Store: st, Neighbors: neighbors, Queue: func(m *tlsrpt.Mail, also func(*store.Batch, string)) error { return r.queueReport(q, m, also) }, Post: poster.Post, LookupTXT: r.resolver.FreshTXT,
		InQueue:  func(id string) bool { _, err := q.Resolve(id); return err == nil },
		Identity: func() tlsrpt.Identity { return identity(r.config.Load()) },
		Sign: func(domain string, write func(io.Writer) error) ([]byte, error) {
			return r.signer.Load().Sign(domain, write)
		},
		Ended:  func(how string, sent bool) { r.metrics.Reported(how, reportResult(sent), 1) },
		Advice: func(code string) string { return security.Code(code).Row().Report },
		Skip:   func(domain string) bool { return r.config.Load().TLSRPT.Skips(domain) },
		Now:    r.o.Now, After: r.o.After, Logger: r.log,
	})
}

func identity(c *config.Config) tlsrpt.Identity {
	return tlsrpt.Identity{Organization: c.TLSRPT.Organization, Contact: c.TLSRPT.Contact, Sender: c.TLSRPT.Sender}
}

// newSigner reads the DKIM keys that sign a kind of mail.
func (r *Relay) newSigner(c *config.Config, kind string) (*dkim.Signer, error) {
	var keys []*dkim.Key
	for i, k := range c.DKIM {
		if !slices.Contains(k.Sign, kind) {
			continue
		}
		key, err := dkim.Load(k.Domain, k.Selector, k.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("dkim[%d]: %w", i, err)
		}
		keys = append(keys, key)
	}
	return dkim.NewSigner(r.now, keys...), nil
}

// warnUnsigned logs that reports cannot be mailed, if so. At a start the check of the
// configuration has said it.
func (r *Relay) warnUnsigned(c *config.Config) {
	if w := c.UnsignedReports(); w != "" {
		r.log.Warn("the configuration has a warning", "warning", w)
	}
}

// queueReport puts a report into the queue. Only the reporter is told what becomes of
// it: nobody could act on a notice.
func (r *Relay) queueReport(q *queue.Queue, m *tlsrpt.Mail, also func(*store.Batch, string)) error {
	if err := q.Room(int64(len(m.Body))); err != nil {
		return err
	}
	messages := r.ownMail(queue.Recipient{Address: m.To, Domain: m.To[strings.LastIndexByte(m.To, '@')+1:]}, "TLS report", m.Body)
	messages[0].Envelope.Kind, messages[0].Envelope.From = queue.Report, m.From
	return q.Add(messages, func(b *store.Batch) { also(b, messages[0].Envelope.ID.String()) })
}

// ownMail returns a mail that the relay itself writes. Nobody gets a notice about it.
// what names the kind of mail in its client field.
func (r *Relay) ownMail(to queue.Recipient, what string, body []byte) []queue.NewMessage {
	to.Notify = []string{"NEVER"}
	return []queue.NewMessage{{
		Envelope: queue.Envelope{
			Kind: queue.Notice, Client: r.config.Load().Hostname + " (" + what + ")", Recipients: []queue.Recipient{to},
			SMTPUTF8: strings.ContainsFunc(to.Address, func(r rune) bool { return r >= 0x80 }),
		},
		Body: body,
	}}
}

// lookupReceiver looks up the addresses of a host that takes reports.
func (r *Relay) lookupReceiver(ctx context.Context, host string) ([]netip.Addr, error) {
	a, err := r.resolver.Addrs(ctx, host)
	return a.Addrs, err
}

// runReports sends reports until ctx ends. A failure does not stop the mail.
func (r *Relay) runReports(ctx context.Context, reporter *tlsrpt.Reporter) {
	for ctx.Err() == nil {
		err := reporter.Run(ctx)
		if err == nil {
			return
		}
		r.log.Error("TLS reports cannot be sent; it is tried again", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(time.Minute):
		}
	}
}

// reportsNow returns the reporter that makes reports here. The error says why there is none.
func (r *Relay) reportsNow() (*tlsrpt.Reporter, error) {
	if reporter := r.reports.Load(); reporter != nil {
		return reporter, nil
	}
	if r.reporter == nil {
		return nil, phrase.Errorf("TLS reports are switched off (tlsrpt.enabled)")
	}
	return nil, operator.ErrReportsElsewhere
}

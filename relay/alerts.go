package relay

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/internal/dkim"
	"github.com/stsrelay/stsrelay/internal/logsink"
	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/alert"
	"github.com/stsrelay/stsrelay/relay/failure"
	"github.com/stsrelay/stsrelay/relay/security"
)

const (
	// longWait is how old mail is when the operator hears of it where
	// delivery.delay_notice does not say.
	longWait = 4 * time.Hour
	// logTold is how long dropped lines of the log are told of.
	logTold = time.Hour
	// maxDomains bounds the domains that are told of one by one.
	maxDomains = 20
)

// openAlerts opens what tells the operator of trouble.
func (r *Relay) openAlerts() (err error) {
	r.alerts, err = alert.New(alert.Options{
		Hostname: r.config.Load().Hostname, To: func() string { return r.config.Load().Notices.Operator },
		Check: r.checkAlerts, Queue: r.queueAlert, Store: r.store, Now: r.o.Now, After: r.o.After, Logger: r.log,
	})
	return err
}

// queueAlert puts a mail to the operator into the queue, as a notice: it comes
// behind people's mail, and where it cannot be delivered nobody is told.
func (r *Relay) queueAlert(to string, body []byte, also func(*store.Batch)) (string, error) {
	m, err := mailbox.Parse(to)
	if err != nil {
		return "", fmt.Errorf("notices.operator: %w", err)
	}
	messages := r.ownMail(queue.Recipient{Address: to, Domain: m.Domain}, "to the operator", body)
	err = r.queue.Add(messages, also)
	return messages[0].Envelope.ID.String(), err
}

func (r *Relay) now() time.Time {
	if r.o.Now != nil {
		return r.o.Now()
	}
	return time.Now()
}

// checkAlerts finds what needs a person.
func (r *Relay) checkAlerts(ctx context.Context) []alert.Alert {
	c := r.config.Load()
	list := append(append(r.diskAlerts(c), r.damageAlerts(c)...), r.certs.alerts(r.now())...)
	list = append(list, logAlerts(r.o.LogDropped(), r.now())...)
	list = append(list, r.keyAlerts(ctx, c)...)
	return append(list, r.mailAlerts(c)...)
}

// logAlerts are lines of the log that were dropped lately.
func logAlerts(d logsink.Dropped, now time.Time) []alert.Alert {
	if d.Lines == 0 || now.Sub(d.Last) >= logTold {
		return nil
	}
	return []alert.Alert{{Key: "log",
		What:   fmt.Sprintf("%d lines of the log were dropped, the last one at %s UTC: whoever reads standard error does not keep up. Mail goes on", d.Lines, d.Last.UTC().Format(time.DateTime)),
		Remedy: "look at the log driver or the program behind the pipe, and at the disk that it writes to"}}
}

func (r *Relay) diskAlerts(c *config.Config) []alert.Alert {
	const helps = "free space there, give it a larger disk, or lower limits.free_space"
	switch err := r.queue.Accepting(); {
	case errors.Is(err, store.ErrDiskFull):
		return []alert.Alert{{Key: alert.NotAccepting, What: "no mail is taken in: " + err.Error(), Remedy: helps}}
	case err != nil:
		return []alert.Alert{{Key: alert.NotAccepting, What: "no mail is taken in: " + err.Error(), Remedy: "look into the log for lines of level ERROR"}}
	}
	limit := r.store.FreeLimit()
	free, err := r.store.Free()
	if err != nil || free >= limit+limit/2 {
		return nil
	}
	return []alert.Alert{{Key: "disk", Remedy: helps,
		What: fmt.Sprintf("the disk of %s has %d MiB free; below %d MiB no mail is taken in", c.DataDir, free>>20, limit>>20)}}
}

// troubles are those of the relay's own certificate.
func (r *certificates) alerts(now time.Time) (list []alert.Alert) {
	r.mu.Lock()
	file, told := r.files[0], r.told
	r.mu.Unlock()
	const helps = "renew tls.certificate; the relay reads it again by itself"
	if told != "" {
		list = append(list, alert.Alert{Key: "certificate-file", What: "the relay's certificate has changed and cannot be used, the old one stays: " + told, Remedy: helps})
	}
	for _, cert := range *r.now.Load() {
		leaf, err := x509.ParseCertificate(cert.Certificate[0])
		if err != nil || file == "" || !security.EndsSoon(leaf.NotBefore, leaf.NotAfter, now) {
			continue
		}
		list = append(list, alert.Alert{Key: "certificate", Remedy: helps,
			What: fmt.Sprintf("the relay's certificate (%s) ends on %s; servers that verify it will not hand over mail then", file, leaf.NotAfter.UTC().Format(time.DateTime))})
	}
	return list
}

// keyAlerts are DKIM keys whose record is not published as it must be. Where
// the DNS does not answer there is nothing to tell.
func (r *Relay) keyAlerts(ctx context.Context, c *config.Config) (list []alert.Alert) {
	for _, k := range c.DKIM {
		found, err := keyProblem(ctx, k, r.resolver.FreshTXT)
		if err == nil && found.Text != "" {
			name := k.Selector + "._domainkey." + k.Domain
			who := "is not believed"
			if found.Works {
				who = "is not believed everywhere"
			}
			list = append(list, alert.Alert{Key: "dkim " + name, What: fmt.Sprintf("what is signed with the DKIM key %s %s: %s", name, who, found.Text),
				Remedy: "stsrelay report setup prints the record to publish"})
		}
	}
	return list
}

func keyProblem(ctx context.Context, k config.DKIM, lookup func(context.Context, string) ([]string, error)) (dkim.Finding, error) {
	key, err := dkim.Load(k.Domain, k.Selector, k.KeyFile)
	if err != nil {
		return dkim.Finding{Text: err.Error()}, nil //nolint:nilerr // that is the problem
	}
	return key.Problem(ctx, lookup, k.Sign)
}

// mailAlerts are domains whose mail waits for long, and mail that is held.
func (r *Relay) mailAlerts(c *config.Config) (list []alert.Alert) {
	wait := time.Duration(c.Delivery.DelayNotice)
	if wait == 0 {
		wait = longWait
	}
	more := 0
	if !r.queue.Paused() {
		for _, d := range r.queue.Summary() {
			if d.Last == (queue.Reason{}) || r.now().Sub(d.OldestAt) < wait {
				continue
			}
			if len(list) == maxDomains {
				more++
				continue
			}
			why := failure.Of(d.Last.Code)
			list = append(list, alert.Alert{Key: "domain " + d.Domain + " " + why.Code, Remedy: strings.ReplaceAll(why.Remedy, "DOMAIN", d.Domain),
				What: fmt.Sprintf("mail for %s waits, %d messages, the oldest since %s UTC (%s: %s)", d.Domain, d.Messages, d.OldestAt.UTC().Format(time.DateTime), why.Code, d.Last.Text)})
		}
	}
	if more > 0 {
		list = append(list, alert.Alert{Key: "domains", What: fmt.Sprintf("mail for %d more domains waits", more), Remedy: "stsrelay queue summary"})
	}
	if n := r.queue.Counts().Held; n > 0 {
		list = append(list, alert.Alert{Key: "held", What: fmt.Sprintf("%d messages are held", n), Remedy: "stsrelay queue list --state held, and queue release or remove"})
	}
	return list
}

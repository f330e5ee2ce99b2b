package relay

import (
	"fmt"
	"time"

	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/alert"
)

// openAlerts opens the monitor that tells the operator of what needs a person.
func (r *Relay) openAlerts() (err error) {
	checks := &alert.Checks{
		Queue: r.queue, Disk: r.disk, DataDir: r.config.Load().DataDir, LogDropped: r.o.LogDropped, History: func() (string, time.Time) { return r.history.Failure(), r.history.Shortened() }, Certificates: r.certs.State, Ordered: r.orderedCertificate,
		LookupTXT: r.resolver.FreshTXT, Published: r.publishAlerts, Settings: r.alertSettings, Now: r.now, ResolverAnswers: r.resolver.Answers, Outage: r.traffic.Outage, Received: r.receivedTroubles,
	}
	if r.space != nil {
		checks.Fleet = r.fleetAlerts
	}
	r.alerts, err = alert.New(alert.Options{
		Hostname: r.config.Load().Hostname, To: func() string { return r.config.Load().Notices.Operator },
		Language: func() string { return r.config.Load().Notices.Language }, Webhook: r.webhook,
		Check: checks.Run, Queue: r.queueAlert, Store: r.store, Now: r.o.Now, After: r.o.After, Logger: r.log,
	})
	return err
}

// orderedCertificate is what there is to know of the relay's own certificate where an
// authority is asked for it, else nil.
func (r *Relay) orderedCertificate() *alert.Ordered {
	c := r.config.Load()
	if r.acme == nil || !c.TLS.ACME {
		return nil
	}
	s := r.acme.State(c.Hostname)
	return &alert.Ordered{NotBefore: s.NotBefore, NotAfter: s.NotAfter, Problem: s.Problem}
}

func (r *Relay) alertSettings() alert.Settings {
	c := r.config.Load()
	s := alert.Settings{DelayNotice: time.Duration(c.Delivery.DelayNotice)}
	for _, k := range c.DKIM {
		s.Keys = append(s.Keys, alert.Key{Domain: k.Domain, Selector: k.Selector, File: k.KeyFile, Sign: k.Sign})
	}
	return s
}

// queueAlert puts a mail to the operator into the queue, as a notice: it comes after
// user mail, and nobody is told if it cannot be delivered.
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

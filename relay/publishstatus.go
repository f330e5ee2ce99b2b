package relay

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/alert"
	"github.com/stsrelay/stsrelay/relay/metrics"
	"github.com/stsrelay/stsrelay/relay/operator"
	"github.com/stsrelay/stsrelay/relay/publisher"
	"github.com/stsrelay/stsrelay/sts/publish"
)

const (
	// faultWait is how long a fault of a published domain must be there before the
	// operator is told: a record takes so long to be set.
	faultWait = time.Hour
	// maxPublishAlerts bounds the domains that have an alert of their own.
	maxPublishAlerts = 20
)

// certificateOf returns what there is to know of the certificate of a policy host, nil for
// a function where a proxy has it.
func (r *Relay) certificateOf() func(host string) publisher.Certificate {
	switch {
	case r.files != nil:
		return r.files.State
	case r.acme != nil && ordersPolicyHosts(r.config.Load()):
		return func(host string) publisher.Certificate {
			s := r.acme.State(host)
			return publisher.Certificate{NotBefore: s.NotBefore, NotAfter: s.NotAfter, Problem: s.Problem, Next: s.Next}
		}
	}
	return nil
}

// publishView is how the relay itself sees its published domains from outside.
func (r *Relay) publishView() *publisher.View {
	c := r.config.Load()
	v := &publisher.View{Ask: r.resolver, Host: c.PublisherHost(), Addresses: publicAddresses(c), Proxy: c.Publisher.TLS == "proxy", Certificate: r.certificateOf(), Now: r.now}
	if r.fetchPolicy != nil {
		v.Fetch = func(ctx context.Context, domain string) (string, error) {
			got, err := r.fetchPolicy(ctx, domain)
			if err != nil {
				return "", err
			}
			return publish.Text(got.Policy), nil
		}
	}
	return v
}

// publishedDomains is what the operator reads of the published domains.
func (r *Relay) publishedDomains() []operator.Published {
	out := []operator.Published{}
	certificate := r.certificateOf()
	for _, s := range r.publisher.Served() {
		p := operator.Published{
			Domain: s.Domain.Name, Mode: string(s.Domain.Policy.Mode), ID: s.ID, Text: s.Text, Since: s.Since, Leaving: s.Leaving,
			BindsUntil: timeOrNil(s.Binds), LastFetch: timeOrNil(s.LastFetch), FetchesToday: s.FetchesToday, NearMisses: s.Near, LastMiss: s.Misspelt,
		}
		if certificate != nil {
			c := certificate(publish.PolicyHost(s.Domain.Name))
			p.Certificate = &operator.PublishedCertificate{NotBefore: timeOrNil(c.NotBefore), NotAfter: timeOrNil(c.NotAfter), Problem: c.Problem, NextTry: timeOrNil(c.Next)}
		}
		out = append(out, p)
	}
	return out
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// renewPublished orders a certificate for the policy host of a domain now.
func (r *Relay) renewPublished(ctx context.Context, domain string) error {
	if r.acme == nil || !ordersPolicyHosts(r.config.Load()) {
		return phrase.Errorf(`this relay orders no certificates for policy hosts: [publisher] is off, or its tls is not "acme"`)
	}
	return r.acme.Renew(ctx, publish.PolicyHost(domain))
}

// publishAlerts tells of faults of published domains.
func (r *Relay) publishAlerts() (list []alert.Alert) {
	if r.watch == nil {
		return nil
	}
	all := r.watch.Faults(faultWait, r.now())
	for _, domain := range slices.Sorted(maps.Keys(all)) {
		faults := all[domain]
		if len(list) == maxPublishAlerts {
			break
		}
		list = append(list, alert.Publish(domain, faults[0].Code, faults[0].Text))
	}
	return list
}

// publishGauges are the metrics of published domains and of certificates.
func (r *Relay) publishGauges() []metrics.Gauge {
	return []metrics.Gauge{
		{Name: "stsrelay_publish_domains", Help: "Domains whose policies are published, by what an hourly look at them has shown.", Label: "state", Read: func() map[string]float64 {
			if r.watch == nil {
				return map[string]float64{"ok": 0, "waiting": 0, "fault": 0}
			}
			return r.watch.States()
		}},
		{Name: "stsrelay_certificate_expires_seconds", Help: "Time until the first certificate ends, of policy hosts (publish) and of the relay itself.", Label: "kind", Read: r.certificateEnds},
	}
}

// certificateEnds is the least time that certificates have left, by kind.
func (r *Relay) certificateEnds() map[string]float64 {
	out := make(map[string]float64)
	least := func(kind string, end time.Time) {
		left := end.Sub(r.now()).Seconds()
		if old, ok := out[kind]; !end.IsZero() && (!ok || left < old) {
			out[kind] = left
		}
	}
	certs, _, _ := r.certs.State()
	for _, c := range certs {
		if c.Leaf != nil {
			least("relay", c.Leaf.NotAfter)
		}
	}
	if certificate := r.certificateOf(); certificate != nil {
		for _, host := range r.publisher.Hosts() {
			least("publish", certificate(host).NotAfter)
		}
	}
	return out
}

package relay

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/internal/dnsclient"
	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/check"
	"github.com/stsrelay/stsrelay/relay/outbound"
	"github.com/stsrelay/stsrelay/sts"
	"github.com/stsrelay/stsrelay/sts/publish"
)

// checkTime is how long a check that the running relay makes may take.
const checkTime = 10 * time.Second

// CheckOptions returns the options of a check from a configuration. The check has a
// resolver of its own, without answers of before. dial is nil for net.Dialer. done frees
// what the options hold.
func CheckOptions(c *config.Config, roots *x509.CertPool, dial outbound.DialFunc, timeout time.Duration) (o check.Options, done func(), err error) {
	rules, err := Rules(c)
	if err != nil {
		return o, nil, err
	}
	resolver, err := dnsclient.New(dnsclient.Options{Servers: c.DNS.Servers, TrustAD: c.DNS.TrustAD, Roots: roots, Timeout: min(2*time.Second, timeout)})
	if err != nil {
		return o, nil, fmt.Errorf("dns: %w", err)
	}
	o = check.Options{
		Resolver: resolver, Roots: roots, Dial: dial, Hostname: c.Hostname, Timeout: timeout,
		ConnectTimeout:  time.Duration(c.Delivery.ConnectTimeout),
		AllowPrivate:    c.Delivery.PrivateAddresses == "allow",
		RefusePlaintext: c.Delivery.Plaintext == "refuse",
		LegacyTLS:       c.Delivery.LegacyTLS,
		Family:          outbound.IPFamily(c.Delivery.IPFamily),
		NoSTS:           !c.STS.Enabled, NoDANE: !c.DANE.Enabled,
		Rules: rules, IsSelf: outbound.Self{Hostname: c.Hostname, Listens: c.ListenAddrs()}.Is,
	}
	for _, s := range c.Delivery.SourceIP {
		if a, err := netip.ParseAddr(s); err == nil { // checked by config
			o.SourceIPs = append(o.SourceIPs, a)
		}
	}
	return o, func() { _ = resolver.Close() }, nil
}

// check finds out what the relay would do with mail for a domain, by its configuration and
// its policy cache as they are now.
func (r *Relay) check(ctx context.Context, domain, sender string) (*check.Report, error) {
	o, done, err := CheckOptions(r.config.Load(), r.roots, r.o.Dial, checkTime)
	if err != nil {
		return nil, err
	}
	defer done()
	o.Sender, o.Now, o.Versions = sender, r.o.Now, true
	o.Waiting = r.waitingFor
	o.Published = r.publishedHere
	if r.policies != nil {
		o.Stored = func(_ context.Context, domain string) []byte {
			value, _ := r.policies.Stored(domain)
			return value
		}
	}
	return check.Run(ctx, domain, o), nil
}

// waitingFor is what waits in the queue for a domain, nil for nothing.
func (r *Relay) waitingFor(_ context.Context, domain string) *check.Waiting {
	for _, d := range r.operator.Summary() {
		if d.Domain == domain {
			return d.Waiting()
		}
	}
	return nil
}

// publishedHere is what this relay publishes for a domain, nil where it does not, and how
// that differs from what others see, of which seen is the policy that they fetch.
func (r *Relay) publishedHere(ctx context.Context, domain string, seen *sts.Policy) *check.Published {
	for _, s := range r.publisher.Served() {
		if s.Domain.Name != domain || s.Leaving {
			continue
		}
		view := r.publishView()
		view.Fetch = nil
		if seen != nil {
			view.Fetch = func(context.Context, string) (string, error) { return publish.Text(seen), nil }
		}
		return PublishedHere(domain, s.Domain.Policy.Mode, s.ID, true, view.Judge(ctx, s))
	}
	return nil
}

// PublishedHere is what a relay publishes for a domain, with what was found, as a check shows
// it.
func PublishedHere(domain string, mode sts.Mode, id string, served bool, found []publish.Finding) *check.Published {
	out := &check.Published{ID: id, Mode: string(mode), Served: served}
	for _, f := range found {
		severity := map[publish.Grade]check.Severity{publish.Fault: check.Fault, publish.Waiting: check.Warning}[f.Grade]
		rule := "RFC 8461, 3"
		if f.Code == "tlsrpt" {
			rule = "RFC 8460, 3"
		}
		out.Problems = append(out.Problems, check.Problem{
			Severity: cmp.Or(severity, check.Note), Rule: rule,
			Text:   f.Text.Filtered(func(s string) string { return strings.TrimPrefix(s, domain+": ") }),
			Remedy: phrase.New("as said; stsrelay publish status %s says whether it is done", domain),
		})
	}
	return out
}

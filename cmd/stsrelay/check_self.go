package main

import (
	"context"
	"slices"
	"strings"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/internal/dkim"
	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/relay/adminapi"
	"github.com/stsrelay/stsrelay/relay/check"
	"github.com/stsrelay/stsrelay/relay/operator"
)

// checkSelf checks the relay itself, with the help of hosts of other domains.
func (a *app) checkSelf(ctx context.Context, client *adminapi.Client, c *config.Config, o check.Options, args []string) error {
	so := check.SelfOptions{Options: o, Senders: senderDomains(c), NoCertificate: c.TLS.Certificate == "" && !c.TLS.ACME}
	for _, arg := range args {
		domain, err := mailbox.ParseName(arg[strings.LastIndexByte(arg, '@')+1:])
		if err != nil {
			return usageError{err}
		}
		so.Domains = append(so.Domains, domain)
	}
	if len(args) == 0 {
		so.Domains = a.knownDomains(ctx, client)
	}
	for _, k := range c.DKIM {
		key, err := dkim.Load(k.Domain, k.Selector, k.KeyFile)
		if err != nil {
			return err
		}
		so.Keys = append(so.Keys, check.SelfKey{Key: key, Kinds: k.Sign})
	}
	report := check.Self(ctx, so)
	var err error
	if a.json {
		err = a.printJSON(report)
	} else {
		err = report.Text(a.raw, a.colour())
	}
	if err == nil && !report.Ready() {
		err = errAnswered
	}
	return err
}

// senderDomains returns the domains of senders that the configuration names.
func senderDomains(c *config.Config) (out []string) {
	add := func(name string) {
		if d, err := mailbox.ParseName(name); err == nil && !slices.Contains(out, d) {
			out = append(out, d)
		}
	}
	if c.TLSRPT.Enabled {
		add(c.TLSRPT.Sender[strings.LastIndexByte(c.TLSRPT.Sender, '@')+1:])
	}
	for _, k := range c.DKIM {
		add(k.Domain)
	}
	for _, u := range c.Users {
		for _, d := range u.SenderDomains {
			add(strings.TrimPrefix(d, "."))
		}
	}
	return out
}

// knownDomains returns the domains to which the running relay sends mail, none if it
// does not run. Domains with policies are first: their policy hosts tell the time.
func (a *app) knownDomains(ctx context.Context, client *adminapi.Client) (out []string) {
	var policies []operator.Policy
	var waiting []operator.DomainSummary
	_ = client.Get(ctx, "/v1/policies", nil, &policies) // it may not run
	_ = client.Get(ctx, "/v1/summary", nil, &waiting)
	for _, p := range policies {
		out = append(out, p.Domain)
	}
	for _, d := range waiting {
		if !slices.Contains(out, d.Domain) && !strings.HasPrefix(d.Domain, "[") {
			out = append(out, d.Domain)
		}
	}
	return out
}

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/internal/dnsclient"
	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/sts/publish"
)

func (a *app) publishCommand() *cobra.Command {
	return group("publish", "Publish MTA-STS policies for your own domains",
		a.publishSetup(), a.publishRecords(), a.publishStatus(), a.publishShow(), a.publishExport(), a.publishRenew(),
	)
}

// errNothingPublished is returned where the configuration has no [[publish]].
var errNothingPublished = errors.New("the configuration publishes no policy: it has no [[publish]]")

// published returns the domains of the configuration with the given names, or all of them.
func published(c *config.Config, names []string) ([]publish.Domain, error) {
	all, err := c.Published()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.File, err)
	}
	if len(all) == 0 {
		return nil, errNothingPublished
	}
	if len(names) == 0 {
		return all, nil
	}
	var out []publish.Domain
	for _, arg := range names {
		name, err := mailbox.ParseName(arg)
		if err != nil {
			return nil, usageError{err}
		}
		i := slices.IndexFunc(all, func(d publish.Domain) bool { return d.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("no [[publish]] has the domain %s", name)
		}
		out = append(out, all[i])
	}
	return out, nil
}

// loadPublished reads the configuration and returns the domains with the given names.
func (a *app) loadPublished(names []string) (*config.Config, []publish.Domain, error) {
	c, _, err := a.load()
	if err != nil {
		return nil, nil, err
	}
	domains, err := published(c, names)
	return c, domains, err
}

// publishHost returns the relay as the world sees it: the addresses of the configuration,
// or those that the DNS has for the name, where a domain needs them.
func publishHost(ctx context.Context, c *config.Config, ask *dnsclient.Client, domains []publish.Domain) (publish.Host, error) {
	host := publish.Host{Name: c.PublisherHost()}
	for _, s := range c.Publisher.Addresses {
		if addr, err := netip.ParseAddr(s); err == nil { // checked by config
			host.Addresses = append(host.Addresses, addr)
		}
	}
	if !needsAddresses(c, domains) {
		return host, nil
	}
	found, err := ask.Addrs(ctx, host.Name)
	if err != nil && !dnsclient.IsNotFound(err) {
		return host, fmt.Errorf("the address of %s: %w; set [publisher] addresses", host.Name, err)
	}
	host.Addresses = found.Addrs
	return host, nil
}

// needsAddresses reports whether a domain's policy host is the relay's own name, which
// needs address records, not a CNAME.
func needsAddresses(c *config.Config, domains []publish.Domain) bool {
	return len(c.Publisher.Addresses) == 0 && slices.ContainsFunc(domains, func(d publish.Domain) bool {
		return strings.EqualFold(publish.PolicyHost(d.Name), c.PublisherHost())
	})
}

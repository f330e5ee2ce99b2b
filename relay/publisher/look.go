package publisher

import (
	"context"
	"net/netip"
	"sync"

	"github.com/stsrelay/stsrelay/internal/dnsclient"
	"github.com/stsrelay/stsrelay/sts/publish"
)

// Look asks the DNS what the world sees of a domain. No answer is taken from the cache
// that a person may just have changed.
func Look(ctx context.Context, ask *dnsclient.Client, domain string) (s publish.Seen) {
	var all sync.WaitGroup
	all.Go(func() { s.MX, s.NoMail, s.MXError = mailHosts(ctx, ask, domain) })
	all.Go(func() { s.TXT, s.TXTError = ask.FreshTXT(ctx, "_mta-sts."+domain) })
	all.Go(func() { s.TLSRPT, s.TLSRPTError = ask.FreshTXT(ctx, "_smtp._tls."+domain) })
	all.Go(func() { s.Addresses, s.AddressError = addresses(ctx, ask, publish.PolicyHost(domain)) })
	all.Wait()
	return s
}

// mailHosts looks up the MX hosts of a domain; it is its own where it has an address and no
// MX record (RFC 5321, 5.1). null reports whether it takes no mail (RFC 7505).
func mailHosts(ctx context.Context, ask *dnsclient.Client, domain string) (hosts []string, null bool, err error) {
	ask.Forget(domain)
	mx, err := ask.MX(ctx, domain)
	if err != nil && !dnsclient.IsNotFound(err) {
		return nil, false, err
	}
	for _, r := range mx.Records {
		if r.Host == "." {
			null = true
			continue
		}
		hosts = append(hosts, r.Host)
	}
	if len(hosts) > 0 || null {
		return hosts, null && len(hosts) == 0, nil
	}
	own, err := addresses(ctx, ask, domain)
	if len(own) > 0 {
		hosts = []string{domain}
	}
	return hosts, false, err
}

// addresses looks up a host's addresses past the cache; there being none is no error.
func addresses(ctx context.Context, ask *dnsclient.Client, host string) ([]netip.Addr, error) {
	ask.Forget(host)
	a, err := ask.Addrs(ctx, host)
	if err != nil && !dnsclient.IsNotFound(err) {
		return nil, err
	}
	return a.Addrs, nil
}

// LookHost is the relay as the world sees it: the addresses of the configuration, or those
// that the DNS has for the name. The error is about the DNS.
func LookHost(ctx context.Context, ask *dnsclient.Client, name string, configured []netip.Addr) (publish.Host, error) {
	host := publish.Host{Name: name, Addresses: configured}
	var err error
	if len(configured) == 0 {
		host.Addresses, err = addresses(ctx, ask, name)
	}
	return host, err
}

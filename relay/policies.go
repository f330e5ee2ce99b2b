package relay

import (
	"context"
	"crypto/x509"
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/dnsclient"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/relay/outbound"
	"github.com/stsrelay/stsrelay/sts"
)

// policyStore keeps the policy cache in the store, under its own prefix.
type policyStore struct{ s store.Store }

func (p policyStore) Get(key []byte) ([]byte, error) { return store.Get(p.s, key) }

func (p policyStore) Put(ctx context.Context, key, value []byte) error {
	return store.Put(ctx, p.s, key, value)
}

func (p policyStore) Delete(ctx context.Context, key []byte) error {
	return store.Remove(ctx, p.s, key)
}

func (p policyStore) Scan(prefix []byte, fn func(key, value []byte) error) error {
	return p.s.Scan(prefix, nil, fn)
}

func (r *Relay) openPolicies(roots *x509.CertPool) (*sts.Manager, error) {
	r.fetchPolicy = func(ctx context.Context, domain string) (*sts.Fetched, error) {
		return sts.NewFetcher(sts.FetcherOptions{
			Roots: roots, LookupAddrs: r.lookupAddrs, DialContext: r.o.Dial, Hellos: r.hellos, Now: r.o.Now,
			AllowPrivate: r.config.Load().Delivery.PrivateAddresses == "allow", // which a reload may change
		}).Fetch(ctx, domain)
	}
	return sts.NewManager(sts.ManagerOptions{
		Store: policyStore{r.disk}, Prefix: store.PrefixPolicy, Room: r.disk.CheckSpace, LookupTXT: r.lookupTXT, Logger: r.log,
		Fetch: func(ctx context.Context, domain string) (*sts.Fetched, error) {
			fetched, err := r.fetchPolicy(ctx, domain)
			if !errors.Is(ctx.Err(), context.Canceled) { // the relay stops: that says nothing about the policy host
				r.metrics.Fetched(fetchResult(err), 1)
			}
			return fetched, err
		},
	})
}

// noHost tells why the DNS has no mail host for a domain, asked anew; nil where it has one, or
// cannot tell now.
func (r *Relay) noHost(ctx context.Context, domain string) error {
	finder := outbound.Finder{Resolver: r.resolver}
	finder.Forget(&outbound.Plan{Domain: domain})
	return finder.NoHost(ctx, domain, r.config.Load().Delivery.PrivateAddresses == "allow")
}

// probeResolvers asks the resolvers whether they validate DNSSEC, and logs whether their
// AD bit is believed.
func (r *Relay) probeResolvers(ctx context.Context) {
	r.resolver.Probe(ctx)
	protected := false
	for _, s := range r.resolver.Servers() {
		r.log.Info("resolver", "address", s.Address, "ad_believed", s.Believed, "because", s.Why.String())
		protected = protected || s.Protects()
	}
	if r.config.Load().DANE.Enabled && !protected {
		r.log.Warn("DANE is off: no resolver is believed to have validated its answers (dns.servers, dns.trust_ad); use one on this machine that validates DNSSEC, or DNS over TLS")
	}
}

func (r *Relay) lookupAddrs(ctx context.Context, host string) ([]netip.Addr, error) {
	a, err := r.resolver.Addrs(ctx, host)
	if dnsclient.IsNotFound(err) {
		return nil, sts.ErrNoHost
	}
	return a.Addrs, err
}

// lookupTXT looks up records for the policy cache. It returns sts.ErrNoTXT if the DNS
// says that there is none; any other error means that this is not known.
func (r *Relay) lookupTXT(ctx context.Context, name string, fresh bool) ([]string, error) {
	t, err := r.resolver.TXT(ctx, name, fresh)
	if dnsclient.IsNotFound(err) {
		return nil, sts.ErrNoTXT
	}
	if err != nil && !fresh {
		// With a policy in force the record only says whether there is a newer one.
		if e, ok := r.policies.Show(strings.TrimPrefix(name, "_mta-sts.")); ok && e.Policy != nil && time.Now().Before(e.ExpiresAt) {
			r.resolver.RememberSilentTXT(name)
		}
	}
	return t.Records, err
}

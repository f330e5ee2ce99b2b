package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/relay/acme"
	"github.com/stsrelay/stsrelay/relay/publisher"
	"github.com/stsrelay/stsrelay/sts/publish"
)

// certificateCheck is how often the relay's own certificate is compared with that of the
// authority, which may have been renewed.
const certificateCheck = 30 * time.Second

// ordersPolicyHosts reports whether the certificates of policy hosts come from [acme].
func ordersPolicyHosts(c *config.Config) bool {
	return c.Publisher.HTTPS != "" && c.Publisher.TLS == "acme"
}

// openACME makes what gets certificates, if the configuration wants any. The listeners of
// the publisher are bound already.
func (r *Relay) openACME(c *config.Config) error {
	if !ordersPolicyHosts(c) && !c.TLS.ACME {
		return nil
	}
	o := acme.Options{
		Store: r.disk, Directory: c.ACME.Directory, Agreed: c.ACME.Agree, Email: c.ACME.Email, Profile: c.ACME.Profile,
		Ready: r.readyForCertificate, CAA: acme.LookupCAA(r.resolver), Changed: r.certificateChanged, Logger: r.log, RenewCheck: r.o.RenewCheck,
	}
	if err := r.acmeSecrets(c, &o); err != nil {
		return err
	}
	if c.ACME.Challenge == "auto" || c.ACME.Challenge == "http-01" {
		if a := r.publishing.HTTPAddr(); a != nil {
			o.HTTP = a
		}
	}
	if (c.ACME.Challenge == "auto" || c.ACME.Challenge == "tls-alpn-01") && c.Publisher.TLS != "proxy" {
		if a := r.publishing.HTTPSAddr(); a != nil {
			o.HTTPS = a
		}
	}
	var err error
	r.acme, err = acme.New(o)
	return err
}

// nameServer looks up where a name server of a zone answers.
func (r *Relay) nameServer(ctx context.Context, host string) (out []string) {
	found, err := r.resolver.Addrs(ctx, host)
	if err != nil {
		return nil
	}
	for _, a := range found.Addrs {
		out = append(out, netip.AddrPortFrom(a, 53).String())
	}
	return out
}

// acmeSecrets reads the files that [acme] names.
func (r *Relay) acmeSecrets(c *config.Config, o *acme.Options) error {
	var err error
	if c.ACME.CAFile != "" {
		if o.Roots, err = config.ReadAuthorities(c.ACME.CAFile); err != nil {
			return fmt.Errorf("%s: acme.ca_file: %s %w", configName(c), c.ACME.CAFile, err)
		}
	}
	if c.ACME.EABKeyID != "" {
		key, err := config.ReadSecret(c.ACME.EABKeyFile)
		if err != nil {
			return fmt.Errorf("%s: acme.eab_key_file: %s %w", configName(c), c.ACME.EABKeyFile, err)
		}
		o.ExternalAccount = &acme.ExternalAccount{KeyID: c.ACME.EABKeyID, Key: strings.TrimRight(key, "=")}
	}
	d := c.ACME.DNS
	if d.Server == "" || c.ACME.Challenge != "auto" && c.ACME.Challenge != "dns-01" {
		return nil
	}
	o.DNS = &acme.DNS{Server: d.Server, Name: d.TSIGName, Algorithm: d.TSIGAlgorithm, Addresses: r.nameServer}
	if d.TSIGName != "" {
		if o.DNS.Secret, err = config.ReadSecret(d.TSIGSecretFile); err != nil {
			return fmt.Errorf("%s: acme.dns.tsig_secret_file: %s %w", configName(c), d.TSIGSecretFile, err)
		}
	}
	return nil
}

// wantCertificates says which names need certificates.
func (r *Relay) wantCertificates(c *config.Config) {
	if r.acme == nil {
		return
	}
	var names []string
	if ordersPolicyHosts(c) {
		names = r.publisher.Hosts()
		if r.publisher.HasHandlers() {
			names = append(names, c.PublisherHost())
		}
	}
	if c.TLS.ACME && (len(names) == 0 || names[len(names)-1] != c.Hostname) {
		names = append(names, c.Hostname)
	}
	r.acme.Set(names)
}

// readyForCertificate returns why the authority would not find a name here.
func (r *Relay) readyForCertificate(ctx context.Context, name string) error {
	c := r.config.Load()
	domain, ok := strings.CutPrefix(name, "mta-sts.")
	if !ok || name == c.Hostname || name == c.PublisherHost() {
		return nil // whether others find the relay itself, check --self says
	}
	seen := publish.Seen{MX: []string{"."}}
	host, err := publisher.LookHost(ctx, r.resolver, c.PublisherHost(), publicAddresses(c))
	if err != nil {
		return fmt.Errorf("the address of %s cannot be looked up now: %w; set [publisher] addresses", c.PublisherHost(), err)
	}
	there, err := publisher.LookHost(ctx, r.resolver, name, nil)
	seen.Addresses, seen.AddressError = there.Addresses, err
	if why := publish.Unreachable(domain, host, seen); why != "" {
		return errors.New(why)
	}
	return nil
}

// publicAddresses are those of the configuration.
func publicAddresses(c *config.Config) (out []netip.Addr) {
	for _, s := range c.Publisher.Addresses {
		if a, err := netip.ParseAddr(s); err == nil { // checked by config
			out = append(out, a)
		}
	}
	return out
}

// certificateChanged puts a certificate for the relay's own name into use.
func (r *Relay) certificateChanged(name string) {
	if c := r.config.Load(); c.TLS.ACME && name == c.Hostname {
		r.useOwnCertificate()
	}
}

// useOwnCertificate shows the authority's certificate for the relay's own name on all
// listeners, where there is one.
func (r *Relay) useOwnCertificate() {
	cert := r.acme.Of(r.config.Load().Hostname)
	if cert == nil {
		return
	}
	if now, _, _ := r.certs.State(); len(now) == 1 && now[0].Leaf == cert.Leaf {
		return
	}
	r.certs.Set([]tls.Certificate{*cert}, "", "")
	r.log.Info("the relay shows its certificate of the authority", "not_after", cert.Leaf.NotAfter)
}

// watchOwnCertificate follows its renewals until ctx ends.
func (r *Relay) watchOwnCertificate(ctx context.Context) {
	t := time.NewTicker(certificateCheck)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			r.useOwnCertificate()
		}
	}
}

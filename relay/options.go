package relay

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"github.com/stsrelay/stsrelay/config"
	"github.com/stsrelay/stsrelay/internal/container"
	"github.com/stsrelay/stsrelay/relay/delivery"
	"github.com/stsrelay/stsrelay/relay/ingress"
	"github.com/stsrelay/stsrelay/relay/outbound"
	"github.com/stsrelay/stsrelay/relay/security"
)

func configName(c *config.Config) string {
	if c.File == "" {
		return "configuration"
	}
	return c.File
}

// Roots returns the certificate authorities that are trusted for MX and policy hosts.
// It is an error if there are none: every certificate would look like an attack.
func Roots(c *config.Config) (*x509.CertPool, error) {
	if c.Delivery.CAFile == "" {
		return config.SystemAuthorities()
	}
	pool, err := config.ReadAuthorities(c.Delivery.CAFile)
	if err != nil {
		return nil, fmt.Errorf("%s: delivery.ca_file: %s %w", configName(c), c.Delivery.CAFile, err)
	}
	return pool, nil
}

func (r *Relay) settings(c *config.Config) (delivery.Settings, error) {
	rules, err := Rules(c)
	var sources []netip.Addr
	for _, s := range c.Delivery.SourceIP {
		addr, perr := netip.ParseAddr(s)
		if perr == nil {
			perr = config.OwnAddress(addr)
		}
		if perr != nil {
			err = errors.Join(err, fmt.Errorf("%s: delivery.source_ip: %w", configName(c), perr))
		}
		sources = append(sources, addr)
	}
	signer, serr := r.newSigner(c, "mail")
	return delivery.Settings{
		Concurrency:     c.Delivery.Concurrency,
		PerHost:         c.Delivery.ConcurrencyPerHost,
		RefusePlaintext: c.Delivery.Plaintext == "refuse",
		AllowPrivate:    c.Delivery.PrivateAddresses == "allow",
		ConnectTimeout:  time.Duration(c.Delivery.ConnectTimeout),
		DelayNotice:     time.Duration(c.Delivery.DelayNotice),
		LegacyTLS:       c.Delivery.LegacyTLS,
		Family:          outbound.IPFamily(c.Delivery.IPFamily),
		SourceIPs:       sources,
		DANE:            c.DANE.Enabled,
		Rules:           rules,
		Resign:          signer.Resign,
	}, errors.Join(err, serr)
}

// Rules returns the operator's rules for domains. It is an error if a password file
// cannot be read.
func Rules(c *config.Config) (outbound.Rules, error) {
	rules := make(outbound.Rules, len(c.Domains))
	levels := map[string]security.Level{"encrypt": security.Encrypt, "verify": security.Verify, "secure": security.Secure, "dane": security.VerifyDANE}
	for i, d := range c.Domains {
		rule := &outbound.Rule{
			Level: levels[d.TLS], Match: d.Match, Opportunistic: d.TLS == "opportunistic", Override: d.OverridePolicy, PerHost: d.Concurrency,
			Fallback: outbound.Fallback(d.Fallback),
		}
		rules.Add(d.Name, d.Senders, rule)
		if d.Route == "" {
			continue
		}
		host, port, err := config.ParseRoute(d.Route)
		if err != nil {
			return nil, fmt.Errorf("%s: domain[%d].route: %w", configName(c), i, err)
		}
		rule.Route = &outbound.Route{Host: host, Port: port, MX: d.MX, User: d.User}
		if d.User == "" {
			continue
		}
		if rule.Route.Password, err = config.ReadSecret(d.PasswordFile); err != nil {
			return nil, fmt.Errorf("%s: domain[%d].password_file: %s %w", configName(c), i, d.PasswordFile, err)
		}
	}
	return rules, nil
}

func (r *Relay) openIngress(c *config.Config) (*ingress.Server, error) {
	o, err := r.ingressOptions(c)
	if err != nil {
		return nil, err
	}
	return ingress.New(o)
}

func (r *Relay) ingressOptions(c *config.Config) (ingress.Options, error) {
	sign, err := r.mailSigner(c)
	if err != nil {
		return ingress.Options{}, err
	}
	o := ingress.Options{
		Queue:    r.queue,
		Hostname: c.Hostname,
		TLS:      r.certs.ServerTLS,
		Limits: ingress.Limits{
			MessageSize:          int64(c.Limits.MessageSize),
			Recipients:           c.Limits.Recipients,
			Connections:          c.Limits.Connections,
			ConnectionsPerClient: c.Limits.ConnectionsPerClient,
			Hops:                 c.Limits.Hops,
			Rate:                 c.Limits.Rate,
			BareNewline:          c.Limits.BareNewline,
			LongLines:            c.Limits.LongLines,
		},
		Rewrite:            rewrites(c),
		Blocked:            blocked(c),
		Journal:            c.Journal.Address,
		Headers:            ingress.Headers{Strip: c.Headers.Strip, HideInternalHops: c.Headers.HideInternalHops},
		Postmaster:         c.Postmaster(),
		HonorTLSRequiredNo: c.Delivery.HonorTLSRequiredNo,
		Users:              r.passwords.Authenticate,
		Current:            r.passwords.Current,
		Sign:               sign,
		Drop:               r.drop(c),
		Accepted:           r.accepted,
		Refused:            r.refused,
		Gateways:           container.Gateways(),
		Logger:             r.log,
	}
	for _, l := range c.Listen {
		il := ingress.Listener{
			Address: l.Address, TLS: l.TLS, RequireTLS: l.RequireTLS, Allow: prefixes(l.Allow), Auth: l.Auth,
			SenderDomains: l.SenderDomains, ProxyFrom: prefixes(l.ProxyProtocol), MinTLS: ingress.TLSVersion(l.MinTLS),
		}
		if l.ClientCA != "" {
			if il.ClientCAs, err = config.ReadAuthorities(l.ClientCA); err != nil {
				return o, fmt.Errorf("listen %s: client_ca: %s %w", l.Address, l.ClientCA, err)
			}
		}
		o.Listeners = append(o.Listeners, il)
	}
	return o, nil
}

// rewrites are the addresses that are replaced.
func rewrites(c *config.Config) ingress.AddressMap {
	m := make(ingress.AddressMap, len(c.Rewrites))
	for _, r := range c.Rewrites {
		m[r.From] = r.To
	}
	return m
}

// blocked are the recipients that nobody may write to.
func blocked(c *config.Config) ingress.AddressMap {
	m := make(ingress.AddressMap, len(c.Limits.BlockedRecipients))
	for _, a := range c.Limits.BlockedRecipients {
		m[a] = ""
	}
	return m
}

// readCertificates returns the relay's own certificates: those of the configuration,
// or self-signed ones, which are made once and kept in the data folder.
func readCertificates(c *config.Config) ([]tls.Certificate, error) {
	if c.TLS.Certificate == "" {
		certs, err := ingress.SelfSigned(c.Hostname, filepath.Join(c.DataDir, "tls"))
		if err != nil {
			return nil, fmt.Errorf("the relay's own certificate: %w", err)
		}
		return certs, nil
	}
	cert, err := config.ReadCertificate(&c.TLS)
	if err != nil {
		return nil, fmt.Errorf("tls.certificate: %s %w", c.TLS.Certificate, err)
	}
	return []tls.Certificate{cert}, nil
}

func accounts(c *config.Config) []ingress.Account {
	out := make([]ingress.Account, len(c.Users))
	for i, u := range c.Users {
		out[i] = ingress.Account{User: ingress.User{Name: u.Name, SenderDomains: u.SenderDomains}, PasswordHash: u.PasswordHash}
	}
	return out
}

// isSelf reports whether a host is this relay. Listeners are asked for their address,
// since the configuration may leave the port to the system.
func (r *Relay) isSelf(host string, port uint16, addrs []netip.Addr) bool {
	self := outbound.Self{Hostname: r.config.Load().Hostname}
	for _, l := range r.ingress.Addrs() {
		if tcp, ok := l.(*net.TCPAddr); ok {
			self.Listens = append(self.Listens, tcp.AddrPort())
		}
	}
	return self.Is(host, port, addrs)
}

func prefixes(networks []config.Network) []netip.Prefix {
	out := make([]netip.Prefix, len(networks))
	for i, n := range networks {
		out[i] = netip.Prefix(n)
	}
	return out
}

// mailSigner returns what signs relayed mail, nil if no key is for that.
func (r *Relay) mailSigner(c *config.Config) (func(domain string) ingress.Signing, error) {
	signer, err := r.newSigner(c, "mail")
	if err != nil || !slices.ContainsFunc(c.DKIM, func(k config.DKIM) bool { return slices.Contains(k.Sign, "mail") }) {
		return nil, err
	}
	return func(domain string) ingress.Signing {
		signing, err := signer.Begin(domain)
		if err != nil {
			return nil // no key of that domain
		}
		return signing
	}, nil
}

package config

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"strings"

	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/sts/publish"
)

// completePublish fills in what depends on other values.
func (l *loader) completePublish() {
	c := l.config
	l.completePath("publisher.certificate_dir", &c.Publisher.CertificateDir)
	l.completePath("acme.ca_file", &c.ACME.CAFile)
	l.completePath("acme.eab_key_file", &c.ACME.EABKeyFile)
	l.completePath("acme.dns.tsig_secret_file", &c.ACME.DNS.TSIGSecretFile)
	for i := range c.Publish {
		l.completePath(fmt.Sprintf("publish[%d].domains_file", i), &c.Publish[i].DomainsFile)
	}
}

func (l *loader) checkPublisher() {
	p := &l.config.Publisher
	l.oneOf("publisher.tls", p.TLS, "acme", "files", "proxy")
	if p.Host != "" {
		l.domain("publisher.host", &p.Host, "a host name such as mta-sts.example.com")
	}
	for i, a := range p.Addresses {
		addr, err := netip.ParseAddr(a)
		if err != nil {
			l.fail("publisher.addresses", a, "must be an IP address")
			continue
		}
		p.Addresses[i] = addr.Unmap().String()
	}
	for _, n := range p.ProxyProtocol {
		if tooWide(netip.Prefix(n)) {
			l.warn("publisher.proxy_protocol: %s holds so many addresses that strangers among them could claim any address by a PROXY header; name your load balancers", netip.Prefix(n))
		}
	}
	if p.HTTPS == "" && p.HTTP != "" && !l.config.TLS.ACME {
		l.fail("publisher.https", nil, "is missing: http is for the challenges of its certificates alone")
	}
	for key, address := range map[string]string{"publisher.https": p.HTTPS, "publisher.http": p.HTTP} {
		l.checkPublisherAddress(key, address)
	}
	if p.HTTP != "" && overlap(p.HTTP, p.HTTPS) {
		l.fail("publisher.http", p.HTTP, "is the same as publisher.https, or a part of it")
	}
	if p.TLS == "files" && p.HTTPS != "" {
		if !isFolder(p.CertificateDir) {
			l.fail("publisher.certificate_dir", p.CertificateDir, `must be the folder of NAME.pem and NAME.key where tls is "files"`)
		}
	} else if p.CertificateDir != "" {
		l.fail("publisher.certificate_dir", p.CertificateDir, `is for tls = "files" only`)
	}
	l.checkPublished()
	l.checkACME()
}

// checkPublisherAddress checks that an address can be bound beside the others.
func (l *loader) checkPublisherAddress(key, address string) {
	if address == "" {
		return
	}
	if !isHostPort(address) {
		l.fail(key, address, "must be an address and a port such as 0.0.0.0:443")
		return
	}
	for i, li := range l.config.Listen {
		if overlap(li.Address, address) {
			l.fail(key, address, "is the same as %s of listen[%d], or a part of it", li.Address, i)
		}
	}
	if overlap(l.config.Admin.HTTP, address) {
		l.fail(key, address, "is the same as admin.http, or a part of it")
	}
}

func (l *loader) checkPublished() {
	records := make(map[string]int)
	for i := range l.config.Publish {
		p := &l.config.Publish[i]
		key := func(name string) string { return fmt.Sprintf("publish[%d].%s", i, name) }
		for j := range p.Domains {
			l.domain(key("domains"), &p.Domains[j], "a list of domains")
			if isAddress(p.Domains[j]) {
				l.fail(key("domains"), p.Domains[j], "must be a list of domains")
			}
		}
		if len(p.Domains) == 0 && p.DomainsFile == "" {
			l.fail(key("domains"), nil, "is missing: whose policy is it?")
		}
		for j, m := range p.MX {
			rest, wild := strings.CutPrefix(m, "*.")
			if name, err := mailbox.ParseName(rest); err == nil && wild {
				p.MX[j] = "*." + name
			} else if err == nil {
				p.MX[j] = name
			}
		}
		for name, err := range publish.Problems(p.Policy()) {
			l.fail(key(name), nil, "%v", err)
		}
		if w := publish.Warning(p.Policy()); !w.IsZero() {
			l.warn("publish[%d]: %s", i, w)
		}
		if p.Record != "" {
			l.domain(key("record"), &p.Record, "a name such as _mta-sts.provider.example")
			if other, ok := records[p.Record]; ok {
				l.fail(key("record"), p.Record, "is that of publish[%d], too: each policy has an id of its own", other)
			}
			records[p.Record] = i
		}
		l.checkRUA(key("rua"), p.RUA)
	}
	if _, err := l.config.Published(); err != nil {
		l.fail("publish", nil, "%v", err)
	}
}

// checkRUA checks where reports go (RFC 8460, 3): "," and "!" would be read as a part of
// the record.
func (l *loader) checkRUA(key string, uris []string) {
	for _, u := range uris {
		parsed, err := url.Parse(u)
		if err != nil || parsed.Scheme != "mailto" && parsed.Scheme != "https" || strings.ContainsAny(u, ",!; \t") {
			l.fail(key, u, "must be a list of mailto:NAME@DOMAIN and https: addresses; a comma, !, ; in one are written %%2C, %%21, %%3B")
		}
	}
}

func (l *loader) checkACME() {
	a := &l.config.ACME
	l.oneOf("acme.challenge", a.Challenge, "auto", "http-01", "tls-alpn-01", "dns-01")
	l.oneOf("acme.dns.tsig_algorithm", a.DNS.TSIGAlgorithm, "hmac-sha256", "hmac-sha384", "hmac-sha512")
	if u, err := url.Parse(a.Directory); err != nil || u.Scheme != "https" || u.Host == "" {
		l.fail("acme.directory", a.Directory, "must be the https address of an ACME directory")
	}
	if a.Email != "" {
		l.address("acme.email", &a.Email)
	}
	if a.CAFile != "" {
		l.checkAuthorities("acme.ca_file", a.CAFile)
	}
	if (a.EABKeyID == "") != (a.EABKeyFile == "") {
		l.fail("acme.eab_key_id", nil, "and eab_key_file must both be set, or neither")
	} else if a.EABKeyFile != "" {
		secret, err := ReadSecret(a.EABKeyFile)
		if err == nil {
			_, err = base64.RawURLEncoding.DecodeString(strings.TrimRight(secret, "="))
		}
		if err != nil {
			l.fail("acme.eab_key_file", a.EABKeyFile, "%v: it must hold the key in base64url, as the authority shows it", err)
		}
	}
	l.checkACMEDNS()
	l.checkWhoOrders()
}

func (l *loader) checkACMEDNS() {
	d := &l.config.ACME.DNS
	if l.config.ACME.Challenge == "dns-01" && d.Server == "" {
		l.fail("acme.dns.server", nil, "is missing: dns-01 sets its records there by dynamic updates (RFC 2136)")
	}
	if d.Server != "" && !isHostPort(d.Server) {
		l.fail("acme.dns.server", d.Server, "must be an address and a port such as 10.0.0.53:53")
	}
	if (d.TSIGName == "") != (d.TSIGSecretFile == "") {
		l.fail("acme.dns.tsig_name", nil, "and tsig_secret_file must both be set, or neither")
	} else if d.TSIGSecretFile != "" {
		secret, err := ReadSecret(d.TSIGSecretFile)
		if err == nil {
			_, err = base64.StdEncoding.DecodeString(secret)
		}
		if err != nil {
			l.fail("acme.dns.tsig_secret_file", d.TSIGSecretFile, "%v: it must hold the secret in base64", err)
		}
	}
}

// checkWhoOrders checks that certificates are ordered only where they can be had.
func (l *loader) checkWhoOrders() {
	c := l.config
	publisher := c.Publisher.HTTPS != "" && c.Publisher.TLS == "acme"
	if c.TLS.ACME && c.TLS.Certificate != "" {
		l.fail("tls.acme", true, "cannot be true beside certificate: either the relay gets a certificate, or you do")
	}
	if !publisher && !c.TLS.ACME {
		return
	}
	if !c.ACME.Agree {
		l.warn("acme.agree is not true: no certificate is ordered; read the terms of the authority (%s names them), and set agree = true", c.ACME.Directory)
	}
	var can bool
	switch c.ACME.Challenge {
	case "dns-01":
		can = true // its own check tells what is missing
	case "http-01":
		can = c.Publisher.HTTP != ""
	case "tls-alpn-01":
		can = c.Publisher.HTTPS != "" && c.Publisher.TLS != "proxy"
	default:
		can = c.Publisher.HTTP != "" || c.Publisher.HTTPS != "" && c.Publisher.TLS != "proxy" || c.ACME.DNS.Server != ""
	}
	if !can {
		l.fail("acme.challenge", c.ACME.Challenge, "cannot be met: http-01 needs publisher.http (port 80), tls-alpn-01 publisher.https (port 443), dns-01 acme.dns")
	}
}

// secretsOfACME warns of files with secrets that others can read.
func (l *loader) secretsOfACME(secret func(key, file, what string)) {
	a := &l.config.ACME
	secret("acme.eab_key_file", a.EABKeyFile, "a key")
	secret("acme.dns.tsig_secret_file", a.DNS.TSIGSecretFile, "a key")
	if l.config.Publisher.TLS != "files" {
		return
	}
	entries, err := os.ReadDir(l.config.Publisher.CertificateDir)
	if err != nil {
		return // told elsewhere
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".key") {
			secret("publisher.certificate_dir", l.config.Publisher.CertificateDir+"/"+e.Name(), "a private key")
		}
	}
}

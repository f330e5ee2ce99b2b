package config

import (
	"cmp"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"
	"golang.org/x/net/publicsuffix"

	"github.com/stsrelay/stsrelay/internal/dkim"
	"github.com/stsrelay/stsrelay/internal/dnsclient"
	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/internal/store"
)

// complete fills in the defaults that depend on other values, and makes paths absolute:
// files are relative to the folder of the configuration file.
func (l *loader) complete() {
	c := l.config
	if c.Hostname == "" {
		c.Hostname = ownName()
		if !strings.Contains(c.Hostname, ".") {
			l.warn("hostname is not set and this machine's name, %q, has no domain: many hosts refuse such an EHLO; set hostname", c.Hostname)
		}
	}
	if name, err := mailbox.ParseName(c.Hostname); err == nil {
		c.Hostname = name
	}
	base := registered(c.Hostname)
	if c.TLSRPT.Organization == "" {
		c.TLSRPT.Organization = base
	}
	if c.TLSRPT.Contact == "" {
		c.TLSRPT.Contact = "postmaster@" + base
	}
	if c.TLSRPT.Sender == "" {
		c.TLSRPT.Sender = c.TLSRPT.Contact
	}
	l.completePath("tls.certificate", &c.TLS.Certificate)
	l.completePath("tls.key", &c.TLS.Key)
	l.completePath("delivery.ca_file", &c.Delivery.CAFile)
	l.completePath("admin.token_file", &c.Admin.TokenFile)
	l.completePath("queue.url_file", &c.Queue.URLFile)
	l.completePath("notices.webhook_secret_file", &c.Notices.WebhookSecretFile)
	l.completePath("admin.act_token_file", &c.Admin.ActTokenFile)
	for i := range c.DKIM {
		if c.DKIM[i].Sign == nil {
			c.DKIM[i].Sign = []string{"reports"}
		}
		l.completePath(fmt.Sprintf("dkim[%d].key_file", i), &c.DKIM[i].KeyFile)
	}
	for i := range c.Listen {
		l.completePath(fmt.Sprintf("listen[%d].client_ca", i), &c.Listen[i].ClientCA)
	}
	for i := range c.Domains {
		l.completePath(fmt.Sprintf("domain[%d].password_file", i), &c.Domains[i].PasswordFile)
	}
	l.completePublish()
	l.findOtherData()
	if int64(c.Limits.FreeSpace) < store.Floor {
		l.warn("limits.free_space is below what the store needs; %d MiB is used", store.Floor>>20)
		c.Limits.FreeSpace = store.Floor
	}
}

// credentials is how the path of a file begins that systemd hands to its unit by
// LoadCredential=, and credentialsOfUnit where such files lie while the unit runs.
const (
	credentials       = "${CREDENTIALS_DIRECTORY}/"
	credentialsOfUnit = "/run/credentials/stsrelay.service"
)

// completePath makes the path of a file absolute. What systemd hands over is found from
// outside of the unit too, while that runs, so that commands of root need no variable.
func (l *loader) completePath(key string, path *string) {
	if name, ok := strings.CutPrefix(*path, credentials); ok {
		if l.credentials == "" && !isFolder(credentialsOfUnit) {
			l.warn("%s: the variable CREDENTIALS_DIRECTORY is not set, and there is no %s: systemd makes both for a unit with LoadCredential=, while it runs", key, credentialsOfUnit)
		}
		*path = filepath.Join(cmp.Or(l.credentials, credentialsOfUnit), name)
	}
	if *path != "" && !filepath.IsAbs(*path) {
		*path = filepath.Join(filepath.Dir(l.config.File), *path) // of no file: "."
	}
	if *path != "" {
		l.config.Named = append(l.config.Named, *path)
	}
}

// findOtherData looks for a queue in the current folder, where a relay without a
// configuration file keeps it. A relay must not begin with an empty queue while mail
// waits in another one.
func (l *loader) findOtherData() {
	c := l.config
	if _, said := l.lines["data_dir"]; said || l.env["data_dir"] != "" || c.File == "" {
		return
	}
	old, err := filepath.Abs(defaultDataDir)
	if err != nil || old == c.DataDir || !isFolder(filepath.Join(old, "queue")) || isFolder(filepath.Join(c.DataDir, "queue")) {
		return
	}
	l.fail("data_dir", nil, "is not set, so data lies beside the configuration file, in %s; but there is a queue in %s, where a relay without a configuration file keeps it. "+
		"Say data_dir = %q, or move that folder", c.DataDir, old, old)
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func ownName() string {
	name, err := os.Hostname()
	if err != nil {
		return "localhost"
	}
	if !strings.Contains(name, ".") {
		if full, err := net.LookupCNAME(name); err == nil && strings.HasPrefix(full, name+".") {
			name = strings.TrimSuffix(full, ".")
		}
	}
	return name
}

func isAddress(name string) bool {
	_, err := netip.ParseAddr(name)
	return err == nil || strings.HasPrefix(name, "[")
}

func registered(hostname string) string {
	if d, err := publicsuffix.EffectiveTLDPlusOne(hostname); err == nil {
		return d
	}
	return hostname
}

// domain checks a domain and normalizes it: lower case, A-labels, no final dot.
func (l *loader) domain(key string, name *string, must string) {
	d, err := mailbox.ParseName(*name)
	if err != nil {
		l.fail(key, *name, "must be %s", must)
		return
	}
	*name = d
}

// address checks a mail address, and writes its domain as the DNS has it.
func (l *loader) address(key string, a *string) {
	m, err := mailbox.Parse(*a)
	if err != nil {
		l.fail(key, *a, "must be a mail address: %v", err)
		return
	}
	*a = m.String()
}

// domainOrBelow is domain for values that may also be ".domain": all domains below it.
func (l *loader) domainOrBelow(key string, name *string, must string) {
	rest, below := strings.CutPrefix(*name, ".")
	d, err := mailbox.ParseName(rest)
	if err != nil {
		l.fail(key, *name, "must be %s", must)
		return
	}
	if *name = d; below {
		*name = "." + d
	}
}

// oneOf checks a value that comes from a closed set.
func (l *loader) oneOf(key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		l.fail(key, value, "must be %s", quote(allowed))
	}
}

func (l *loader) atLeast(key string, value, least int) {
	if value < least {
		l.fail(key, value, "must be at least %d", least)
	}
}

func (l *loader) check() {
	c := l.config
	if _, err := mailbox.ParseName(c.Hostname); err != nil || isAddress(c.Hostname) {
		l.fail("hostname", c.Hostname, "must be a host name such as relay.example.com")
	}
	if there, err := os.Stat(c.DataDir); c.DataDir == "" || err == nil && !there.IsDir() {
		l.fail("data_dir", c.DataDir, "must be a folder")
	}
	if len(c.Listen) == 0 {
		l.fail("listen", nil, "there must be at least one [[listen]]")
	}
	for i := range c.Listen {
		l.checkListen(i)
	}
	l.checkFiles()
	l.checkUsers()
	l.checkLimits()
	l.checkHeaders()
	l.checkAddresses()
	l.oneOf("notices.language", c.Notices.Language, "en", "de")
	l.checkQueue()
	l.oneOf("history.addresses", c.History.Addresses, "full", "domain", "hashed")
	if keep := time.Duration(c.History.Keep); keep < 0 || keep > 0 && keep < 24*time.Hour {
		l.fail("history.keep", c.History.Keep, "must be at least 24h: the history goes by whole days; \"0\" keeps none")
	}
	if c.Notices.Operator != "" {
		l.address("notices.operator", &c.Notices.Operator)
	}
	l.checkWebhook()
	for i, s := range c.DNS.Servers {
		if _, err := dnsclient.ParseServer(s); err != nil {
			l.fail("dns.servers", c.DNS.Servers[i], "%v", err)
		}
	}
	l.oneOf("dns.trust_ad", c.DNS.TrustAD, "auto", "always", "never")
	l.checkDelivery()
	l.address("tlsrpt.contact", &c.TLSRPT.Contact)
	l.address("tlsrpt.sender", &c.TLSRPT.Sender)
	for i := range c.TLSRPT.Skip {
		l.domainOrBelow("tlsrpt.skip", &c.TLSRPT.Skip[i], "a list of domains, or .domain for all below one")
	}
	l.checkDKIM()
	if w := c.UnsignedReports(); w != "" {
		l.warn("%s", w)
	}
	l.checkDomains()
	l.checkAdmin()
	l.checkPublisher()
	l.checkReports()
	l.checkSecrets()
	l.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	l.oneOf("log.format", c.Log.Format, "auto", "json", "text")
	if l.strict {
		l.checkMachine()
	}
}

func (l *loader) checkListen(i int) {
	li := &l.config.Listen[i]
	key := func(name string) string { return fmt.Sprintf("listen[%d].%s", i, name) }
	if !isHostPort(li.Address) {
		l.fail(key("address"), li.Address, "must be an address and a port such as 0.0.0.0:25")
	}
	l.oneOf(key("tls"), li.TLS, "none", "starttls", "implicit")
	l.oneOf(key("min_tls"), li.MinTLS, "1.0", "1.1", "1.2", "1.3")
	if li.TLS == "none" && li.RequireTLS {
		l.fail(key("require_tls"), nil, `cannot be true where tls is "none"`)
	}
	if li.TLS == "none" && li.Auth {
		l.fail(key("auth"), nil, `cannot be true where tls is "none": passwords go over TLS only`)
	}
	if li.TLS == "none" && li.ClientCA != "" {
		l.fail(key("client_ca"), li.ClientCA, `needs tls "starttls" or "implicit"`)
	}
	for _, n := range li.Allow {
		if tooWide(netip.Prefix(n)) && !li.Open {
			l.fail(key("allow"), netip.Prefix(n), "would let the whole Internet, or a great part of it, send through this relay; name your own networks, or say open = true beside it if that is what you want")
		}
	}
	l.checkGateway(i)
	if len(li.Allow) == 0 && !li.Auth && li.ClientCA == "" {
		l.fail(key("allow"), nil, "is empty, and neither auth nor client_ca is set: nobody could send; name the networks that may")
	}
	if li.ClientCA != "" {
		l.checkAuthorities(key("client_ca"), li.ClientCA)
	}
	for j := range li.SenderDomains {
		l.domain(key("sender_domains"), &li.SenderDomains[j], "a list of domains")
	}
	for j := range i {
		switch other := l.config.Listen[j].Address; {
		case other == li.Address:
			l.fail(key("address"), li.Address, "stands twice")
		case overlap(other, li.Address):
			l.fail(key("address"), li.Address, "is the same as %s of listen[%d], or a part of it", other, j)
		}
	}
}

// overlap reports whether no two listeners can have these addresses: ":25" is all addresses
// of the machine, as are "0.0.0.0:25" and "[::]:25".
func overlap(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || portA != portB || portA == "0" {
		return false
	}
	all := func(host string) bool {
		addr, err := netip.ParseAddr(host)
		return host == "" || err == nil && addr.IsUnspecified()
	}
	return hostA == hostB || all(hostA) || all(hostB)
}

// tooWide reports whether a network is larger than any organization's own: several of
// them could make up the whole Internet.
func tooWide(p netip.Prefix) bool {
	if p.Addr().Is4() {
		return p.Bits() < 8
	}
	return p.Bits() < 16 && !p.Addr().IsPrivate() && !p.Addr().IsLinkLocalUnicast()
}

func isHostPort(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	n, err := strconv.Atoi(port)
	if err != nil || n < 0 || n > 65535 {
		return false
	}
	_, err = netip.ParseAddr(host)
	return host == "" || host == "localhost" || err == nil
}

func (l *loader) checkFiles() {
	t := &l.config.TLS
	switch {
	case (t.Certificate == "") != (t.Key == ""):
		l.fail("tls", nil, "certificate and key must both be set, or neither")
	case t.Certificate != "":
		cert, err := ReadCertificate(t)
		if err != nil {
			l.fail("tls.certificate", t.Certificate, "%v", err)
			break
		}
		_, isRSA := cert.PrivateKey.(*rsa.PrivateKey)
		for i, li := range l.config.Listen {
			if !isRSA && (li.MinTLS == "1.0" || li.MinTLS == "1.1") {
				l.warn("listen[%d].min_tls is %s and the certificate is not RSA: devices that know nothing newer will not be able to use it", i, li.MinTLS)
			}
		}
	}
	if f := l.config.Delivery.CAFile; f != "" {
		l.checkAuthorities("delivery.ca_file", f)
		data, _ := os.ReadFile(f) // that it cannot be read was told
		l.config.Delivery.CASum = sha256.Sum256(data)
	}
	l.checkTokens()
}

func (l *loader) checkAuthorities(key, file string) {
	if _, err := ReadAuthorities(file); err != nil {
		l.fail(key, file, "%v", err)
	}
}

const (
	// bcryptLength is the length of a bcrypt hash. bcrypt takes longer ones, and no
	// password has them.
	bcryptLength = 60
	// maxBcryptCost takes some seconds; each further step doubles them.
	maxBcryptCost = 16
)

func (l *loader) checkUsers() {
	for i, u := range l.config.Users {
		if u.Name == "" {
			l.fail(fmt.Sprintf("user[%d].name", i), nil, "is missing")
		}
		switch cost, err := bcrypt.Cost([]byte(u.PasswordHash)); {
		case err != nil || len(u.PasswordHash) != bcryptLength:
			l.fail(fmt.Sprintf("user[%d].password_hash", i), nil, "must be a bcrypt hash; make it with: stsrelay user hash")
		case cost > maxBcryptCost:
			l.fail(fmt.Sprintf("user[%d].password_hash", i), nil, "has cost %d: each log-in, of strangers too, would keep a processor busy for long; %d is the most", cost, maxBcryptCost)
		}
		for j := range u.SenderDomains {
			l.domain(fmt.Sprintf("user[%d].sender_domains", i), &u.SenderDomains[j], "a list of domains")
		}
		for j := range i {
			if strings.EqualFold(l.config.Users[j].Name, u.Name) {
				l.fail(fmt.Sprintf("user[%d].name", i), u.Name, "stands twice")
			}
		}
	}
}

func (l *loader) checkLimits() {
	m := &l.config.Limits
	if m.MessageSize < 64<<10 {
		l.fail("limits.message_size", nil, "must be at least 64KiB (RFC 5321, 4.5.3.1.7)")
	}
	l.atLeast("limits.recipients", m.Recipients, 1)
	// A message is ended in one commit, which removes a record for each domain of
	// its recipients and for each 256 KiB; the store takes 13,000 at a time.
	if m.MessageSize > 1<<30 {
		l.fail("limits.message_size", nil, "must be at most 1GiB: the store could not remove a larger message")
	}
	if m.Recipients > 5000 {
		l.fail("limits.recipients", m.Recipients, "must be at most 5000: the store could not remove a message of more")
	}
	l.atLeast("limits.connections", m.Connections, 1)
	l.atLeast("limits.connections_per_client", m.ConnectionsPerClient, 1)
	l.atLeast("limits.hops", m.Hops, 1)
	l.atLeast("limits.rate", m.Rate, 0)
	l.atLeast("limits.queue_length", m.QueueLength, 0)
	l.oneOf("limits.bare_newline", m.BareNewline, "normalize", "reject")
	l.oneOf("limits.long_lines", m.LongLines, "convert", "pass", "reject")
}

// requiredFields are the fields that every message needs, and those by which mail loops
// are found.
var requiredFields = []string{"from", "date", "received", "message-id", "mime-version", "content-type", "content-transfer-encoding"}

func (l *loader) checkHeaders() {
	for _, name := range l.config.Headers.Strip {
		stem := strings.ToLower(strings.TrimSuffix(name, "*"))
		if stem == "" || strings.ContainsFunc(stem, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' || r == '*' }) {
			l.fail("headers.strip", name, "must be the name of a header field, such as X-Originating-IP or X-MS-Exchange-*")
			continue
		}
		for _, k := range requiredFields {
			if stem == k || strings.HasSuffix(name, "*") && strings.HasPrefix(k, stem) {
				l.fail("headers.strip", name, "must not take away %s (for Received there is hide_internal_hops)", k)
			}
		}
	}
}

func (l *loader) checkDelivery() {
	l.oneOf("delivery.ip_family", l.config.Delivery.IPFamily, "any", "ipv4", "ipv6")
	families := make(map[bool]string)
	for _, s := range l.config.Delivery.SourceIP {
		addr, err := netip.ParseAddr(s)
		if err != nil {
			l.fail("delivery.source_ip", s, "must be an IP address of this machine")
		} else if other := families[addr.Is4()]; other != "" {
			l.fail("delivery.source_ip", s, "is of the same family as %s: there may be one IPv4 and one IPv6 address", other)
		}
		families[addr.Is4()] = s
	}
	d := &l.config.Delivery
	if len(d.Retry) == 0 {
		l.fail("delivery.retry", nil, "must have at least one time")
	}
	for _, r := range d.Retry {
		if time.Duration(r) < time.Second {
			l.fail("delivery.retry", r, "must not be shorter than 1s")
		}
	}
	if len(d.Retry) > 0 && d.Expire < d.Retry[0] {
		l.fail("delivery.expire", d.Expire, "must not be shorter than the first retry (%s)", d.Retry[0])
	}
	l.atLeast("delivery.concurrency", d.Concurrency, 1)
	l.atLeast("delivery.concurrency_per_host", d.ConcurrencyPerHost, 0)
	l.oneOf("delivery.plaintext", d.Plaintext, "allow", "refuse")
	l.oneOf("delivery.private_addresses", d.PrivateAddresses, "refuse", "allow")
	if time.Duration(d.ConnectTimeout) < 100*time.Millisecond {
		l.fail("delivery.connect_timeout", d.ConnectTimeout, "must be at least 100ms")
	}
}

func (l *loader) checkDKIM() {
	for i := range l.config.DKIM {
		k := &l.config.DKIM[i]
		key := func(name string) string { return fmt.Sprintf("dkim[%d].%s", i, name) }
		l.domain(key("domain"), &k.Domain, "a domain")
		if _, err := mailbox.ParseDomain(k.Selector); err != nil {
			l.fail(key("selector"), k.Selector, "must be a name such as relay1")
		}
		for _, s := range k.Sign {
			l.oneOf(key("sign"), s, "reports", "mail")
		}
		if _, err := dkim.ReadFile(k.KeyFile); err != nil {
			l.fail(key("key_file"), k.KeyFile, "%v", err)
		}
	}
}

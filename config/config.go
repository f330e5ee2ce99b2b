// Package config reads the configuration: a TOML file, the environment, the
// defaults, and the checks that a value has to pass. The result is a plain
// struct that is handed down; nothing here starts or opens anything but the
// files that are checked.
package config

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Config is the whole configuration. The toml tags are the keys of the file. What has
// the tag restart counts from the next start: its value is the key that a reload names,
// "" for that of the field. Of listeners, see KeepRunning.
type Config struct {
	// Hostname is the name in EHLO, Received and Reporting-MTA.
	Hostname string    `toml:"hostname" json:"hostname" restart:""`
	DataDir  string    `toml:"data_dir" json:"data_dir" restart:""`
	Listen   []Listen  `toml:"listen" json:"listen"`
	TLS      TLS       `toml:"tls" json:"tls"`
	Users    []User    `toml:"user" json:"user"`
	Limits   Limits    `toml:"limits" json:"limits"`
	DNS      DNS       `toml:"dns" json:"dns" restart:""`
	Delivery Delivery  `toml:"delivery" json:"delivery"`
	STS      Switch    `toml:"sts" json:"sts" restart:"sts.enabled"`
	DANE     Switch    `toml:"dane" json:"dane"`
	TLSRPT   TLSRPT    `toml:"tlsrpt" json:"tlsrpt"`
	Reports  Reports   `toml:"reports" json:"reports"`
	DKIM     []DKIM    `toml:"dkim" json:"dkim"`
	Domains  []Domain  `toml:"domain" json:"domain"`
	Headers  Headers   `toml:"headers" json:"headers"`
	Rewrites []Rewrite `toml:"rewrite" json:"rewrite"`
	Journal  Journal   `toml:"journal" json:"journal"`
	Notices  Notices   `toml:"notices" json:"notices"`
	History  History   `toml:"history" json:"history"`
	// Publisher serves the policies of Publish; ACME gets certificates for it.
	Publisher Publisher `toml:"publisher" json:"publisher" restart:""`
	Publish   []Publish `toml:"publish" json:"publish"`
	ACME      ACME      `toml:"acme" json:"acme" restart:""`
	Queue     Queue     `toml:"queue" json:"queue" restart:""`
	Fleet     Fleet     `toml:"fleet" json:"fleet" restart:""`
	Admin     Admin     `toml:"admin" json:"admin" restart:""`
	Log       Log       `toml:"log" json:"log"`

	// File is the file that was read, "" where there was none.
	File string `toml:"-" json:"-"`
	// Empty reports whether the file has not one octet.
	Empty bool `toml:"-" json:"-"`
	// Named are the absolute paths of the files and folders that the configuration names,
	// DataDir left out.
	Named []string `toml:"-" json:"-"`
}

// Listen is a listener for mail.
type Listen struct {
	Address string `toml:"address" json:"address"`
	// TLS is "none", "starttls" or "implicit".
	TLS        string `toml:"tls" json:"tls"`
	RequireTLS bool   `toml:"require_tls" json:"require_tls"`
	// Allow are the networks that may relay without AUTH.
	Allow []Network `toml:"allow" json:"allow"`
	// Open is needed beside an Allow of a whole Internet.
	Open bool `toml:"open" json:"open"`
	// AllowGateway is needed in a container where Allow or ProxyProtocol holds the
	// container's gateway: connections that the engine hands over come from there.
	AllowGateway bool `toml:"allow_gateway" json:"allow_gateway"`
	Auth         bool `toml:"auth" json:"auth"`
	// MinTLS is "1.0", "1.1", "1.2" or "1.3".
	MinTLS string `toml:"min_tls" json:"min_tls"`
	// ClientCA is a file of the authorities whose client certificates may relay.
	ClientCA string `toml:"client_ca" json:"client_ca"`
	// SenderDomains are the domains that senders may claim; empty: any.
	SenderDomains []string `toml:"sender_domains" json:"sender_domains"`
	// ProxyProtocol are the load balancers whose PROXY header is believed.
	ProxyProtocol []Network `toml:"proxy_protocol" json:"proxy_protocol"`
}

// TLS is the relay's own certificate.
type TLS struct {
	Certificate string `toml:"certificate" json:"certificate"`
	Key         string `toml:"key" json:"key"`
	// ACME gets a certificate for Hostname from the authority of [acme].
	ACME bool `toml:"acme" json:"acme" restart:""`
}

// User may send with AUTH.
type User struct {
	Name         string `toml:"name" json:"name"`
	PasswordHash string `toml:"password_hash" json:"password_hash" secret:"true"`
	// SenderDomains are the domains that the user may claim; empty: any.
	SenderDomains []string `toml:"sender_domains" json:"sender_domains"`
}

// Limits bound what comes in.
type Limits struct {
	MessageSize          Size `toml:"message_size" json:"message_size"`
	Recipients           int  `toml:"recipients" json:"recipients"`
	Connections          int  `toml:"connections" json:"connections"`
	ConnectionsPerClient int  `toml:"connections_per_client" json:"connections_per_client"`
	FreeSpace            Size `toml:"free_space" json:"free_space" restart:""`
	// TrashSize bounds the removed mail that is kept for a day; 0: none is kept.
	TrashSize Size `toml:"trash_size" json:"trash_size" restart:""`
	Hops      int  `toml:"hops" json:"hops"`
	// BareNewline is "normalize" or "reject".
	BareNewline string `toml:"bare_newline" json:"bare_newline"`
	// LongLines is "convert", "pass" or "reject".
	LongLines string `toml:"long_lines" json:"long_lines"`
	// Rate is messages a minute for one client address, and for one user; 0: no
	// limit.
	Rate int `toml:"rate" json:"rate"`
	// BlockedRecipients are addresses, domains, or with a leading dot all domains below
	// one, that nobody may write to.
	BlockedRecipients []string `toml:"blocked_recipients" json:"blocked_recipients"`
	// QueueLength is how many messages may wait; 0: no limit.
	QueueLength int `toml:"queue_length" json:"queue_length"`
}

// Headers configures changes to the headers of relayed mail.
type Headers struct {
	// Strip lists fields that are removed; a final * stands for any ending.
	Strip []string `toml:"strip" json:"strip"`
	// HideInternalHops removes the Received fields from before this relay.
	HideInternalHops bool `toml:"hide_internal_hops" json:"hide_internal_hops"`
}

// Rewrite replaces addresses in the envelope and in the header of mail that comes in.
type Rewrite struct {
	// From is an address, a domain, or with a leading dot all domains below one.
	From string `toml:"from" json:"from"`
	// To is an address, or a domain that takes the place of the address's own.
	To string `toml:"to" json:"to"`
}

// Journal is a copy of all mail that comes in.
type Journal struct {
	// Address gets a copy of every message; "": there are no copies.
	Address string `toml:"address" json:"address"`
}

// Notices are the messages to senders about delays and failures, and to the
// operator about trouble.
type Notices struct {
	// Language is "en" or "de", also of what the operator is told.
	Language string `toml:"language" json:"language"`
	// Operator is the address of the operator, for mail about what they should know
	// of. "": nobody is told.
	Operator string `toml:"operator" json:"operator"`
	// Webhook is a URL that gets the same as JSON: mail cannot leave when nothing is
	// delivered. "": none does.
	Webhook string `toml:"webhook" json:"webhook"`
	// WebhookSecretFile has what is sent with it as a Bearer token, "" for nothing.
	WebhookSecretFile string `toml:"webhook_secret_file" json:"webhook_secret_file"`
}

// History is what is kept of messages that have left.
type History struct {
	// Keep is how long; 0: nothing is kept.
	Keep Duration `toml:"keep" json:"keep"`
	// Size bounds all its files together; the oldest day goes first.
	Size Size `toml:"size" json:"size"`
	// Addresses is "full", "domain" or "hashed".
	Addresses string `toml:"addresses" json:"addresses"`
	// Subject keeps the Subject of each message too.
	Subject bool `toml:"subject" json:"subject"`
}

// Queue is where the queue is kept.
type Queue struct {
	// Engine is "badger", the data folder of this relay, or "postgres", which several
	// relays share.
	Engine string `toml:"engine" json:"engine"`
	// URLFile is a file with the URL or DSN of PostgreSQL.
	URLFile string `toml:"url_file" json:"url_file"`
	// Replication is "required" (synchronous standbys), "managed" (the provider
	// replicates) or "none" (one disk has the mail).
	Replication string `toml:"replication" json:"replication"`
}

// Fleet is this relay among several that share one PostgreSQL.
type Fleet struct {
	// Name is the name of this relay, which it keeps for ever; "": the hostname.
	Name string `toml:"name" json:"name"`
	// Term is how long the relay holds its messages without a word to PostgreSQL.
	// Another relay takes them over after it.
	Term Duration `toml:"term" json:"term"`
}

// Shared reports whether the queue is in a PostgreSQL that several relays share.
func (c *Config) Shared() bool { return c.Queue.Engine == "postgres" }

// FleetName is the name of this relay in its fleet.
func (c *Config) FleetName() string {
	if c.Fleet.Name != "" {
		return c.Fleet.Name
	}
	return c.Hostname
}

// Postmaster is the address that gets mail to <postmaster>: the operator's, or that of
// the postmaster of the relay's own domain.
func (c *Config) Postmaster() string {
	if c.Notices.Operator != "" {
		return c.Notices.Operator
	}
	return "postmaster@" + registered(c.Hostname)
}

// ListenAddrs returns the addresses at which a relay with this configuration listens,
// without those that are names.
func (c *Config) ListenAddrs() (out []netip.AddrPort) {
	for _, l := range c.Listen {
		address := l.Address
		if strings.HasPrefix(address, ":") {
			address = "0.0.0.0" + address
		}
		if a, err := netip.ParseAddrPort(address); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// DNS is the resolver.
type DNS struct {
	Servers []string `toml:"servers" json:"servers"`
	// TrustAD is "auto", "always" or "never".
	TrustAD string `toml:"trust_ad" json:"trust_ad"`
}

// Delivery is the way out.
type Delivery struct {
	Retry       []Duration `toml:"retry" json:"retry"`
	Expire      Duration   `toml:"expire" json:"expire"`
	DelayNotice Duration   `toml:"delay_notice" json:"delay_notice"`
	Concurrency int        `toml:"concurrency" json:"concurrency"`
	// ConcurrencyPerHost bounds the sessions to one host; 0: 10, and up to 50 to a host
	// far away that takes more mail over more sessions.
	ConcurrencyPerHost int `toml:"concurrency_per_host" json:"concurrency_per_host"`
	// Plaintext is "allow" or "refuse".
	Plaintext string `toml:"plaintext" json:"plaintext"`
	CAFile    string `toml:"ca_file" json:"ca_file" restart:""`
	// CASum is the SHA-256 of CAFile's content.
	CASum          [sha256.Size]byte `toml:"-" json:"-" restart:"delivery.ca_file"`
	ConnectTimeout Duration          `toml:"connect_timeout" json:"connect_timeout"`
	// PrivateAddresses is "refuse" or "allow".
	PrivateAddresses string `toml:"private_addresses" json:"private_addresses"`
	Paused           bool   `toml:"paused" json:"paused"`
	// LegacyTLS speaks TLS 1.0 and 1.1 to hosts of which nobody asks for more.
	LegacyTLS bool `toml:"legacy_tls" json:"legacy_tls"`
	// SourceIP are the addresses that connections to hosts come from, at most one
	// of each family; empty: the system's choice.
	SourceIP []string `toml:"source_ip" json:"source_ip"`
	// IPFamily is "any", "ipv4" or "ipv6".
	IPFamily string `toml:"ip_family" json:"ip_family"`
	// HonorTLSRequiredNo lets a sender waive TLS (RFC 8689).
	HonorTLSRequiredNo bool `toml:"honor_tls_required_no" json:"honor_tls_required_no"`
}

// Switch is a feature that is on or off.
type Switch struct {
	Enabled bool `toml:"enabled" json:"enabled"`
}

// TLSRPT configures the TLS reports to recipient domains.
type TLSRPT struct {
	Enabled      bool   `toml:"enabled" json:"enabled" restart:""`
	Organization string `toml:"organization" json:"organization"`
	Contact      string `toml:"contact" json:"contact"`
	Sender       string `toml:"sender" json:"sender"`
	// InsecureHTTPS posts reports to receivers whose certificate does not hold.
	InsecureHTTPS bool `toml:"insecure_https" json:"insecure_https"`
	// Skip are domains, or with a leading dot all below one, for which nothing is
	// counted and no report is sent.
	Skip []string `toml:"skip" json:"skip"`
}

// Skips reports whether no reports are made for a domain.
func (t *TLSRPT) Skips(domain string) bool {
	return slices.ContainsFunc(t.Skip, func(s string) bool {
		return strings.EqualFold(s, domain) || strings.HasPrefix(s, ".") && len(domain) > len(s) && strings.EqualFold(domain[len(domain)-len(s):], s)
	})
}

// UnsignedReports returns a warning where no DKIM key signs the mailed reports, which are
// not sent then, else "". Receivers throw unsigned ones away (RFC 8460, 3).
func (c *Config) UnsignedReports() string {
	if !c.TLSRPT.Enabled || c.ReportKey() != nil {
		return ""
	}
	domain := c.ReportDomain()
	return fmt.Sprintf("tlsrpt: no [[dkim]] key of %s signs \"reports\": mailed TLS reports are not sent. "+
		"`stsrelay report setup` makes one and prints the TXT record to publish (SELECTOR._domainkey.%s, \"v=DKIM1; k=…; s=tlsrpt:email; p=…\")", domain, domain)
}

// ReportDomain is the domain that reports are mailed from, which must sign them.
func (c *Config) ReportDomain() string {
	return strings.ToLower(c.TLSRPT.Sender[strings.LastIndexByte(c.TLSRPT.Sender, '@')+1:])
}

// ReportKey is the first DKIM key that signs reports, nil where there is none.
func (c *Config) ReportKey() *DKIM {
	for i := range c.DKIM {
		if k := &c.DKIM[i]; strings.EqualFold(k.Domain, c.ReportDomain()) && slices.Contains(k.Sign, "reports") {
			return k
		}
	}
	return nil
}

// DKIM is a signing key.
type DKIM struct {
	Domain   string `toml:"domain" json:"domain"`
	Selector string `toml:"selector" json:"selector"`
	KeyFile  string `toml:"key_file" json:"key_file"`
	// Sign lists what is signed: "reports", "mail"; default reports.
	Sign []string `toml:"sign" json:"sign"`
}

// Domain is the operator's rule for a recipient domain.
type Domain struct {
	// Name is a domain, with a leading dot all below it, or "*" for all domains. The most
	// specific name counts, alone.
	Name string `toml:"name" json:"name"`
	// Senders are the domains, or with a leading dot all below one, from which mail must
	// come for the rule to count; empty: any.
	Senders []string `toml:"senders" json:"senders"`
	// TLS is "verify", "secure", "dane", "encrypt" or "opportunistic".
	TLS string `toml:"tls" json:"tls"`
	// Match are the names that a certificate must be for where TLS is "secure": a
	// host name, "*.domain" for one label below, ".domain" for all below. Empty: the
	// next-hop domain and all below it.
	Match []string `toml:"match" json:"match"`
	// Route is the next hop, "host", "host:port" or "[IPv6]:port".
	Route string `toml:"route" json:"route"`
	// Fallback is "" for a route that is the only way, or the mail that takes it where no
	// MX host of the domain can be used: "unbound", that which no enforced policy and no
	// TLSA record binds, or "all".
	Fallback string `toml:"fallback" json:"fallback"`
	// MX sends to the MX hosts of the route's host, not to that host itself.
	MX bool `toml:"mx" json:"mx"`
	// User and the first line of PasswordFile log in at the route (RFC 4954).
	User         string `toml:"user" json:"user"`
	PasswordFile string `toml:"password_file" json:"password_file"`
	// OverridePolicy lets the rule stand in for what the domain publishes.
	OverridePolicy bool `toml:"override_policy" json:"override_policy"`
	// Concurrency bounds the sessions to one host; 0: concurrency_per_host.
	Concurrency int `toml:"concurrency" json:"concurrency"`
}

// Admin configures the admin socket and the web page.
type Admin struct {
	Socket string `toml:"socket" json:"socket"`
	HTTP   string `toml:"http" json:"http"`
	// TLS reports whether HTTP is served over TLS, with the relay's certificate.
	TLS bool `toml:"tls" json:"tls"`
	// TokenFile has the token to look at the page, ActTokenFile the token to change
	// something there; "": nothing can be changed there.
	TokenFile    string `toml:"token_file" json:"token_file"`
	ActTokenFile string `toml:"act_token_file" json:"act_token_file"`
	// TokenSums are the SHA-256 of the two tokens: new ones count from the next start.
	TokenSums [2][sha256.Size]byte `toml:"-" json:"-"`
}

// Log is what is written to standard error.
type Log struct {
	// Level is "debug", "info", "warn" or "error".
	Level string `toml:"level" json:"level"`
	// Format is "json", "text", or "auto": text at a terminal, JSON elsewhere.
	Format string `toml:"format" json:"format" restart:""`
}

// defaultDataDir is relative to the folder of the configuration file; without one
// to the present folder.
const defaultDataDir = "./stsrelay-data"

// Default returns the documented defaults. Those that depend on other values (the name
// of the host, the contact of reports) are empty, and filled in by Load.
func Default() Config {
	return Config{
		DataDir: defaultDataDir,
		Listen:  []Listen{defaultListen()},
		Limits: Limits{
			MessageSize: 50 << 20, Recipients: 1000, Connections: 1000, ConnectionsPerClient: 100,
			FreeSpace: 1 << 30, TrashSize: 1 << 30, Hops: 50, BareNewline: "normalize", LongLines: "convert",
		},
		DNS: DNS{TrustAD: "auto"},
		Delivery: Delivery{
			Retry:              []Duration{Duration(time.Minute), Duration(5 * time.Minute), Duration(15 * time.Minute), Duration(30 * time.Minute), Duration(time.Hour), Duration(2 * time.Hour), Duration(4 * time.Hour)},
			Expire:             Duration(120 * time.Hour),
			DelayNotice:        Duration(4 * time.Hour),
			Concurrency:        500,
			Plaintext:          "allow",
			ConnectTimeout:     Duration(30 * time.Second),
			PrivateAddresses:   "refuse",
			IPFamily:           "any",
			HonorTLSRequiredNo: true,
		},
		STS:       Switch{Enabled: true},
		DANE:      Switch{Enabled: true},
		TLSRPT:    TLSRPT{Enabled: true},
		Reports:   Reports{Keep: Duration(9600 * time.Hour)},
		Notices:   Notices{Language: "en"},
		History:   History{Keep: Duration(720 * time.Hour), Size: 2 << 30, Addresses: "full"},
		Publisher: Publisher{TLS: "acme"},
		ACME:      ACME{Directory: LetsEncrypt, Challenge: "auto", DNS: ACMEDNS{TSIGAlgorithm: "hmac-sha256"}},
		Queue:     Queue{Engine: "badger", Replication: "required"},
		Fleet:     Fleet{Term: Duration(20 * time.Second)},
		Admin:     Admin{Socket: "stsrelay.sock"},
		Log:       Log{Level: "info", Format: "auto"},
	}
}

func defaultListen() Listen {
	return Listen{
		Address: "127.0.0.1:2525", TLS: "starttls", MinTLS: "1.2",
		Allow: []Network{Network(netip.MustParsePrefix("127.0.0.0/8")), Network(netip.MustParsePrefix("::1/128"))},
	}
}

// SocketPath is the admin socket; a relative one lies in the data folder.
func (c *Config) SocketPath() string {
	if filepath.IsAbs(c.Admin.Socket) {
		return c.Admin.Socket
	}
	path := filepath.Join(c.DataDir, c.Admin.Socket)
	if len(path) <= maxSocketPath {
		return path
	}
	// A folder deep below may still be near.
	if here, err := os.Getwd(); err == nil {
		if near, err := filepath.Rel(here, path); err == nil && len(near) < len(path) {
			return near
		}
	}
	return path
}

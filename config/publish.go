package config

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/sts"
	"github.com/stsrelay/stsrelay/sts/publish"
)

// LetsEncrypt is the directory that certificates come from where no other is named.
const LetsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

// Publisher serves policies over HTTPS. It is off where HTTPS is empty.
type Publisher struct {
	// HTTPS is the address and port that policies are served at.
	HTTPS string `toml:"https" json:"https"`
	// HTTP is the address and port for the challenge http-01; it serves nothing else.
	HTTP string `toml:"http" json:"http"`
	// TLS is "acme", "files", or "proxy": then a proxy does TLS, and HTTPS speaks plain
	// HTTP.
	TLS string `toml:"tls" json:"tls"`
	// CertificateDir holds NAME.pem and NAME.key where TLS is "files".
	CertificateDir string `toml:"certificate_dir" json:"certificate_dir"`
	// ProxyProtocol are the load balancers whose PROXY header is believed.
	ProxyProtocol []Network `toml:"proxy_protocol" json:"proxy_protocol"`
	// Host is the name that the CNAME records of policy hosts point to; empty:
	// Hostname. See Config.PublisherHost.
	Host string `toml:"host" json:"host"`
	// Addresses are those of Host as others see them; empty: its A and AAAA records.
	Addresses []string `toml:"addresses" json:"addresses"`
}

// PublisherHost returns the name that the CNAME records of policy hosts point to.
func (c *Config) PublisherHost() string { return cmp.Or(c.Publisher.Host, c.Hostname) }

// Publish is a policy, and the domains that it is published for.
type Publish struct {
	Domains []string `toml:"domains" json:"domains"`
	// DomainsFile holds further domains, one a line; it is read again when it changes.
	DomainsFile string `toml:"domains_file" json:"domains_file"`
	// Mode is "testing", "enforce" or "none".
	Mode   string   `toml:"mode" json:"mode"`
	MX     []string `toml:"mx" json:"mx"`
	MaxAge Duration `toml:"max_age" json:"max_age"`
	// Record is the name of the TXT record with the id, for domains whose _mta-sts record
	// is a CNAME to it; "": each has a TXT record of its own.
	Record string `toml:"record" json:"record"`
	// RUA are the URIs that TLS reports about the domains go to.
	RUA []string `toml:"rua" json:"rua"`
}

// ACME is the authority that certificates come from (RFC 8555).
type ACME struct {
	Directory string `toml:"directory" json:"directory"`
	// Agree is true where the operator agrees to the terms of the authority.
	Agree bool   `toml:"agree" json:"agree"`
	Email string `toml:"email" json:"email"`
	// CAFile has the roots of the directory's own certificate; "": the system's.
	CAFile string `toml:"ca_file" json:"ca_file"`
	// Profile is one that the authority names in its directory; "": its default.
	Profile string `toml:"profile" json:"profile"`
	// Challenge is "auto", "http-01", "tls-alpn-01" or "dns-01".
	Challenge string `toml:"challenge" json:"challenge"`
	// EABKeyID and the first line of EABKeyFile (base64url) bind the account to one that
	// there is (RFC 8555, 7.3.4).
	EABKeyID   string  `toml:"eab_key_id" json:"eab_key_id"`
	EABKeyFile string  `toml:"eab_key_file" json:"eab_key_file"`
	DNS        ACMEDNS `toml:"dns" json:"dns"`
}

// ACMEDNS is the server for the challenge dns-01 that takes dynamic updates (RFC 2136).
type ACMEDNS struct {
	Server   string `toml:"server" json:"server"`
	TSIGName string `toml:"tsig_name" json:"tsig_name"`
	// TSIGAlgorithm is "hmac-sha256", "hmac-sha384" or "hmac-sha512".
	TSIGAlgorithm string `toml:"tsig_algorithm" json:"tsig_algorithm"`
	// TSIGSecretFile holds the secret in base64.
	TSIGSecretFile string `toml:"tsig_secret_file" json:"tsig_secret_file"`
}

func defaultPublish() Publish {
	return Publish{Mode: "testing", MaxAge: Duration(336 * time.Hour)}
}

// Policy is the policy of p.
func (p *Publish) Policy() *sts.Policy {
	return &sts.Policy{Mode: sts.Mode(p.Mode), MaxAge: time.Duration(p.MaxAge), MX: p.MX}
}

// Published returns the domains of all [[publish]], with those of their files as they are
// now. The error is about a file that cannot be read or has what is no domain, or about a
// domain that stands twice.
func (c *Config) Published() (out []publish.Domain, err error) {
	at := make(map[string]string)
	for i := range c.Publish {
		p := &c.Publish[i]
		names := p.Domains
		if p.DomainsFile != "" {
			more, err := ReadDomains(p.DomainsFile)
			if err != nil {
				return nil, fmt.Errorf("publish[%d].domains_file: %s %w", i, p.DomainsFile, err)
			}
			names = append(names[:len(names):len(names)], more...)
		}
		policy := p.Policy()
		for _, name := range names {
			here := fmt.Sprintf("publish[%d]", i)
			if there, ok := at[name]; ok {
				return nil, fmt.Errorf("%s: %s stands twice: it is in %s, too", here, name, there)
			}
			at[name] = here
			out = append(out, publish.Domain{Name: name, Policy: policy, Record: p.Record, RUA: p.RUA})
		}
	}
	return out, nil
}

// ReadDomains reads a file with a domain a line; what follows a # is a comment.
func ReadDomains(file string) (out []string, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	lines := bufio.NewScanner(bytes.NewReader(bytes.TrimPrefix(data, []byte("\uFEFF"))))
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, err := mailbox.ParseName(line)
		if err != nil || isAddress(name) {
			return nil, fmt.Errorf("line %d: %q is no domain", n, line)
		}
		out = append(out, name)
	}
	return out, lines.Err()
}

package relay

import (
	"crypto/x509"
	"path/filepath"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/config"
)

// introduce writes the first lines of the log: at what the relay listens and who may send
// there, where its certificate comes from, and what is missing for TLS reports. The lines
// about resolvers follow, once they have been asked (probeResolvers).
func (r *Relay) introduce(c *config.Config) {
	for i, a := range r.ingress.Addrs() {
		l := &c.Listen[i]
		r.log.Info("listening", "address", a.String(), "tls", l.TLS, "may_send", maySend(l), "sender_domains", l.SenderDomains)
	}
	if a := r.HTTPAddr(); a != nil {
		r.log.Info("web page, health and metrics", "address", a.String())
	}
	r.introduceCertificate(c)
	r.introduceReports(c)
	r.log.Info("stsrelay is running", "version", r.o.Version, "hostname", c.Hostname, "data_dir", c.DataDir, "socket", c.SocketPath(), "config", c.File)
}

// maySend says in words who may send at a listener.
func maySend(l *config.Listen) string {
	var who []string
	for _, n := range l.Allow {
		text, _ := n.MarshalText() // it was read from such a text
		who = append(who, string(text))
	}
	if l.Auth {
		who = append(who, "users with a password, over TLS")
	}
	if l.ClientCA != "" {
		who = append(who, "clients with a certificate of "+l.ClientCA)
	}
	return strings.Join(who, ", ")
}

func (r *Relay) introduceCertificate(c *config.Config) {
	from := "made by this relay, and signed by nobody else: " + filepath.Join(c.DataDir, "tls")
	switch {
	case c.TLS.ACME:
		from = "ACME, from " + c.ACME.Directory + "; until it is there one that this relay has made"
	case c.TLS.Certificate != "":
		from = c.TLS.Certificate
	}
	attrs := []any{"from", from}
	if shown, _, _ := r.certs.State(); len(shown) > 0 {
		if leaf, err := x509.ParseCertificate(shown[0].Certificate[0]); err == nil {
			attrs = append(attrs, "names", leaf.DNSNames, "until", leaf.NotAfter.UTC().Format(time.RFC3339))
		}
	}
	r.log.Info("certificate for incoming TLS", attrs...)
}

func (r *Relay) introduceReports(c *config.Config) {
	switch key := c.ReportKey(); {
	case !c.TLSRPT.Enabled:
		r.log.Info("TLS reports are off (tlsrpt.enabled)")
	case key == nil:
		r.log.Info("TLS reports by mail are not sent", "missing", "a [[dkim]] key of "+c.ReportDomain()+` that signs "reports": stsrelay report setup`)
	default:
		r.log.Info("TLS reports by mail are sent", "sender", c.TLSRPT.Sender, "signed_by", key.Selector+"._domainkey."+key.Domain)
	}
}

package config

import (
	"fmt"
	"slices"
	"time"

	"github.com/stsrelay/stsrelay/internal/mailbox"
)

// Reports configures the TLS reports about the operator's own domains that others send.
type Reports struct {
	// Address is the mail drop: mail to it is read here and not relayed. "": there is none.
	Address string `toml:"address" json:"address"`
	// HTTPS takes reports that are posted to https://HOST/tlsrpt, where HOST is
	// publisher.host.
	HTTPS bool `toml:"https" json:"https" restart:""`
	// Domains are those whose reports are kept; empty: those of [[publish]], and where there
	// are none, all.
	Domains []string `toml:"domains" json:"domains"`
	// Keep is how long the sums are kept; the reports themselves are for 90 days.
	Keep Duration `toml:"keep" json:"keep"`
}

// minKeepReports is the least value of reports.keep: what a verdict on a domain looks at.
const minKeepReports = 31 * 24 * time.Hour

// ReportedDomains returns the domains whose reports are kept; empty: all. The error is
// that of Published.
func (c *Config) ReportedDomains() (out []string, err error) {
	if len(c.Reports.Domains) > 0 {
		return c.Reports.Domains, nil
	}
	published, err := c.Published()
	for i := range published {
		out = append(out, published[i].Name)
	}
	return out, err
}

func (l *loader) checkReports() {
	r := &l.config.Reports
	if r.Address != "" {
		l.address("reports.address", &r.Address)
		if r.Address == l.config.Notices.Operator {
			l.fail("reports.address", r.Address, "is that of notices.operator, too: alerts would not leave this relay")
		}
	}
	if r.HTTPS && l.config.Publisher.HTTPS == "" {
		l.fail("reports.https", r.HTTPS, "needs publisher.https: reports are posted to that address")
	}
	for i := range r.Domains {
		name, err := mailbox.ParseName(r.Domains[i])
		if err != nil {
			l.fail(fmt.Sprintf("reports.domains[%d]", i), r.Domains[i], "must be a domain such as example.com")
			continue
		}
		if r.Domains[i] = name; slices.Index(r.Domains, name) < i {
			l.fail(fmt.Sprintf("reports.domains[%d]", i), name, "stands twice")
		}
	}
	if time.Duration(r.Keep) < minKeepReports {
		l.fail("reports.keep", r.Keep, "must be at least %d hours: whether a domain is ready for enforce is judged by 30 days", int(minKeepReports/time.Hour))
	}
}

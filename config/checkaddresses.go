package config

import (
	"fmt"
	"strings"

	"github.com/stsrelay/stsrelay/internal/mailbox"
)

// checkAddresses checks the keys that change or refuse addresses, and writes them in the
// form in which they are compared: lower case, domains in A-labels.
func (l *loader) checkAddresses() {
	c := l.config
	for i := range c.Limits.BlockedRecipients {
		l.pattern("limits.blocked_recipients", &c.Limits.BlockedRecipients[i])
	}
	seen := make(map[string]bool)
	for i := range c.Rewrites {
		r := &c.Rewrites[i]
		key := fmt.Sprintf("rewrite[%d].", i)
		l.pattern(key+"from", &r.From)
		if seen[r.From] {
			l.fail(key+"from", r.From, "stands twice")
		}
		seen[r.From] = true
		switch {
		case strings.Contains(r.To, "@"):
			m, err := mailbox.Parse(r.To)
			if err != nil || m.NeedsUTF8() {
				l.fail(key+"to", r.To, "must be an address in ASCII, or a domain")
			} else {
				r.To = m.String()
			}
		case strings.Contains(r.From, "@"):
			l.fail(key+"to", r.To, "must be an address, since from is one: ops@example.com")
		default:
			if d, err := mailbox.ParseName(r.To); err != nil {
				l.fail(key+"to", r.To, "must be a domain, or an address")
			} else {
				r.To = d
			}
		}
	}
	if c.Journal.Address != "" {
		m, err := mailbox.Parse(c.Journal.Address)
		if err != nil || m.NeedsUTF8() {
			l.fail("journal.address", c.Journal.Address, "must be a mail address in ASCII")
		}
		c.Journal.Address = m.String()
	}
}

// pattern checks the name of an address, of a domain, or of all domains below one.
func (l *loader) pattern(key string, s *string) {
	const must = "an address, a domain, or .domain for all below it"
	if !strings.Contains(*s, "@") {
		l.domainOrBelow(key, s, must)
		return
	}
	m, err := mailbox.Parse(*s)
	if err != nil {
		l.fail(key, *s, "must be %s", must)
		return
	}
	*s = strings.ToLower(m.Local) + "@" + m.Domain
}

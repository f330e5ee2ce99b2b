package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/stsrelay/stsrelay/internal/mailbox"
)

func (l *loader) checkDomains() {
	for i := range l.config.Domains {
		d := &l.config.Domains[i]
		key := func(name string) string { return fmt.Sprintf("domain[%d].%s", i, name) }
		if d.Name != "*" {
			l.domainOrBelow(key("name"), &d.Name, "a domain, .domain for all below it, or * for all domains")
		}
		for j := range d.Senders {
			l.domainOrBelow(key("senders"), &d.Senders[j], "a list of domains of senders, or .domain for all below one")
		}
		if d.TLS != "" {
			l.oneOf(key("tls"), d.TLS, "verify", "secure", "dane", "encrypt", "opportunistic")
		}
		if d.Route != "" {
			if _, _, err := ParseRoute(d.Route); err != nil {
				l.fail(key("route"), d.Route, "%v", err)
			}
		} else if d.MX || d.User != "" || d.Fallback != "" {
			l.fail(key("route"), nil, "is missing: mx, user and fallback are about the host that it names")
		}
		l.checkFallback(i)
		switch {
		case d.User != "" && d.PasswordFile == "":
			l.fail(key("password_file"), nil, "is missing: it holds the password of user")
		case d.User == "" && d.PasswordFile != "":
			l.fail(key("user"), nil, "is missing: password_file is for it")
		case d.User != "" && (d.TLS == "opportunistic" || d.TLS == "encrypt"):
			l.fail(key("tls"), d.TLS, "would send the password to whoever answers: use verify, secure or dane")
		}
		l.checkPins(i)
		if d.User != "" && d.PasswordFile != "" {
			if _, err := ReadSecret(d.PasswordFile); err != nil {
				l.fail(key("password_file"), d.PasswordFile, "%v: it must hold the password", err)
			}
		}
		if d.OverridePolicy && d.TLS == "" {
			l.fail(key("override_policy"), d.OverridePolicy, "needs tls: it says what holds instead of the domain's policy")
		}
		if d.Concurrency < 0 {
			l.fail(key("concurrency"), d.Concurrency, "must not be negative")
		}
		for j := range i {
			l.checkTwice(j, i)
		}
	}
}

// checkTwice checks that two rules are for different mail.
func (l *loader) checkTwice(first, second int) {
	a, b := &l.config.Domains[first], &l.config.Domains[second]
	if a.Name != b.Name {
		return
	}
	if len(a.Senders) == 0 && len(b.Senders) == 0 {
		l.fail(fmt.Sprintf("domain[%d].name", second), b.Name, "stands twice")
	}
	for _, s := range b.Senders {
		if slices.Contains(a.Senders, s) {
			l.fail(fmt.Sprintf("domain[%d].senders", second), s, "stands twice for %s", b.Name)
		}
	}
}

// checkFallback checks the keys of a route that is taken where no MX host can be used.
func (l *loader) checkFallback(i int) {
	d := &l.config.Domains[i]
	if d.Fallback == "" {
		return
	}
	key := func(name string) string { return fmt.Sprintf("domain[%d].%s", i, name) }
	l.oneOf(key("fallback"), d.Fallback, "unbound", "all")
	if host, _, err := ParseRoute(d.Route); err == nil && isAddress(host) && d.TLS == "" {
		l.fail(key("tls"), nil, `is missing: a fallback route must have a certificate for its name, and this one is an address; name a host, or say what is enough by tls = "encrypt" or "opportunistic"`)
	}
}

// checkPins checks what a rule says about the names of hosts.
func (l *loader) checkPins(i int) {
	d := &l.config.Domains[i]
	key := fmt.Sprintf("domain[%d].", i)
	if len(d.Match) > 0 && d.TLS != "secure" {
		l.fail(key+"match", d.Match, `is for tls = "secure" only`)
	}
	for j := range d.Match {
		const must = "a list of host names, *.domain for the names one label below a domain, or .domain for all below it"
		if rest, ok := strings.CutPrefix(d.Match[j], "*."); ok {
			if name, err := mailbox.ParseName(rest); err == nil {
				d.Match[j] = "*." + name
			} else {
				l.fail(key+"match", d.Match[j], "must be %s", must)
			}
			continue
		}
		l.domainOrBelow(key+"match", &d.Match[j], must)
	}
	if d.TLS == "secure" && len(d.Match) == 0 && d.Route != "" {
		if host, _, err := ParseRoute(d.Route); err == nil && isAddress(host) {
			l.fail(key+"match", nil, "is missing: a certificate is for names, and the route is an address")
		}
	}
	if followsMX := d.Route == "" || d.MX || d.Fallback != ""; d.TLS == "verify" && followsMX {
		l.warn(`%stls = "verify" of %s does not protect from forged MX records: they can name a host with a good certificate of its own; tls = "secure" pins the names`, key, d.Name)
	} else if d.User != "" && d.MX && d.TLS != "secure" {
		l.warn(`%suser: the password is sent only where the MX records of %s are signed, or an enforced MTA-STS policy names the host; tls = "secure" pins the names`, key, d.Route)
	}
}

// ParseRoute reads a next hop: a host name or an address, and a port where it is
// not 25. An IPv6 address stands in brackets where a port follows.
func ParseRoute(s string) (host string, port uint16, err error) {
	port = 25
	host = s
	if _, err := netip.ParseAddr(s); err != nil {
		if h, p, err := net.SplitHostPort(s); err == nil {
			n, err := strconv.ParseUint(p, 10, 16)
			if err != nil || n == 0 {
				return "", 0, fmt.Errorf("%q is no port", p)
			}
			host, port = h, uint16(n)
		}
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.String(), port, nil
	}
	host, err = mailbox.ParseName(host)
	if err != nil {
		return "", 0, errors.New("must be a host name or an address, with a port or without: smtp.example.com:587")
	}
	return host, port, nil
}

// Package outbound says which hosts take mail for a domain, in which order they
// are tried, and how many of them in one attempt. A delivery and a check of a domain
// go by the same plan.
package outbound

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/stsrelay/stsrelay/internal/dnsclient"
	"github.com/stsrelay/stsrelay/relay/failure"
)

const (
	// MaxHosts is how many hosts of a domain are looked at in one attempt, and
	// MaxAddresses how many of their addresses are tried. The domain's owner says how
	// many there are: an answer has room for hundreds. Later attempts go on with
	// those that were left. A host that an enforced policy does not name is passed
	// over without a lookup, and does not count.
	MaxHosts     = 30
	MaxAddresses = 8

	// SecondLook is when a domain that has no host at all is looked at again, past
	// the DNS cache. Its mail is given up then if there is still none.
	SecondLook = 15 * time.Minute
)

// Host is a host that may take mail for a domain.
type Host struct {
	Name       string // in lower case, without final dot
	Preference uint16
}

// Plan is where mail for a domain goes.
type Plan struct {
	// Hosts are in the order of their preference, each of them once. Those of equal
	// preference are in the order of their names; who sends mail shuffles them.
	Hosts []Host
	// Secure reports whether DNSSEC vouches for the hosts.
	Secure bool
	// Alias is the end of the aliases (CNAME) of the domain, "" where it is none.
	Alias string
	// Implicit reports whether there is no MX record, and the domain itself is the host.
	Implicit bool
	// NullBeside reports whether a null MX stands beside other records. It is passed over.
	NullBeside bool
	// Self is this relay where it is an MX host by name. It and the hosts that are not
	// preferred to it are left out (RFC 5321, 5.1).
	Self *Host
}

// Denial is why no host takes mail for a domain: its mail bounces at once. Postfix
// and Exim do the same: a name that does not exist is mostly a slip of the pen,
// and its sender should hear of it while they remember.
type Denial struct {
	Reason failure.Reason
	Status string // the end of the enhanced status code (RFC 3463); "" for that of Reason
	Text   string
}

func (d *Denial) Error() string { return d.Text }

// Find looks up the hosts of a domain (RFC 5321, 5.1; RFC 7505). isSelf reports
// whether a name is that of this relay. The error is a *Denial, or a
// *dnsclient.Error where there is no answer now; Secure and Alias are set then too.
func Find(ctx context.Context, resolver *dnsclient.Client, domain string, isSelf func(name string) bool) (Plan, error) {
	mx, err := resolver.MX(ctx, domain)
	p := Plan{Secure: mx.Secure, Alias: mx.CNAME}
	if e, ok := errors.AsType[*dnsclient.Error](err); ok {
		p.Secure = e.Secure
	}
	switch {
	case errors.Is(err, dnsclient.ErrNXDomain):
		return p, &Denial{failure.DNS, "1.2", fmt.Sprintf("the domain %s does not exist", domain)}
	case errors.Is(err, dnsclient.ErrNoData):
		p.Implicit, p.Hosts = true, []Host{{Name: domain}}
		return p, nil
	case err != nil:
		return p, err
	}
	p.add(mx.Records)
	if len(p.Hosts) == 0 {
		return p, &Denial{failure.NullMX, "", fmt.Sprintf("the domain %s takes no mail: it has a null MX", domain)}
	}
	if p.leaveOutSelf(isSelf); len(p.Hosts) == 0 {
		return p, &Denial{failure.Loop, "", fmt.Sprintf("mail for %s leads back to this relay, its best MX host", domain)}
	}
	return p, nil
}

// add takes in MX records, which come in the order of preference and name.
func (p *Plan) add(records []dnsclient.MX) {
	seen := make(map[string]bool, len(records))
	for _, r := range records {
		switch {
		case r.Host == ".":
			p.NullBeside = true
		case !seen[r.Host]:
			seen[r.Host] = true
			p.Hosts = append(p.Hosts, Host{r.Host, r.Preference})
		}
	}
	p.NullBeside = p.NullBeside && len(p.Hosts) > 0
}

func (p *Plan) leaveOutSelf(isSelf func(name string) bool) {
	i := slices.IndexFunc(p.Hosts, func(h Host) bool { return isSelf(h.Name) })
	if i < 0 {
		return
	}
	self := p.Hosts[i]
	p.Self = &self
	p.Hosts = slices.DeleteFunc(p.Hosts, func(h Host) bool { return h.Preference >= self.Preference })
}

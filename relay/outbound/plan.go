// Package outbound is the way out: a Finder finds the hosts that take mail for a
// Destination, a Walk is the way of one attempt through them, with all limits, a Dialer
// connects to a host, and an Opener opens the session, up to the EHLO within TLS, with
// the evidence of what it proved. Relays deliver over it, and package check explains what
// it finds. It sends no mail, and does not judge what sessions are good for: package
// security does.
package outbound

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/stsrelay/stsrelay/internal/dnsclient"
	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/failure"
)

const (
	// MaxHosts is how many hosts of a domain one attempt looks at, and MaxAddresses how
	// many of their addresses it tries. The domain's owner decides how many there are: a
	// DNS answer has room for hundreds. Later attempts go on with those that are left. A
	// host that an enforced policy does not name is passed over without a lookup, and does
	// not count.
	MaxHosts     = 30
	MaxAddresses = 8

	// SecondLook is the time after which a domain that has no host at all is looked up
	// again, past the DNS cache. Its mail is given up then if there is still no host.
	SecondLook = 15 * time.Minute
)

// smtpPort is where MX hosts take mail.
const smtpPort = 25

// Host is a host that may take mail for a domain.
type Host struct {
	Name       string // in lower case, without final dot
	Preference uint16
	Port       uint16
	// Addr is that of an address literal or of a route to an address; else it is
	// looked up.
	Addr netip.Addr
}

// Origin is where the hosts of a plan come from.
type Origin string

// The origins.
const (
	FromMX      Origin = "mx"
	FromAddress Origin = "address" // there is no MX record, and the domain itself is the host
	FromLiteral Origin = "literal"
	FromRoute   Origin = "route" // the operator's
)

// Plan is where mail for a domain goes.
type Plan struct {
	// From is "" where there is no host.
	From Origin
	// Domain is the domain whose MX records were looked up; "" where none were.
	Domain string
	// Hosts are in the order of their preference, each of them once. Those of equal
	// preference are in the order of their names; see Shuffle.
	Hosts []Host
	// Secure reports whether nobody can have forged the hosts: DNSSEC vouches for them,
	// or the operator has named them.
	Secure bool
	// Alias is the name at the end of the domain's aliases (CNAME); "" where it has none.
	Alias string
	// Implicit reports whether there is no MX record, and the domain itself is the host.
	Implicit bool
	// NullBeside reports whether a null MX stands beside other records. It is passed over.
	NullBeside bool
	// Self is this relay where it is an MX host by name. It is left out, and so are the
	// hosts that are not preferred to it (RFC 5321, 5.1).
	Self *Host
}

// Denial is why no host takes mail for a domain: its mail bounces at once, as with Postfix
// and Exim. A name that does not exist is mostly a typing error, and the sender should
// hear of it soon.
type Denial struct {
	Reason failure.Reason
	Status string // the end of the enhanced status code (RFC 3463); "" for that of Reason
	Text   phrase.Phrase
	// OfRoute reports whether the operator's route leads to the domain. Then the route is
	// at fault, not the recipients' domain, and the mail waits.
	OfRoute bool
}

func (d *Denial) Error() string { return d.Text.String() }

// Phrase is the text of the error.
func (d *Denial) Phrase() phrase.Phrase { return d.Text }

// Finder finds hosts and their addresses. Resolver is required.
type Finder struct {
	Resolver *dnsclient.Client
	// Hostname is the name of this relay.
	Hostname string
	// IsSelf reports whether a host is this relay. Without addrs it goes by the port
	// alone. nil: no host is.
	IsSelf func(host string, port uint16, addrs []netip.Addr) bool
}

// Find finds the hosts of a destination: those that the operator has set, or those
// that the domain publishes (RFC 5321, 5.1; RFC 7505). The error is a *Denial, or a
// *dnsclient.Error where there is no answer now; Secure and Alias are set then too.
func (f *Finder) Find(ctx context.Context, to *Destination) (Plan, error) {
	route := to.Route()
	if route == nil {
		if addr, ok := ParseLiteral(to.Domain); ok {
			return Plan{From: FromLiteral, Hosts: []Host{{Name: to.Domain, Port: smtpPort, Addr: addr}}}, nil
		}
		return f.findMX(ctx, to.Domain, smtpPort)
	}
	if !route.MX {
		h := Host{Name: route.Host, Port: route.Port}
		if addr, err := netip.ParseAddr(route.Host); err == nil {
			h.Addr = addr
		}
		return Plan{From: FromRoute, Hosts: []Host{h}, Secure: true}, nil
	}
	p, err := f.findMX(ctx, route.Host, route.Port)
	p.From = FromRoute
	if denied, ok := errors.AsType[*Denial](err); ok {
		denied.OfRoute = true
	}
	return p, err
}

// findMX looks up the MX hosts of a domain.
func (f *Finder) findMX(ctx context.Context, domain string, port uint16) (Plan, error) {
	mx, err := f.Resolver.MX(ctx, domain)
	p := Plan{Domain: domain, Secure: mx.Secure, Alias: mx.CNAME}
	if e, ok := errors.AsType[*dnsclient.Error](err); ok {
		p.Secure = e.Secure
	}
	switch {
	case errors.Is(err, dnsclient.ErrNXDomain):
		return p, &Denial{Reason: failure.DNS, Status: "1.2", Text: phrase.New("the domain %s does not exist", domain)}
	case errors.Is(err, dnsclient.ErrNoData):
		p.From, p.Implicit, p.Hosts = FromAddress, true, []Host{{Name: domain, Port: port}}
		return p, nil
	case err != nil:
		return p, err
	}
	p.add(mx.Records, port)
	if len(p.Hosts) == 0 {
		return p, &Denial{Reason: failure.NullMX, Text: phrase.New("the domain %s takes no mail: it has a null MX", domain)}
	}
	if p.leaveOutSelf(func(name string) bool { return name == f.Hostname && f.isSelf(name, port, nil) }); len(p.Hosts) == 0 {
		return p, &Denial{Reason: failure.Loop, Text: phrase.New("mail for %s leads back to this relay, its best MX host", domain)}
	}
	p.From = FromMX
	return p, nil
}

func (f *Finder) isSelf(host string, port uint16, addrs []netip.Addr) bool {
	return f.IsSelf != nil && f.IsSelf(host, port, addrs)
}

// Shuffle puts hosts of equal preference into a random order (RFC 5321, 5.1).
func (p *Plan) Shuffle() {
	rand.Shuffle(len(p.Hosts), func(i, j int) { p.Hosts[i], p.Hosts[j] = p.Hosts[j], p.Hosts[i] }) //nolint:gosec // it spreads load; nobody gains by guessing
	slices.SortStableFunc(p.Hosts, func(a, b Host) int { return int(a.Preference) - int(b.Preference) })
}

// add adds MX records, which are in the order of preference and name.
func (p *Plan) add(records []dnsclient.MX, port uint16) {
	seen := make(map[string]bool, len(records))
	for _, r := range records {
		switch {
		case r.Host == ".":
			p.NullBeside = true
		case !seen[r.Host]:
			seen[r.Host] = true
			p.Hosts = append(p.Hosts, Host{Name: r.Host, Preference: r.Preference, Port: port})
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

package check

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/stsrelay/stsrelay/internal/dnsclient"
	"github.com/stsrelay/stsrelay/internal/publicaddr"
	"github.com/stsrelay/stsrelay/relay/delivery"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/sts/dane"
)

// smtpPort is where MX hosts take mail.
const smtpPort = 25

// host is a mail host and what its probes left.
type host struct {
	Host
	addr    netip.Addr // of a literal or a route; else looked up
	addrs   []netip.Addr
	set     *dane.RRset         // where DANE applies
	refused *security.Shortfall // why it is not contacted
	failed  string              // why the relay cannot use it, whatever it shows
	// undecided says that it failed because nobody can tell what it asks for.
	undecided bool
	own       bool // it is this relay
	visits    []*visit
}

// visit is a session with one address.
type visit struct {
	Session
	evidence security.Evidence
	open     bool // there was a session
}

// findHosts finds the domain's hosts (RFC 5321, 5.1) and looks at each.
func (c *checker) findHosts(ctx context.Context) {
	c.candidates(ctx)
	if n := len(c.hosts); n > maxHosts {
		c.hosts = c.hosts[:maxHosts]
		c.report.MX.Problems = append(c.report.MX.Problems, Problem{Note, fmt.Sprintf("%d more hosts are not looked at", n-maxHosts), "RFC 5321, 5.1", "nothing"})
	}
	var wg sync.WaitGroup
	for _, h := range c.hosts {
		if h.failed == "" {
			wg.Go(func() { c.look(ctx, h) })
		}
	}
	wg.Wait()
}

// candidates fills in c.hosts, in the order of delivery.
func (c *checker) candidates(ctx context.Context) {
	m := &c.report.MX
	if !c.NoDANE {
		c.believed()
	}
	r := c.route()
	switch a, ok := literal(c.domain); {
	case r != nil && r.MX:
		m.From = "route"
		c.findMX(ctx, r.Host, r.Port)
	case r != nil:
		m.From, m.Secure = "route", true
		h := &host{Host: Host{Name: r.Host, Port: r.Port}}
		h.addr, _ = netip.ParseAddr(r.Host)
		c.hosts = []*host{h}
	case ok:
		m.From = "literal"
		c.hosts = []*host{{Host: Host{Name: c.domain, Port: smtpPort}, addr: a}}
	default:
		c.findMX(ctx, c.domain, smtpPort)
	}
}

// findMX looks up the MX hosts of a domain, or of the operator's next hop.
func (c *checker) findMX(ctx context.Context, domain string, port uint16) {
	m := &c.report.MX
	mx, err := c.Resolver.MX(ctx, domain)
	m.Secure, m.CNAME = mx.Secure, mx.CNAME
	if e, ok := errors.AsType[*dnsclient.Error](err); ok && isDenial(err) {
		m.Secure = e.Secure
	}
	found := func(from string) {
		if m.From == "" {
			m.From = from
		}
	}
	switch {
	case errors.Is(err, dnsclient.ErrNXDomain):
		c.deny("the domain "+domain+" does not exist", "RFC 5321, 5.1", "look for a slip of the pen in the name; the domain's owner: renew the domain")
	case errors.Is(err, dnsclient.ErrNoData):
		found("address")
		m.Problems = append(m.Problems, Problem{Note, "there is no MX record: the domain itself is the mail host", "RFC 5321, 5.1",
			"the domain's owner: publish an MX record; a domain that takes no mail says so with a null MX (RFC 7505)"})
		c.hosts = []*host{{Host: Host{Name: domain, Port: port}}}
	case err != nil:
		c.mxErr = err
		m.Problems = append(m.Problems, c.lookupFault(ctx, "the MX records could not be looked up: ", err, "RFC 5321, 5.1", "the domain's owner"))
	case len(mx.Records) == 1 && mx.Records[0].Host == ".":
		c.deny("the domain "+domain+" takes no mail: it has a null MX", "RFC 7505, 3", "nothing, if the domain is to have no mail; else the domain's owner: publish the hosts")
	default:
		found("mx")
		c.fromMX(mx, port)
	}
}

// deny ends the search with an answer that bounces mail. Where the operator set
// a route, that is at fault, and mail waits.
func (c *checker) deny(text, rule, mend string) {
	c.report.MX.Problems = append(c.report.MX.Problems, Problem{Fault, text, rule, mend})
	c.mxDenial = Outcome{Action: "bounce", Text: "mail bounces at once: " + text}
	if c.route() != nil {
		c.mxDenial = wait("the operator's route leads nowhere: " + text)
	}
}

func (c *checker) fromMX(mx dnsclient.MXs, port uint16) {
	m := &c.report.MX
	for _, r := range mx.Records {
		if r.Host == "." {
			m.Problems = append(m.Problems, Problem{Warning, "a null MX stands beside other MX records; it is passed over", "RFC 7505, 3", "the domain's owner: remove it, or all others"})
			continue
		}
		h := &host{Host: Host{Name: r.Host, Preference: r.Preference, Port: port}}
		if _, err := netip.ParseAddr(r.Host); err == nil {
			h.failed = "the MX record holds an address instead of a name"
			h.Problems = append(h.Problems, Problem{Fault, h.failed, "RFC 5321, 5.1", "the domain's owner: give the host a name and put that into the MX record"})
		}
		if !slices.ContainsFunc(c.hosts, func(o *host) bool { return o.Name == h.Name }) {
			c.hosts = append(c.hosts, h)
		}
	}
	c.betterThanUs()
}

// betterThanUs leaves out this relay, where it is an MX host by name, and all
// that are not preferred to it (RFC 5321, 5.1).
func (c *checker) betterThanUs() {
	us := slices.IndexFunc(c.hosts, func(h *host) bool { return h.Name == c.Hostname && c.IsSelf(h.Name, h.Port, nil) })
	if us < 0 {
		return
	}
	ours := c.hosts[us].Preference
	c.hosts = slices.DeleteFunc(c.hosts, func(h *host) bool { return h.Preference >= ours })
	if len(c.hosts) == 0 {
		c.deny("mail leads back to this relay, the domain's best MX host", "RFC 5321, 5.1", "deliver the domain's mail locally, or set a route for it in a [[domain]] table")
		return
	}
	c.report.MX.Problems = append(c.report.MX.Problems, Problem{Note, fmt.Sprintf("this relay is an MX host of the domain itself, with preference %d; only better ones are tried", ours), "RFC 5321, 5.1", "nothing"})
}

// believed notes that DANE is off because no resolver is believed.
func (c *checker) believed() {
	var why []string
	for _, s := range c.Resolver.Servers() {
		if s.Protects() {
			return
		}
		why = append(why, s.Address+" ("+s.Why+")")
	}
	c.report.MX.Problems = append(c.report.MX.Problems, Problem{Note, "DANE is off: no resolver's word on DNSSEC is believed: " + strings.Join(why, ", "), "RFC 7672, 2.1.3",
		"run a validating resolver on this machine (unbound), or ask one over TLS (tls://…), and name it in dns.servers"})
}

// look looks up a host's addresses and TLSA records, and visits it.
func (c *checker) look(ctx context.Context, h *host) {
	problem := func(severity Severity, rule, mend, format string, args ...any) {
		h.Problems = append(h.Problems, Problem{severity, fmt.Sprintf(format, args...), rule, mend})
	}
	if h.addr.IsValid() {
		h.addrs = []netip.Addr{h.addr}
	} else {
		a, err := c.Resolver.Addrs(ctx, h.Name)
		if err != nil {
			h.failed = err.Error()
			if isDenial(err) {
				problem(Fault, "RFC 5321, 5.1", "the domain's owner: give the host an A or AAAA record, or take it out of the MX records", "the host has no address: %v", err)
			} else {
				h.Problems = append(h.Problems, c.lookupFault(ctx, "the host has no address: ", err, "RFC 5321, 5.1", "the host's owner"))
			}
			return
		}
		for _, addr := range a.Addrs {
			h.addrs = append(h.addrs, addr.Unmap())
		}
		h.Secure = a.Secure
		if a.Name != h.Name {
			h.CNAME = a.Name
			if c.report.MX.From == "mx" {
				problem(Warning, "RFC 2181, 10.3", "the domain's owner: put the name at the end of the alias into the MX record; the certificate and the policy still go by the name that stands there", "the MX record names an alias of %s", a.Name)
			}
		}
		c.findTLSA(ctx, h, a)
	}
	for _, a := range h.addrs {
		h.Addrs = append(h.Addrs, a.String())
	}
	if h.own = c.IsSelf(h.Name, h.Port, h.addrs); h.own {
		problem(Fault, "RFC 5321, 6.3", "deliver the domain's mail locally, or set a route for it in a [[domain]] table", "the host is this relay itself: mail would go round in a circle")
		return
	}
	c.contactable(h)
	if len(h.addrs) > 0 {
		c.visitAll(ctx, h)
	}
}

// contactable leaves out the addresses that the operator keeps the relay from.
// Those of a route may be private: the operator named it.
func (c *checker) contactable(h *host) {
	leave := func(key, what, mend string, out func(netip.Addr) bool) {
		left := slices.DeleteFunc(slices.Clone(h.addrs), func(a netip.Addr) bool { return !out(a) })
		if len(left) == 0 {
			return
		}
		h.addrs = slices.DeleteFunc(h.addrs, out)
		severity := Warning
		if len(h.addrs) == 0 {
			severity, h.failed = Fault, "it has only addresses that are not contacted ("+key+")"
		}
		h.Problems = append(h.Problems, Problem{severity, fmt.Sprintf("these of its addresses %s, and are not contacted: %v", what, left), key, mend})
	}
	if c.Family == delivery.IPv4Only || c.Family == delivery.IPv6Only {
		leave("delivery.ip_family", "are not "+string(c.Family), "set ip_family = \"any\", if this machine can reach both families", func(a netip.Addr) bool { return a.Is4() != (c.Family == delivery.IPv4Only) })
	}
	if c.route() == nil && !c.AllowPrivate {
		leave("delivery.private_addresses", "are not public", "the host's owner: give it a public address; in a network of your own, set private_addresses = \"allow\" or a route",
			func(a netip.Addr) bool { return !publicaddr.Public(a) })
	}
}

package check

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/stsrelay/stsrelay/internal/publicaddr"
	"github.com/stsrelay/stsrelay/relay/failure"
	"github.com/stsrelay/stsrelay/relay/outbound"
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
	left      bool // it is not looked at here: there are too many
	visits    []*visit
}

// visit is a session with one address.
type visit struct {
	Session
	evidence security.Evidence
	open     bool // there was a session
	endless  bool // its certificate is good for a TLSA record that asks for no date (RFC 7671, 5.1)
}

// findHosts finds the domain's hosts (RFC 5321, 5.1) and looks at as many as one
// attempt of a delivery does; at more, where none of them can be used, as the next
// attempts do. policy waits for what the domain asks for.
func (c *checker) findHosts(ctx context.Context, policy func()) {
	plan := c.candidates(ctx)
	if c.route() == nil {
		c.homeless = plan.Homeless(ctx, c.Resolver, c.domain, c.AllowPrivate)
	}
	hosts := c.hosts
	if len(hosts) > outbound.MaxHosts {
		policy()
		hosts = c.admitted()
	}
	for batch := range slices.Chunk(hosts, outbound.MaxHosts) {
		var wg sync.WaitGroup
		for _, h := range batch {
			h.left = false
			wg.Go(func() { c.look(ctx, h) })
		}
		wg.Wait()
		if len(hosts) <= outbound.MaxHosts || slices.ContainsFunc(batch, c.usable) || ctx.Err() != nil {
			break
		}
	}
	left := 0
	for _, h := range c.hosts {
		if h.left {
			left++
		}
	}
	if left > 0 {
		c.report.MX.Problems = append(c.report.MX.Problems, Problem{Note, fmt.Sprintf("%d more hosts are not looked at", left), "RFC 5321, 5.1", "nothing"})
	}
}

// admitted are the hosts that the policy names: a delivery passes the others over.
// Where it names none, the first ones are looked at here. All are left until their
// turn comes.
func (c *checker) admitted() (hosts []*host) {
	for _, h := range c.hosts {
		h.left = true
		if c.requirement(h).AdmitsName() == nil {
			hosts = append(hosts, h)
		}
	}
	if len(hosts) == 0 {
		return c.hosts[:outbound.MaxHosts]
	}
	return hosts
}

// usable reports whether mail goes to a host. The policy is known.
func (c *checker) usable(h *host) bool {
	return slices.ContainsFunc(h.visits, func(v *visit) bool { return v.open && c.requirement(h).Satisfied(&v.evidence) == nil })
}

// candidates fills in c.hosts, in the order of delivery. plan is what the domain
// publishes.
func (c *checker) candidates(ctx context.Context) (plan outbound.Plan) {
	m := &c.report.MX
	if !c.NoDANE {
		c.believed()
	}
	r := c.route()
	switch a, ok := outbound.ParseLiteral(c.domain); {
	case r != nil && r.MX:
		m.From = "route"
		return c.findMX(ctx, r.Host, r.Port)
	case r != nil:
		m.From, m.Secure = "route", true
		h := &host{Host: Host{Name: r.Host, Port: r.Port}}
		h.addr, _ = netip.ParseAddr(r.Host)
		c.hosts = []*host{h}
	case ok:
		m.From = "literal"
		c.hosts = []*host{{Host: Host{Name: c.domain, Port: smtpPort}, addr: a}}
	default:
		return c.findMX(ctx, c.domain, smtpPort)
	}
	return plan
}

// findMX looks up the MX hosts of a domain, or of the operator's next hop.
func (c *checker) findMX(ctx context.Context, domain string, port uint16) outbound.Plan {
	m := &c.report.MX
	plan, err := outbound.Find(ctx, c.Resolver, domain, func(name string) bool { return name == c.Hostname && c.IsSelf(name, port, nil) })
	m.Secure, m.CNAME = plan.Secure, plan.Alias
	if denied, ok := errors.AsType[*outbound.Denial](err); ok {
		c.deny(denied)
		return plan
	}
	if err != nil {
		c.mxErr = err
		m.Problems = append(m.Problems, c.lookupFault(ctx, "the MX records could not be looked up: ", err, "RFC 5321, 5.1", "the domain's owner"))
		return plan
	}
	from := "mx"
	if plan.Implicit {
		from = "address"
		m.Problems = append(m.Problems, Problem{Note, "there is no MX record: the domain itself is the mail host", "RFC 5321, 5.1",
			"the domain's owner: publish an MX record; a domain that takes no mail says so with a null MX (RFC 7505)"})
	}
	m.From = cmp.Or(m.From, from)
	if plan.NullBeside {
		m.Problems = append(m.Problems, Problem{Warning, "a null MX stands beside other MX records; it is passed over", "RFC 7505, 3", "the domain's owner: remove it, or all others"})
	}
	if plan.Self != nil {
		m.Problems = append(m.Problems, Problem{Note, fmt.Sprintf("this relay is an MX host of the domain itself, with preference %d; only better ones are tried", plan.Self.Preference), "RFC 5321, 5.1", "nothing"})
	}
	for _, h := range plan.Hosts {
		c.hosts = append(c.hosts, &host{Host: Host{Name: h.Name, Preference: h.Preference, Port: port}})
	}
	return plan
}

// denials are the rule and the remedy of what an outbound.Denial says, by its reason.
var denials = map[failure.Reason][2]string{
	failure.DNS:    {"RFC 5321, 5.1", "look for a slip of the pen in the name; the domain's owner: renew the domain"},
	failure.NullMX: {"RFC 7505, 3", "nothing, if the domain is to have no mail; else the domain's owner: publish the hosts"},
	failure.Loop:   {"RFC 5321, 5.1", "deliver the domain's mail locally, or set a route for it in a [[domain]] table"},
}

// deny ends the search with an answer that bounces mail. Where the operator set
// a route, that is at fault, and mail waits.
func (c *checker) deny(d *outbound.Denial) {
	c.report.MX.Problems = append(c.report.MX.Problems, Problem{Fault, d.Text, denials[d.Reason][0], denials[d.Reason][1]})
	c.mxDenial = Outcome{Action: "bounce", Text: "mail bounces at once: " + d.Text}
	if c.route() != nil {
		c.mxDenial = wait("the operator's route leads nowhere: " + d.Text)
	}
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
	problem := func(severity Severity, rule, remedy, format string, args ...any) {
		h.Problems = append(h.Problems, Problem{severity, fmt.Sprintf(format, args...), rule, remedy})
	}
	if h.addr.IsValid() {
		h.addrs = []netip.Addr{h.addr}
	} else {
		a, err := outbound.Addresses(ctx, c.Resolver, h.Name, c.AllowPrivate || c.route() != nil)
		none, denied := errors.AsType[*outbound.NoAddress](err)
		if err != nil {
			h.failed = err.Error()
			if denied && none.Err == nil {
				problem(Fault, "RFC 5321, 5.1", "the domain's owner: give the host a name and put that into the MX record", "%v", err)
			} else if denied {
				remedy := "the domain's owner: give the host an A or AAAA record, or take it out of the MX records"
				if c.report.MX.From == "address" {
					remedy = "the domain's owner: publish an MX record with the name of a host, or a null MX if the domain is to have no mail"
				}
				problem(Fault, "RFC 5321, 5.1", remedy, "the host has no address: %v", err)
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
	leave := func(key, what, remedy string, out func(netip.Addr) bool) {
		left := slices.DeleteFunc(slices.Clone(h.addrs), func(a netip.Addr) bool { return !out(a) })
		if len(left) == 0 {
			return
		}
		h.addrs = slices.DeleteFunc(h.addrs, out)
		severity := Warning
		if len(h.addrs) == 0 {
			severity, h.failed = Fault, "it has only addresses that are not contacted ("+key+")"
		}
		h.Problems = append(h.Problems, Problem{severity, fmt.Sprintf("these of its addresses %s, and are not contacted: %v", what, left), key, remedy})
	}
	if c.Family == outbound.IPv4Only || c.Family == outbound.IPv6Only {
		leave("delivery.ip_family", "are not "+string(c.Family), "set ip_family = \"any\", if this machine can reach both families", func(a netip.Addr) bool { return a.Is4() != (c.Family == outbound.IPv4Only) })
	}
	if c.route() == nil && !c.AllowPrivate {
		leave("delivery.private_addresses", "are not public", "the host's owner: give it a public address; in a network of your own, set private_addresses = \"allow\" or a route",
			func(a netip.Addr) bool { return !publicaddr.Public(a) })
	}
}

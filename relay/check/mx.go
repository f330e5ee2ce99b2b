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
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/sts/dane"
)

// host is a mail host and what its probes left.
type host struct {
	Host
	addr   netip.Addr // of a literal; else looked up
	addrs  []netip.Addr
	set    *dane.RRset // where DANE applies
	failed string      // why the relay cannot use the host, whatever it shows
	own    bool        // it is this relay
	visits []*visit
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
	switch {
	case c.rule.Route != "":
		m.From = "route"
		name, port := c.rule.route()
		h := &host{Host: Host{Name: name, Port: port}}
		h.addr, _ = netip.ParseAddr(name)
		c.hosts = []*host{h}
		return
	case isLiteral(c.domain):
		m.From = "literal"
		h := &host{Host: Host{Name: c.domain, Port: c.Port}}
		h.addr, _ = netip.ParseAddr(strings.TrimPrefix(strings.Trim(c.domain, "[]"), "IPv6:"))
		c.hosts = []*host{h}
		return
	}
	mx, err := c.Resolver.MX(ctx, c.domain)
	m.Secure, m.CNAME = mx.Secure, mx.CNAME
	if e, ok := errors.AsType[*dnsclient.Error](err); ok && isDenial(err) {
		m.Secure = e.Secure
	}
	if !c.NoDANE {
		c.believed()
	}
	switch {
	case errors.Is(err, dnsclient.ErrNXDomain):
		c.deny("the domain does not exist", "RFC 5321, 5.1", "look for a slip of the pen in the address; the domain's owner: renew the domain")
	case errors.Is(err, dnsclient.ErrNoData):
		m.From = "address"
		m.Problems = append(m.Problems, Problem{Note, "there is no MX record: the domain itself is the mail host", "RFC 5321, 5.1",
			"the domain's owner: publish an MX record; a domain that takes no mail says so with \"0 .\" (RFC 7505)"})
		c.hosts = []*host{{Host: Host{Name: c.domain, Port: c.Port}}}
	case err != nil:
		c.mxErr = err
		m.Problems = append(m.Problems, Problem{Fault, "the MX records could not be looked up: " + err.Error(), "RFC 5321, 5.1",
			"look at [dns] and the resolver first; the domain's owner: check the name servers and the zone's signatures (dnsviz.net shows them)"})
	case len(mx.Records) == 1 && mx.Records[0].Host == ".":
		c.deny("the domain takes no mail: it has a null MX", "RFC 7505, 3", "nothing, if the domain is to have no mail; else the domain's owner: publish the hosts")
	default:
		c.fromMX(mx)
	}
}

// deny ends the search with an answer that bounces mail.
func (c *checker) deny(text, rule, mend string) {
	c.report.MX.Problems = append(c.report.MX.Problems, Problem{Fault, text, rule, mend})
	c.mxDenial = Outcome{Action: "bounce", Text: "mail bounces at once: " + text}
}

func (c *checker) fromMX(mx dnsclient.MXs) {
	m := &c.report.MX
	m.From = "mx"
	for _, r := range mx.Records {
		if r.Host == "." {
			m.Problems = append(m.Problems, Problem{Warning, "a null MX stands beside other MX records; it is passed over", "RFC 7505, 3", "the domain's owner: remove it, or all others"})
			continue
		}
		h := &host{Host: Host{Name: r.Host, Preference: r.Preference, Port: c.Port}}
		if _, err := netip.ParseAddr(r.Host); err == nil {
			h.failed = "the MX record holds an address instead of a name"
			h.Problems = append(h.Problems, Problem{Fault, h.failed, "RFC 5321, 5.1", "the domain's owner: give the host a name and put that into the MX record"})
		}
		if !slices.ContainsFunc(c.hosts, func(o *host) bool { return o.Name == h.Name }) {
			c.hosts = append(c.hosts, h)
		}
	}
}

// believed notes that DANE is off because no resolver is believed.
func (c *checker) believed() {
	var why []string
	for _, s := range c.Resolver.Servers() {
		if s.Believed {
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
	h.addrs = []netip.Addr{h.addr}
	if !h.addr.IsValid() {
		a, err := c.Resolver.Addrs(ctx, h.Name)
		if err != nil {
			h.failed = err.Error()
			mend := "the domain's owner: give the host an A or AAAA record, or take it out of the MX records"
			if !isDenial(err) {
				mend = "look at [dns] and the resolver first; the host's owner: check the name servers and the zone's signatures (dnsviz.net shows them)"
			}
			problem(Fault, "RFC 5321, 5.1", mend, "the host has no address: %v", err)
			return
		}
		h.addrs, h.Secure = a.Addrs, a.Secure
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
	if h.own = c.IsSelf(h.Name, h.addrs); h.own {
		problem(Fault, "RFC 5321, 6.3", "deliver the domain's mail locally, or set a route for it in a [[domain]] table", "the host is this relay itself: mail would go round in a circle")
		return
	}
	if c.rule.Route == "" && !c.AllowPrivate {
		public := slices.DeleteFunc(slices.Clone(h.addrs), func(a netip.Addr) bool { return !publicaddr.Public(a) })
		if len(public) < len(h.addrs) {
			severity := Warning
			if len(public) == 0 {
				severity = Fault
			}
			problem(severity, "delivery.private_addresses", "the host's owner: give it a public address; in a network of your own, set private_addresses = \"allow\" or a route", "not all of its addresses are public; the others are not contacted: %v", h.addrs)
		}
		if h.addrs = public; len(public) == 0 {
			h.failed = "it has only private addresses, which are not contacted"
			return
		}
	}
	c.visitAll(ctx, h)
}

// findTLSA looks up the TLSA records: at the end of a chain of aliases first,
// else at the name itself (RFC 7672, 2.2.2). Records count where they, and the
// addresses, were validated; a lookup without an answer keeps mail from the
// host (2.1.2).
func (c *checker) findTLSA(ctx context.Context, h *host, a dnsclient.Addrs) {
	bases := []string{h.Name}
	if a.Name != h.Name && a.Secure {
		bases = []string{a.Name, h.Name}
	}
	for _, base := range bases {
		name := "_" + h.Port + "._tcp." + base
		found, err := c.Resolver.TLSA(ctx, name)
		if isDenial(err) {
			continue
		}
		if err != nil {
			c.tlsaFailed(h, a, err)
			return
		}
		t := &TLSA{Name: name, Base: base, Secure: found.Secure}
		var records []dane.Record
		for _, r := range found.Records {
			records = append(records, dane.Record(r))
			t.Records = append(t.Records, dane.Record(r).String())
		}
		set := dane.NewRRset(base, records)
		t.Usable = len(set.Usable)
		t.Applies = found.Secure && a.Secure && !c.NoDANE
		h.TLSA = t
		if t.Applies {
			h.set = set
		}
		c.tlsaProblems(h, a)
		return
	}
}

func (c *checker) tlsaFailed(h *host, a dnsclient.Addrs, err error) {
	if !a.Secure || c.NoDANE {
		return // the relay does not ask
	}
	if !c.rule.Override {
		h.failed = "its TLSA records could not be looked up: " + err.Error()
	}
	h.Problems = append(h.Problems, Problem{Fault, "the TLSA records could not be looked up: " + err.Error() + "; a host of which that cannot be told gets no mail",
		advices["tlsa-lookup"].rule, advices["tlsa-lookup"].mend})
}

func (c *checker) tlsaProblems(h *host, a dnsclient.Addrs) {
	problem := func(severity Severity, code, text string) {
		h.Problems = append(h.Problems, Problem{severity, text, advices[code].rule, advices[code].mend})
	}
	t := h.TLSA
	switch {
	case c.NoDANE:
		h.Problems = append(h.Problems, Problem{Note, "DANE is switched off: the TLSA records are not used", "dane.enabled", "switch it on"})
	case !a.Secure:
		problem(Warning, "address-insecure", "the host has TLSA records, and its addresses are not validated by DNSSEC: the records are not used")
	case !t.Secure:
		problem(Warning, "tlsa-insecure", "the TLSA records are not validated by DNSSEC, and are not used")
	}
	if t.Applies && t.Usable > 0 && t.Usable < len(t.Records) {
		h.Problems = append(h.Problems, Problem{Note, fmt.Sprintf("%d of the %d TLSA records are not used: weaker digests beside stronger ones, or a usage that mail cannot use", len(t.Records)-t.Usable, len(t.Records)),
			"RFC 7671, 9; RFC 7672, 3.1.3", "nothing, if one that is used matches"})
	}
}

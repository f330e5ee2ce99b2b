package check

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/failure"
	"github.com/stsrelay/stsrelay/relay/outbound"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/sts/dane"
)

// host is a mail host and what was found out about it.
type host struct {
	Host
	addrs    []netip.Addr        // those that are contacted
	set      *dane.RRset         // where DANE applies
	refused  *security.Shortfall // why it is not contacted
	failed   *hostFailure
	left     bool // it is not looked at, because there are too many
	sessions []*session
}

// hostFailure is why the relay cannot use a host, whatever its sessions show.
type hostFailure struct {
	kind outbound.Kind
	text phrase.Phrase
}

func (f *hostFailure) Error() string { return f.text.String() }

// Phrase is the text of the error.
func (f *hostFailure) Phrase() phrase.Phrase { return f.text }

// session is what one address of a host showed.
type session struct {
	Session
	evidence security.Evidence
	open     bool // there was a session
	endless  bool // its certificate is good for a TLSA record that asks for no date (RFC 7671, 5.1)
}

// findHosts finds the domain's hosts (RFC 5321, 5.1) and looks at as many as one attempt
// of a delivery does. Where none of them can be used, it goes on as the next attempts
// do. policy waits until the policy is known.
func (c *checker) findHosts(ctx context.Context, policy func()) {
	c.findPlan(ctx)
	c.homeless = c.finder.Homeless(ctx, &c.plan, c.AllowPrivate)
	hosts := c.hosts
	if len(hosts) > outbound.MaxHosts {
		policy()
		hosts = c.admitted()
	}
	for batch := range slices.Chunk(hosts, outbound.MaxHosts) {
		var wg sync.WaitGroup
		for _, h := range batch {
			h.left = false
			wg.Go(func() { c.lookAt(ctx, h, c.planned(h)) })
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
		c.report.MX.Problems = append(c.report.MX.Problems, Problem{Note, phrase.New("%d more hosts are not looked at", left), "RFC 5321, 5.1", phrase.New("nothing")})
	}
}

// admitted are the hosts that the policy names: a delivery passes the others over. Where
// it names none, the first hosts are looked at all the same. Every host is marked as left
// until its turn comes.
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

// usable reports whether mail goes to a host. The policy must be known.
func (c *checker) usable(h *host) bool {
	return slices.ContainsFunc(h.sessions, func(v *session) bool { return v.open && c.requirement(h).Satisfied(&v.evidence) == nil })
}

// planned is the host as the plan has it.
func (c *checker) planned(h *host) outbound.Host { return c.plan.Hosts[slices.Index(c.hosts, h)] }

// findPlan finds the hosts as a delivery does, and notes what is remarkable about them.
func (c *checker) findPlan(ctx context.Context) {
	m := &c.report.MX
	if !c.NoDANE {
		c.believed()
	}
	plan, err := c.finder.Find(ctx, &c.to)
	c.plan = plan
	m.From, m.Secure, m.CNAME = string(plan.From), plan.Secure, plan.Alias
	if denied, ok := errors.AsType[*outbound.Denial](err); ok {
		c.deny(denied)
		return
	}
	if err != nil {
		c.mxErr = err
		m.Problems = append(m.Problems, c.lookupFault(ctx, phrase.New("the MX records could not be looked up: %v", err), err, "RFC 5321, 5.1", ownerOfDomain))
		return
	}
	if plan.Implicit {
		m.Problems = append(m.Problems, Problem{Note, phrase.New("there is no MX record: the domain itself is the mail host"), "RFC 5321, 5.1",
			phrase.New("the domain's owner: publish an MX record; a domain that takes no mail says so with a null MX (RFC 7505)")})
	}
	if plan.NullBeside {
		m.Problems = append(m.Problems, Problem{Warning, phrase.New("a null MX stands beside other MX records; it is passed over"), "RFC 7505, 3", phrase.New("the domain's owner: remove it, or all others")})
	}
	if plan.Self != nil {
		m.Problems = append(m.Problems, Problem{Note, phrase.New("this relay is an MX host of the domain itself, with preference %d; only better ones are tried", plan.Self.Preference), "RFC 5321, 5.1", phrase.New("nothing")})
	}
	for _, h := range plan.Hosts {
		c.hosts = append(c.hosts, &host{Host: Host{Name: h.Name, Preference: h.Preference, Port: h.Port}})
	}
}

// denials are the rule and the remedy for an outbound.Denial, by its reason.
var denials = map[failure.Reason]advice{
	failure.DNS:    {"RFC 5321, 5.1", phrase.New("look for a slip of the pen in the name; the domain's owner: renew the domain")},
	failure.NullMX: {"RFC 7505, 3", phrase.New("nothing, if the domain is to have no mail; else the domain's owner: publish the hosts")},
	failure.Loop:   {"RFC 5321, 5.1", phrase.New("deliver the domain's mail locally, or set a route for it in a [[domain]] table")},
}

// deny notes that there is no host: mail bounces. Where the operator's route is at fault,
// mail waits.
func (c *checker) deny(d *outbound.Denial) {
	c.report.MX.Problems = append(c.report.MX.Problems, Problem{Fault, d.Text, denials[d.Reason].rule, denials[d.Reason].remedy})
	c.mxDenial = Outcome{Action: "bounce", Text: phrase.New("mail bounces at once: %s", d.Text)}
	if d.OfRoute {
		c.mxDenial = wait(phrase.New("the operator's route leads nowhere: %s", d.Text))
	}
}

// believed notes that DANE is off where no resolver is believed to validate DNSSEC.
func (c *checker) believed() {
	var why []phrase.Phrase
	for _, s := range c.Resolver.Servers() {
		if s.Protects() {
			return
		}
		why = append(why, phrase.New("%s (%s)", s.Address, s.Why))
	}
	c.report.MX.Problems = append(c.report.MX.Problems, Problem{Note, phrase.New("DANE is off: no resolver's word on DNSSEC is believed: %s", phrase.Join(why, ", ")), "RFC 7672, 2.1.3",
		phrase.New("run a validating resolver on this machine (unbound), or ask one over TLS (tls://…), and name it in dns.servers")})
}

// lookAt looks up a host's addresses and TLSA records, and opens sessions with it.
func (c *checker) lookAt(ctx context.Context, h *host, planned outbound.Host) {
	problem := func(severity Severity, rule string, remedy, text phrase.Phrase) {
		h.Problems = append(h.Problems, Problem{severity, text, rule, remedy})
	}
	found, err := c.finder.Addresses(ctx, planned, c.to.Reach(c.Family, c.AllowPrivate))
	if len(found.Addrs.Addrs) == 0 {
		h.failed = &hostFailure{outbound.Down, phrase.Of(err)}
		h.Problems = append(h.Problems, c.noAddress(ctx, err))
		return
	}
	h.Secure = found.Secure
	if found.Name != h.Name {
		h.CNAME = found.Name
		if c.plan.From == outbound.FromMX {
			problem(Warning, "RFC 2181, 10.3", phrase.New("the domain's owner: put the name at the end of the alias into the MX record; the certificate and the policy still go by the name that stands there"),
				phrase.New("the MX record names an alias of %s", found.Name))
		}
	}
	if !planned.Addr.IsValid() {
		c.findTLSA(ctx, h, planned, found.Addrs)
	}
	for _, a := range found.Addrs.Addrs {
		h.Addrs = append(h.Addrs, a.Unmap().String())
	}
	if _, ok := errors.AsType[*outbound.LoopError](err); ok {
		h.failed = &hostFailure{outbound.Loop, phrase.Of(err)}
		problem(Fault, "RFC 5321, 6.3", phrase.New("deliver the domain's mail locally, or set a route for it in a [[domain]] table"), phrase.New("the host is this relay itself: mail would go round in a circle"))
		return
	}
	c.leftOut(h, &found)
	if h.addrs = found.Admitted; len(h.addrs) > 0 {
		c.openAll(ctx, h)
	}
}

// noAddress explains why a host has no address.
func (c *checker) noAddress(ctx context.Context, err error) Problem {
	none, ok := errors.AsType[*outbound.NoAddress](err)
	switch {
	case !ok:
		return c.lookupFault(ctx, phrase.New("the host has no address: %v", err), err, "RFC 5321, 5.1", ownerOfHost)
	case none.Err == nil:
		return Problem{Fault, phrase.Of(err), "RFC 5321, 5.1", phrase.New("the domain's owner: give the host a name and put that into the MX record")}
	}
	remedy := phrase.New("the domain's owner: give the host an A or AAAA record, or take it out of the MX records")
	if c.plan.From == outbound.FromAddress {
		remedy = phrase.New("the domain's owner: publish an MX record with the name of a host, or a null MX if the domain is to have no mail")
	}
	return Problem{Fault, phrase.New("the host has no address: %v", err), "RFC 5321, 5.1", remedy}
}

// leftOut notes the addresses that the configuration keeps the relay from.
func (c *checker) leftOut(h *host, found *outbound.Addresses) {
	tell := func(left []netip.Addr, none bool, key string, what, remedy phrase.Phrase) {
		if len(left) == 0 {
			return
		}
		severity := Warning
		if none {
			severity, h.failed = Fault, &hostFailure{outbound.Down, phrase.New("it has only addresses that are not contacted (%s)", key)}
		}
		h.Problems = append(h.Problems, Problem{severity, what, key, remedy})
	}
	none := len(found.Admitted) == 0
	tell(found.OtherFamily, none && len(found.Private) == 0, "delivery.ip_family",
		phrase.New("these of its addresses are not %s, and are not contacted: %v", c.Family, found.OtherFamily), phrase.New("set ip_family = \"any\", if this machine can reach both families"))
	tell(found.Private, none, "delivery.private_addresses",
		phrase.New("these of its addresses are not public, and are not contacted: %v", found.Private), phrase.New("the host's owner: give it a public address; in a network of your own, set private_addresses = \"allow\" or a route"))
}

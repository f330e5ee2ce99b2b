// Package check finds out what this relay would do with mail for a domain, and
// why, without sending any: how the domain's hosts are found, its MTA-STS record
// and policy (RFC 8461), each host's TLS, certificate and TLSA records (RFC
// 7672), its TLS-RPT record (RFC 8460), and what is wrong with each, by which
// rule, and how to mend it.
//
// It decides nothing itself. Whether a policy is in force is said by
// sts.Manager, with a cache that begins with what the running relay knows of the
// domain, or empty where none runs; whether mail may travel over a session by
// security.Requirement; both as in a delivery. The policy cache of a running
// relay is not changed.
package check

import (
	"context"
	"crypto/x509"
	"net/netip"
	"sync"
	"time"

	"github.com/stsrelay/stsrelay/internal/clienthello"
	"github.com/stsrelay/stsrelay/internal/dnsclient"
	"github.com/stsrelay/stsrelay/relay/outbound"
	"github.com/stsrelay/stsrelay/relay/smtpclient"
	"github.com/stsrelay/stsrelay/sts"
)

// Options configures Run. Resolver is required.
type Options struct {
	Resolver *dnsclient.Client
	// Roots are the trusted authorities of MX and policy hosts; nil: the
	// system's.
	Roots *x509.CertPool
	// Dial opens connections to "IP:25", "IP:443" and to routes; default
	// net.Dialer, to mail hosts from SourceIPs.
	Dial outbound.DialFunc
	// Hostname is our name in EHLO.
	Hostname string
	// ConnectTimeout bounds one connection attempt. Default 30s, and never more
	// than Timeout.
	ConnectTimeout time.Duration
	// Timeout bounds the whole. Default 10s.
	Timeout time.Duration
	// Concurrency bounds the connections to hosts at a time. Default 8.
	Concurrency int
	// AllowPrivate permits MX and policy hosts on private, loopback and
	// link-local addresses.
	AllowPrivate bool
	// RefusePlaintext keeps mail from leaving without TLS.
	RefusePlaintext bool
	// Family restricts the addresses of hosts that are contacted; default
	// outbound.AnyFamily.
	Family outbound.IPFamily
	// SourceIPs are the addresses that connections to hosts come from, at most one
	// of each family; none: the system's choice.
	SourceIPs []netip.Addr
	// LegacyTLS speaks TLS 1.0 and 1.1 where nobody asks for more.
	LegacyTLS bool
	// NoSTS and NoDANE say that the operator has switched them off.
	NoSTS, NoDANE bool
	// Stored is what the running relay's policy cache knows of a domain, as
	// sts.Manager.Stored has it; nil, or nothing from it: a cache that is empty.
	Stored func(ctx context.Context, domain string) []byte
	// Rules are the operator's rules for domains. Nobody is logged in to.
	Rules outbound.Rules
	// IsSelf says whether a host is this relay; default: where it has its
	// Hostname.
	IsSelf func(host string, port uint16, addrs []netip.Addr) bool
	// Now is the date for certificates; default time.Now.
	Now func() time.Time
}

func (o Options) withDefaults() Options {
	if o.ConnectTimeout == 0 {
		o.ConnectTimeout = 30 * time.Second
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Concurrency == 0 {
		o.Concurrency = 8
	}
	if o.IsSelf == nil {
		name := o.Hostname
		o.IsSelf = func(host string, _ uint16, _ []netip.Addr) bool { return host == name }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// dialer connects to mail hosts.
func (o *Options) dialer() *outbound.Dialer {
	dial := o.Dial
	if dial == nil {
		dial = outbound.DialFrom(func() []netip.Addr { return o.SourceIPs })
	}
	return outbound.NewDialer(dial, o.Now)
}

// Run checks a domain, a lower-case name in A-labels or an address literal. It
// always returns a report: what could not be found out is in it.
func Run(ctx context.Context, domain string, o Options) *Report {
	o = o.withDefaults()
	ctx, cancel := context.WithTimeoutCause(ctx, o.Timeout, timedOut(o.Timeout))
	defer cancel()
	c := &checker{Options: o, domain: domain, slots: make(chan struct{}, o.Concurrency)}
	c.finder = outbound.Finder{Resolver: o.Resolver, Hostname: o.Hostname, IsSelf: o.IsSelf}
	c.opener = outbound.Opener{
		Dialer: o.dialer(), Hostname: o.Hostname, Roots: o.Roots, Now: o.Now,
		// A host that swallows a large ClientHello leaves time for a small one.
		Timeouts: smtpclient.Timeouts{ServerHello: min(clienthello.Silence, o.Timeout/3)},
	}
	c.report = &Report{Domain: domain, At: o.Now().UTC().Truncate(time.Second), Hosts: []Host{}}
	c.applyRule()

	var wg, policy sync.WaitGroup
	if c.to.PolicyDomain != "" {
		policy.Go(func() { c.findPolicy(ctx) })
		wg.Go(func() { c.findTLSRPT(ctx) })
	}
	c.findHosts(ctx, policy.Wait)
	policy.Wait()
	wg.Wait()

	c.decide(ctx)
	c.judge()
	c.report.Outcome = c.outcome()
	if c.byCache {
		c.report.Outcome.Text += "; the running relay goes by the policy in its cache, whatever is published now"
	}
	c.report.escape()
	return c.report
}

// timedOut is the cause of a check that took too long.
type timedOut time.Duration

func (t timedOut) Error() string {
	return "no answer within " + time.Duration(t).String() + " (the relay itself would wait for longer; see --timeout)"
}

// checker is one run.
type checker struct {
	Options
	domain string
	to     outbound.Destination
	report *Report
	slots  chan struct{} // connections to hosts that may be open
	finder outbound.Finder
	opener outbound.Opener

	// What findPolicy leaves: who decides and what was seen, the decision, what
	// was served, and why there is no decision.
	policies  *sts.Manager
	lookups   policyLookups
	policy    sts.Result
	fetched   *sts.Fetched
	policyErr error
	byCache   bool // it is the running relay's, and not what is published

	// What findHosts leaves.
	plan     outbound.Plan
	mxErr    error   // a lookup without an answer
	mxDenial Outcome // there is no host
	hosts    []*host // those of the plan, in its order
	homeless string  // why the domain has no mail host at all
}

// Package check finds out what this relay would do with mail for a domain, and why,
// without sending any. It explains how the domain's hosts are found, its MTA-STS record
// and policy (RFC 8461), each host's TLS, certificate and TLSA records (RFC 7672), and
// its TLS-RPT record (RFC 8460): what is wrong with each, by which rule, and what helps.
//
// The package decides nothing. As in a delivery, package outbound finds the hosts, opens
// the sessions and says which host is next, security.Requirement judges the sessions,
// and sts.Manager knows the policy in force. The Manager begins with what the running
// relay has in its policy cache, or with an empty cache where no relay runs. The cache
// of the running relay is not changed.
package check

import (
	"context"
	"crypto/x509"
	"net/netip"
	"sync"
	"time"

	"github.com/stsrelay/stsrelay/internal/clienthello"
	"github.com/stsrelay/stsrelay/internal/dnsclient"
	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/internal/phrase"
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
	// Hostname is the relay's name in EHLO.
	Hostname string
	// ConnectTimeout bounds one connection attempt. Default 30s, and never more
	// than Timeout.
	ConnectTimeout time.Duration
	// Timeout bounds the whole check. Default 10s.
	Timeout time.Duration
	// Concurrency is the number of connections to hosts that may be open at a time.
	// Default 8.
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
	// Versions tries each version of TLS at the host that mail goes to: three connections
	// more.
	Versions bool
	// LegacyTLS permits TLS 1.0 and 1.1 where nothing asks for more.
	LegacyTLS bool
	// NoSTS and NoDANE report whether the operator has switched MTA-STS and DANE off.
	NoSTS, NoDANE bool
	// Stored returns what the running relay's policy cache has about a domain, in the
	// form of sts.Manager.Stored. nil, or a function that returns nil: an empty cache.
	Stored func(ctx context.Context, domain string) []byte
	// Waiting returns the mail for a domain that waits in the running relay's queue, nil for
	// none; nil: it is not asked.
	Waiting func(ctx context.Context, domain string) *Waiting
	// Published returns what this relay publishes for a domain, nil where it does not. seen
	// is the policy that was fetched, nil for none. nil: it publishes nothing.
	Published func(ctx context.Context, domain string, seen *sts.Policy) *Published
	// Rules are the operator's rules for domains. A check does not log in.
	Rules outbound.Rules
	// Sender is the domain of the mail's sender, in lower case, for rules that hang on
	// it; "": none.
	Sender string
	// IsSelf reports whether a host is this relay. Default: whether its name is
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

// dialer returns the dialer for mail hosts.
func (o *Options) dialer() *outbound.Dialer {
	dial := o.Dial
	if dial == nil {
		dial = outbound.DialFrom(func() []netip.Addr { return o.SourceIPs })
	}
	return outbound.NewDialer(dial, o.Now)
}

// Run checks a domain: a name in lower case, in A-labels, or an address literal. It
// always returns a report, which also says what could not be found out.
func Run(ctx context.Context, domain string, o Options) *Report {
	o = o.withDefaults()
	ctx, cancel := context.WithTimeoutCause(ctx, o.Timeout, timedOut(o.Timeout))
	defer cancel()
	c := &checker{Options: o, domain: domain, slots: make(chan struct{}, o.Concurrency), to: o.Rules.Destination(domain, o.Sender)}
	c.finder = outbound.Finder{Resolver: o.Resolver, Hostname: o.Hostname, IsSelf: o.IsSelf}
	c.opener = outbound.Opener{
		Dialer: o.dialer(), Hostname: o.Hostname, Roots: o.Roots, Now: o.Now,
		// A host that does not answer a large ClientHello leaves time for a small one.
		Timeouts: smtpclient.Timeouts{ServerHello: min(clienthello.Silence, o.Timeout/3)},
	}
	c.look(ctx)
	c.fallBack(ctx)
	if o.Waiting != nil {
		c.report.Waiting = o.Waiting(ctx, domain)
	}
	if w := c.report.Waiting; w != nil && w.Detail != "" && c.report.Outcome.Deliverable {
		c.report.Outcome.Text = phrase.New("%s; but mail of the running relay waits, whose last attempt met: %s", c.report.Outcome.Text, human.Shorten(w.Detail, 200))
	}
	if o.Published != nil {
		var seen *sts.Policy
		if c.fetched != nil {
			seen = c.fetched.Policy
		}
		c.report.Published = o.Published(ctx, domain, seen)
	}
	c.report.escape()
	return c.report
}

// look looks at one way to the domain, and makes the report.
func (c *checker) look(ctx context.Context) {
	c.report = &Report{Domain: c.domain, At: c.Now().UTC().Truncate(time.Second), Hosts: []Host{}}
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
	if c.Versions {
		c.tryVersions(ctx)
	}
	if c.byCache {
		c.report.Outcome.Text = phrase.New("%s; the running relay goes by the policy in its cache, whatever is published now", c.report.Outcome.Text)
	}
}

// timedOut is the cause of a check that took too long.
type timedOut time.Duration

func (t timedOut) Error() string { return t.Phrase().String() }

// Phrase is the text of the error.
func (t timedOut) Phrase() phrase.Phrase {
	return phrase.New("no answer within %s (the relay itself would wait for longer; see --timeout)", time.Duration(t))
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

	// Set by findPolicy: the manager and what it looked up, its decision, what the
	// policy host served, and why there is no decision.
	policies  *sts.Manager
	lookups   policyLookups
	policy    sts.Result
	fetched   *sts.Fetched
	policyErr error
	byCache   bool // the policy is that of the running relay's cache, and not the published one

	// Set by findHosts.
	plan     outbound.Plan
	mxErr    error         // the lookup had no answer
	mxDenial Outcome       // set where there is no host
	hosts    []*host       // those of the plan, in its order
	homeless phrase.Phrase // why the domain has no mail host at all

	down bool // set by outcome: all hosts had their turn, and fail for no reason of policy
}

package check

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"

	"github.com/stsrelay/stsrelay/internal/dnsclient"
	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/sts"
)

// stored is the policy cache of one run. It begins with what the running relay has about
// the domain, and keeps nothing.
type stored struct {
	domain string
	value  []byte // nil: nothing is known
}

func (stored) Put(context.Context, []byte, []byte) error { return nil }
func (stored) Delete(context.Context, []byte) error      { return nil }
func (s stored) Get(key []byte) ([]byte, error) {
	if string(key) != s.domain {
		return nil, nil
	}
	return s.value, nil
}
func (s stored) Scan(_ []byte, fn func(key, value []byte) error) error {
	if len(s.value) == 0 {
		return nil
	}
	return fn([]byte(s.domain), s.value)
}

// policyLookups are the answers that were seen while a policy was looked up.
type policyLookups struct {
	txt      dnsclient.TXT
	txtErr   error
	asked    bool
	addrs    []netip.Addr
	fetched  *sts.Fetched
	fetchErr *sts.FetchError
}

// findPolicy lets an sts.Manager decide which policy is in force, and keeps the answers
// that it saw. Where the Manager has no reason to fetch a policy, findPolicy fetches it
// all the same: the report shows what is published now, and a policy that no record
// announces is a common mistake.
func (c *checker) findPolicy(ctx context.Context) {
	p := &c.lookups
	var addrs atomic.Pointer[[]netip.Addr] // of the policy host: a fetch that has ended may still look them up
	fetcher := sts.NewFetcher(sts.FetcherOptions{
		Roots: c.Roots, DialContext: c.Dial, AllowPrivate: c.AllowPrivate, Now: c.Now,
		Timeout: c.Timeout * 9 / 10, // so that the failure is the fetch's own
		LookupAddrs: func(ctx context.Context, host string) ([]netip.Addr, error) {
			a, err := c.Resolver.Addrs(ctx, host)
			if dnsclient.IsNotFound(err) {
				return nil, sts.ErrNoHost
			}
			addrs.Store(&a.Addrs)
			return a.Addrs, err
		},
	})
	fetch := func(ctx context.Context, domain string) (*sts.Fetched, error) {
		if !p.asked { // a check fetches once
			f, err := fetcher.Fetch(ctx, domain)
			p.asked, p.fetched = true, f
			if a := addrs.Load(); a != nil {
				p.addrs = *a
			}
			p.fetchErr, _ = errors.AsType[*sts.FetchError](err)
		}
		return p.fetched, errorOf(p.fetchErr)
	}
	known := stored{domain: c.to.PolicyDomain}
	if c.Stored != nil && !c.NoSTS {
		known.value = c.Stored(ctx, c.to.PolicyDomain)
	}
	var err error
	c.policies, err = sts.NewManager(sts.ManagerOptions{
		Store: known, Fetch: fetch, Now: c.Now,
		LookupTXT: func(ctx context.Context, name string, fresh bool) ([]string, error) {
			p.txt, p.txtErr = c.Resolver.TXT(ctx, name, fresh)
			if dnsclient.IsNotFound(p.txtErr) {
				return nil, sts.ErrNoTXT
			}
			return p.txt.Records, p.txtErr
		},
	})
	if err != nil {
		c.policyErr = err // does not happen: the Manager passes over what it cannot read
		return
	}
	c.report.Cached = c.describeCached()
	r, err := c.policies.Lookup(ctx, c.to.PolicyDomain)
	if err != nil {
		c.policies.Close() // waits for lookups that are under way and still write to p
		if e, ok := c.policies.Show(c.to.PolicyDomain); ok && e.Policy != nil && c.Now().Before(e.ExpiresAt) {
			// A relay would wait longer, and go by its cache without an answer.
			r, err = sts.Result{Domain: c.to.PolicyDomain, Policy: e.Policy, ID: e.ID}, nil
		}
	}
	if !p.asked && ctx.Err() == nil {
		_, _ = fetch(ctx, c.to.PolicyDomain)
	}
	c.fetched = p.fetched
	c.goBy(r, err)
}

// goBy sets the policy in force.
func (c *checker) goBy(r sts.Result, err error) {
	if c.NoSTS {
		r, err = sts.Result{Domain: c.to.PolicyDomain}, nil
	}
	published := r.Policy != nil && c.fetched != nil && c.fetched.Policy.Text() == r.Policy.Text()
	if k := c.report.Cached; k != nil {
		k.InForce = r.Policy != nil && !r.Fresh
		c.byCache = k.InForce && !published
	}
	if r.Policy != nil && r.Policy.Mode == sts.ModeNone {
		r.Policy = nil // it says that there is none
	}
	c.policy, c.policyErr = r, err
}

// decide finds the policy in force, and describes what was published. A cached policy
// that refuses every host is fetched anew, as in a delivery.
func (c *checker) decide(ctx context.Context) {
	if c.policies == nil {
		return // there was no domain to ask
	}
	defer c.policies.Close()
	if p := c.policy.Policy; p != nil && p.Mode == sts.ModeEnforce && !c.policy.Fresh && c.refused() {
		r, _, err := c.policies.Refetch(ctx, c.to.PolicyDomain)
		if err == nil && r.Policy != nil && r.Policy.Text() != p.Text() {
			c.goBy(r, nil)
		}
	}
	c.report.Record = c.describeRecord(ctx, &c.lookups)
	c.report.PolicyHost = c.describePolicyHost(&c.lookups)
	c.report.Policy = c.describePolicy(&c.lookups)
	if k := c.report.Cached; k != nil && k.InForce && c.report.Record.ID == "" {
		c.byCache = true
	}
}

// refused reports whether a requirement keeps mail from a host, and no other host takes
// it.
func (c *checker) refused() (refused bool) {
	for _, h := range c.hosts {
		req := c.requirement(h)
		if req.Admits() != nil {
			refused = true
			continue
		}
		for _, v := range h.sessions {
			if !v.open {
				continue
			}
			if req.Satisfied(&v.evidence) == nil {
				return false
			}
			refused = true
		}
	}
	return refused
}

func (c *checker) describeCached() *Cached {
	e, ok := c.policies.Show(c.to.PolicyDomain)
	if !ok {
		return nil
	}
	k := &Cached{ID: e.ID, MX: []string{}, LastError: e.LastError}
	if e.Policy != nil {
		k.Mode, k.FetchedAt, k.ExpiresAt = string(e.Policy.Mode), &e.FetchedAt, &e.ExpiresAt
		k.MX = append(k.MX, e.Policy.MX...)
	}
	return k
}

func (c *checker) describeRecord(ctx context.Context, p *policyLookups) *Record {
	r := &Record{Name: "_mta-sts." + c.to.PolicyDomain, TXT: p.txt.Records, CNAME: p.txt.CNAME}
	fault := func(text, remedy phrase.Phrase) {
		r.Problems = append(r.Problems, Problem{Fault, text, "RFC 8461, 3.1", remedy})
	}
	if p.txtErr != nil && !dnsclient.IsNotFound(p.txtErr) {
		r.Problems = append(r.Problems, c.lookupFault(ctx, phrase.New("the record could not be looked up: %v", p.txtErr), p.txtErr, "RFC 8461, 3.1", ownerOfDomain))
		return r
	}
	rec, err := sts.ParseRecord(p.txt.Records)
	r.ID = rec.ID
	switch {
	case errors.Is(err, sts.ErrInvalidRecord) && candidates(p.txt.Records) > 1:
		fault(phrase.Of(err), phrase.New("the domain's owner: remove all records but one; with several, senders take it that there is no policy"))
	case errors.Is(err, sts.ErrInvalidRecord):
		fault(phrase.Of(err), phrase.New("the domain's owner: write it as in \"v=STSv1; id=%s\"", c.Now().UTC().Format("20060102150405")))
	case err != nil && p.fetched != nil:
		fault(phrase.New("the policy host serves a policy, and no record announces it: senders do not look for it"),
			phrase.New("the domain's owner: publish a TXT record at %s, such as \"v=STSv1; id=%s\"", r.Name, c.Now().UTC().Format("20060102150405")))
	}
	if err != nil && !errors.Is(err, sts.ErrInvalidRecord) {
		r.Problems = append(r.Problems, problemsOf(lookalikes(p.txt.Records, "stsv1"), func(t string) Problem {
			return Problem{Fault, phrase.New("the record %q looks like one of MTA-STS, and does not begin with \"v=STSv1;\"", shorten(t, 80)), "RFC 8461, 3.1",
				phrase.New("the domain's owner: let the record begin with exactly v=STSv1; and in that case of letters")}
		})...)
	}
	if c.NoSTS {
		r.Problems = append(r.Problems, Problem{Warning, phrase.New("MTA-STS is switched off: what follows is judged, and not applied"), "sts.enabled", phrase.New("switch it on")})
	}
	return r
}

func candidates(txt []string) (n int) {
	for _, t := range txt {
		if strings.HasPrefix(t, "v=STSv1") {
			n++
		}
	}
	return n
}

func (c *checker) describePolicyHost(p *policyLookups) *PolicyHost {
	announced := c.report.Record.ID != ""
	if !p.asked || errors.Is(errorOf(p.fetchErr), sts.ErrNoHost) && !announced {
		return nil // no MTA-STS, as most domains
	}
	host := "mta-sts." + c.to.PolicyDomain
	out := &PolicyHost{URL: "https://" + host + "/.well-known/mta-sts.txt"}
	for _, a := range p.addrs {
		out.Addrs = append(out.Addrs, a.String())
	}
	seen := p.fetched
	if seen == nil && p.fetchErr != nil {
		seen = p.fetchErr.Seen
	}
	if seen != nil {
		out.Address, out.Status, out.ContentType, out.Location = seen.Addr, seen.Status, seen.ContentType, seen.Location
		out.ContentEncoding = seen.ContentCoding
	}
	e := security.Evidence{Host: host}
	if seen != nil && seen.TLS != nil {
		out.TLS = tls.VersionName(seen.TLS.Version)
		e.Observe(*seen.TLS, c.Roots, c.Now())
	} else if v, ok := errors.AsType[*tls.CertificateVerificationError](errorOf(p.fetchErr)); ok {
		// The handshake ended before a version was known.
		e.Observe(tls.ConnectionState{Version: tls.VersionTLS13, PeerCertificates: v.UnverifiedCertificates}, c.Roots, c.Now())
	}
	out.Certificate = c.certificate(&e)
	if p.fetchErr != nil && p.fetchErr.Type != sts.PolicyInvalid {
		out.Problems = append(out.Problems, c.fetchProblem(p.fetchErr, &e))
	}
	if seen != nil && seen.Status == http.StatusOK && seen.ContentType == "" {
		out.Problems = append(out.Problems, Problem{Warning, phrase.New("the answer has no Content-Type"), "RFC 8461, 3.2", phrase.New("the domain's owner: serve the policy as text/plain; some senders refuse anything else")})
	}
	if seen != nil && p.fetchErr == nil && seen.ContentCoding != "" {
		out.Problems = append(out.Problems, Problem{Warning, phrase.New("the answer is compressed (%s), which nobody asked for; not every sender can read it", shorten(seen.ContentCoding, 80)), "RFC 9110, 12.5.3", plainRemedy})
	}
	if seen != nil && seen.SmallHello {
		out.Problems = append(out.Problems, smallHello(phrase.New("the policy host")))
	}
	if out.Certificate != nil {
		out.Problems = append(out.Problems, c.endsSoon(host, out.Certificate)...)
	}
	return out
}

// errorOf is a failure as an error; nil where there is none.
func errorOf(err *sts.FetchError) error {
	if err == nil {
		return nil
	}
	return err
}

// fetchProblem explains why there is no policy.
func (c *checker) fetchProblem(err *sts.FetchError, e *security.Evidence) Problem {
	p := Problem{Severity: Fault, Text: phrase.Of(err.Err), Rule: "RFC 8461, 3.3"}
	host := "mta-sts." + c.to.PolicyDomain
	seen := err.Seen
	if seen == nil {
		seen = &sts.Fetched{}
	}
	switch {
	case errors.Is(err, sts.ErrNoHost):
		p.Text = phrase.New("the record announces a policy, and %s does not exist", host)
		p.Remedy = phrase.New("the domain's owner: add an A, AAAA or CNAME record for the policy host and serve the policy there; or remove the record")
	case errors.Is(err, sts.ErrPrivateAddress):
		p.Text = phrase.New("%s leads to addresses that are not public: %v", host, err.Err)
		p.Rule = "delivery.private_addresses"
		p.Remedy = phrase.New("the domain's owner: give the policy host a public address; in a network of your own, set private_addresses = \"allow\"")
	case err.Type == sts.WebPKIInvalid:
		req := security.Requirement{Host: host, Level: security.Verify}
		if s, ok := errors.AsType[*security.Shortfall](req.Satisfied(e)); ok {
			p.Text = s.Text
		}
		p.Remedy = phrase.New("the domain's owner: give the policy host a certificate of a public authority for %s, with its whole chain, and renew it in time", host)
	case seen.Location != "" && seen.Status/100 == 3:
		p.Remedy = phrase.New("the domain's owner: serve the policy itself at this address; where it is kept elsewhere, pass the request on (reverse proxy) or make mta-sts a CNAME to a host that has a certificate for it")
	case seen.Status != 0 && seen.Status != http.StatusOK:
		p.Remedy = phrase.New("the domain's owner: serve the policy at exactly https://%s/.well-known/mta-sts.txt with status 200", host)
	case errors.Is(err, sts.ErrContentCoding):
		p.Rule, p.Remedy = "RFC 9110, 12.5.3", plainRemedy
	case errors.Is(err, sts.ErrContentType):
		p.Rule, p.Remedy = "RFC 8461, 3.2", phrase.New("the domain's owner: serve the policy as text/plain")
	case seen.Status == http.StatusOK:
		p.Remedy = phrase.New("the domain's owner: serve a text of at most 64 KiB, and all of it within seconds")
	case isAlert(err, alertUnrecognizedName):
		p.Text = phrase.New("the policy could not be fetched: %s", p.Text)
		p.Remedy = phrase.New("the domain's owner: give the web server a site of the name %s and a certificate for it; it runs, and knows no such name", host)
	case isAlert(err, alertHandshakeFailure), isAlert(err, alertInternalError):
		p.Text = phrase.New("the policy could not be fetched: %s", p.Text)
		p.Remedy = phrase.New("the domain's owner: see that the web server has a site of the name %s and a certificate for it, and speaks TLS 1.2 or 1.3; its log says more", host)
	case seen.Addr != "":
		p.Text = phrase.New("the policy could not be fetched: %s", p.Text)
		p.Remedy = phrase.New("the domain's owner: let the policy host speak TLS 1.2 or 1.3 and HTTP on port 443, and answer within seconds")
	default:
		p.Text = phrase.New("the policy could not be fetched: %s", p.Text)
		p.Remedy = phrase.New("the domain's owner: let the policy host answer on port 443; on this side, see that the firewall lets this machine reach port 443")
	}
	return p
}

// Alerts of web servers that tell more than that TLS failed (RFC 8446, 6.2).
const (
	alertHandshakeFailure tls.AlertError = 40
	alertInternalError    tls.AlertError = 80
	alertUnrecognizedName tls.AlertError = 112
)

// isAlert reports whether the other side ended the handshake with an alert. crypto/tls
// gives no way to tell but by the text.
func isAlert(err error, alert tls.AlertError) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error" && op.Err.Error() == alert.Error()
}

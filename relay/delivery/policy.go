package delivery

import (
	"context"
	"fmt"
	"sync"

	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/failure"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/relay/trace"
	"github.com/stsrelay/stsrelay/sts"
)

// unknownAttempts is how many attempts a domain's mail waits while it is not known
// whether the domain has a policy. One lost packet must not take a policy away, and name
// servers that fail for all names with an underscore must not stop mail for good.
const unknownAttempts = 2

// maxUnknown is how many such domains are remembered.
const maxUnknown = 10_000

// unknownPolicies are the domains of which it was not known lately whether they have a
// policy.
type unknownPolicies struct {
	mu      sync.Mutex
	domains map[string]unknownPolicy
}

// unknownPolicy counts the attempts for which a domain's mail has waited. Attempts at the
// same step of the domain's back-off count as one.
type unknownPolicy struct {
	attempts int
	step     int // of the domain's back-off, at the last attempt
}

// known forgets a domain, since its policy is known.
func (u *unknownPolicies) known(domain string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.domains, domain)
}

// wait takes note of an attempt at a step of the domain's back-off. It reports whether the
// domain's mail waits for another one.
func (u *unknownPolicies) wait(domain string, step int) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	d, seen := u.domains[domain]
	if !seen && len(u.domains) >= maxUnknown {
		clear(u.domains) // they wait once more
	}
	if !seen || d.step != step && d.attempts <= unknownAttempts {
		d = unknownPolicy{d.attempts + 1, step}
		if u.domains == nil {
			u.domains = make(map[string]unknownPolicy)
		}
		u.domains[domain] = d
	}
	return d.attempts <= unknownAttempts
}

// lookupPolicy finds the policy in force.
func (a *attempt) lookupPolicy(ctx context.Context) *attemptError {
	if a.d.policies == nil || a.to.PolicyDomain == "" || !a.asksDomain() {
		a.trace.Add("", trace.Policy, "no MTA-STS policy is looked up: it is switched off, or nobody's counts for this message")
		return nil
	}
	lookup := a.d.policies.Lookup
	if a.claim.Expired {
		// The last attempt before the message is given up (RFC 8461, 5.1).
		lookup = a.d.policies.Recheck
	}
	a.trace.WaitsFor(trace.MTASTSPolicy, a.to.PolicyDomain)
	r, err := lookup(ctx, a.to.PolicyDomain)
	a.tracePolicy(r, err)
	if err != nil {
		return &attemptError{reason: failure.Internal, status: "3.2", domainWide: true, text: "the policy was not looked up: " + err.Error()}
	}
	if r.Policy != nil && r.Policy.Mode == sts.ModeNone {
		r.Policy = nil // it says that there is none
	}
	a.policy = r
	if !r.Unknown {
		a.d.unknownPolicies.known(a.to.PolicyDomain)
		return nil
	}
	if a.overridden() {
		return nil
	}
	step := a.claim.BackoffStep
	if a.to.BySender {
		step = a.claim.Attempts // its domain has no back-off
	}
	if a.d.unknownPolicies.wait(a.to.PolicyDomain, step) {
		return &attemptError{reason: failure.STSFetch, policy: true, domainWide: true,
			text: fmt.Sprintf("whether %s asks for verified TLS cannot be told now (%s); nothing was sent", a.to.PolicyDomain, r.Why)}
	}
	a.d.log.Warn("whether the domain has a policy could not be told for several attempts; going on without",
		"queue_id", a.claim.Envelope.ID.String(), "domain", a.to.PolicyDomain, "why", r.Why)
	return nil
}

// asksDomain reports whether what the domain publishes matters to this message.
// It does not hold a TLS report (RFC 8460, 3), but may be what the operator's
// rule or the password of the route rests on.
func (a *attempt) asksDomain() bool {
	return a.claim.Envelope.Kind != queue.Report || a.to.User() != "" || a.to.Rule != nil && a.to.Rule.Level == security.VerifyDANE
}

// overridden reports whether no published policy may hold this message.
func (a *attempt) overridden() bool {
	return a.to.Overridden() || a.claim.Envelope.Kind == queue.Report || a.claim.Envelope.TLSOptional && !a.claim.Envelope.RequireTLS
}

// refetchPolicy fetches the policy anew after it has refused every host. It reports
// whether the attempt should be made again under another policy.
func (a *attempt) refetchPolicy(ctx context.Context) bool {
	// Whether it has changed is asked of the policy that was used: the fetch may
	// have been made for another message meanwhile.
	a.trace.WaitsFor(trace.MTASTSPolicy, a.to.PolicyDomain)
	r, _, err := a.d.policies.Refetch(ctx, a.to.PolicyDomain)
	a.tracePolicy(r, err)
	if err != nil || r.Policy == nil || r.Policy.Text() == a.policy.Policy.Text() {
		return false
	}
	a.d.log.Info("the policy has changed and its id has not; trying again under the new one",
		"queue_id", a.claim.Envelope.ID.String(), "domain", a.to.PolicyDomain, "policy", r.ID, "mode", string(r.Policy.Mode), "mx", r.Policy.MX)
	if r.Policy.Mode == sts.ModeNone {
		r.Policy = nil
	}
	a.policy = r
	return true
}

package delivery

import (
	"context"
	"fmt"

	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/reason"
	"github.com/stsrelay/stsrelay/sts"
)

// unknownAttempts is for how many attempts a domain's mail waits while nobody
// can tell whether it has a policy. One lost packet must not take a policy
// away; name servers that fail for all names with an underscore must not stop
// mail for good.
const unknownAttempts = 2

// lookupPolicy finds the policy in force. The error is a *failure.
func (a *attempt) lookupPolicy(ctx context.Context) error {
	if a.d.policies == nil || a.policyDomain == "" || a.w.Envelope.Kind == queue.Report {
		return nil
	}
	lookup := a.d.policies.Lookup
	if a.w.Expired {
		// The last attempt before the message is given up (RFC 8461, 5.1).
		lookup = a.d.policies.Recheck
	}
	r, err := lookup(ctx, a.policyDomain)
	if err != nil {
		return &failure{status: "4.3.2", why: reason.Local, text: "the policy was not looked up: " + err.Error()}
	}
	if r.Policy != nil && r.Policy.Mode == sts.ModeNone {
		r.Policy = nil // it says that there is none
	}
	a.policy = r
	if !r.Unknown || a.overridden() {
		return nil
	}
	if a.w.Attempts < unknownAttempts {
		return &failure{status: "4.7.5", why: reason.STSFetch, policy: true, domainWide: true,
			text: fmt.Sprintf("whether %s asks for verified TLS cannot be told now (%s); nothing was sent", a.policyDomain, r.Why)}
	}
	a.d.log.Warn("whether the domain has a policy could not be told for several attempts; going on without",
		"queue_id", a.w.Envelope.ID.String(), "domain", a.policyDomain, "why", r.Why)
	return nil
}

// overridden says that no published policy may hold this message.
func (a *attempt) overridden() bool {
	return a.rule != nil && a.rule.Override || a.w.Envelope.TLSOptional && !a.w.Envelope.RequireTLS
}

// lookAgain fetches the policy anew after it has refused every host. It reports
// whether the attempt should be made again under another policy.
func (a *attempt) lookAgain(ctx context.Context) bool {
	// Whether it has changed is asked of the policy that was used: the fetch may
	// have been made for another message meanwhile.
	r, _, err := a.d.policies.Refetch(ctx, a.policyDomain)
	if err != nil || r.Policy == nil || r.Policy.Text() == a.policy.Policy.Text() {
		return false
	}
	a.d.log.Info("the policy has changed and its id has not; trying again under the new one",
		"queue_id", a.w.Envelope.ID.String(), "domain", a.policyDomain, "policy", r.ID, "mode", string(r.Policy.Mode), "mx", r.Policy.MX)
	if r.Policy.Mode == sts.ModeNone {
		r.Policy = nil
	}
	a.policy = r
	return true
}

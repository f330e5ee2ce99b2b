package delivery

import (
	"context"
	"errors"
	"net/netip"

	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/failure"
	"github.com/stsrelay/stsrelay/relay/outbound"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/relay/trace"
)

// tryHosts tries the hosts in order until every recipient has a result, until the
// attempt has tried enough of them, or until its time is over.
func (a *attempt) tryHosts(ctx context.Context, plan *outbound.Plan) {
	now := a.d.now()
	a.walk = a.d.rotation.Begin(a.to.Key(), plan, a.walk, now)
	guide := outbound.Guide{
		Requirement: func(h outbound.Host) *security.Requirement { return a.requirement(h.Name, plan) },
		Addresses: func(h outbound.Host) []netip.Addr {
			found, _ := a.d.finder.Addresses(ctx, h, a.reach())
			return found.Admitted
		},
	}
	for step := range a.walk.Hosts(ctx, guide) {
		if step.Refused != nil {
			a.noteSkipped(step.Requirement, step.Refused)
			f := policyFailure(step.Refused, step.Requirement)
			a.trace.Add(step.Name, trace.Host, "passed over: "+f.Error())
			a.failed(f)
			continue
		}
		a.trace.Add(step.Name, trace.Host, "has its turn")
		if f := a.tryCandidate(ctx, step); f == nil {
			a.walk.Reached()
		} else {
			a.trace.Add(step.Name, trace.Host, "left: "+f.Error())
			a.failed(f)
			// Otherwise it may have addresses that were not tried.
			if a.walk.Left() > 0 && f.reason != failure.Busy && f.reason != failure.Loop && ctx.Err() == nil {
				a.walk.Done(step.Host)
			}
		}
		if len(a.recipients.open) == 0 {
			break
		}
	}
	a.d.rotation.End(a.to.Key(), a.walk, len(a.recipients.open) > 0, ctx.Err() != nil, now)
}

// failed takes note of a host that could not be used.
func (a *attempt) failed(f *attemptError) {
	if f.busy > 0 {
		a.busy = f.busy
	}
	kind := outbound.Down
	switch {
	case f.reason == failure.Loop:
		kind = outbound.Loop
	case f.policy && f.permanent:
		kind = outbound.HeldForGood
	case f.policy:
		kind = outbound.Held
	}
	a.walk.Failed(f, kind)
}

// reason is why recipients are without a result.
func (a *attempt) reason() *attemptError {
	if a.walk != nil {
		if f, ok := errors.AsType[*attemptError](a.walk.Reason(a.end.reached)); ok {
			return f
		}
	}
	return &attemptError{reason: failure.Connect, status: "4.4", text: "no host of " + a.claim.Domain + " was tried", domainWide: true}
}

// tryCandidate tries one host: its TLSA records, then a session. nil: see tryHost.
func (a *attempt) tryCandidate(ctx context.Context, step outbound.Step) *attemptError {
	if f := a.addTLSA(ctx, step.Host, step.Requirement); f != nil {
		return f
	}
	if s, ok := errors.AsType[*security.Shortfall](step.Requirement.Admits()); ok {
		a.noteSkipped(step.Requirement, s)
		return policyFailure(s, step.Requirement)
	}
	return a.tryHost(ctx, a.newHostTry(step.Host, step.Requirement))
}

// tryHost tries one host. It returns nil where a transaction was made, even if
// recipients were refused in it; what has no result then goes to the next host.
func (a *attempt) tryHost(ctx context.Context, h *hostTry) *attemptError {
	at, f := a.transact(ctx, h)
	if !at.IsValid() {
		return f
	}
	if h.refusals != nil && a.hasOtherFamily(ctx, h.Host, at) {
		h.refusedOver = at
		_, f = a.transact(ctx, h)
	}
	a.recipients.acceptRefusals(h.refusals, a.record.tls)
	return f
}

// transact makes transactions with a host until one counts that leaves no recipients
// for another one. at is where that was; it is not valid where there was no session.
// The failure is of the host.
func (a *attempt) transact(ctx context.Context, h *hostTry) (at netip.Addr, f *attemptError) {
	h.fresh = a.alone
	a.trace.WaitsAt(func() (open, limit int) { return a.d.pool.occupancy(h.key, h.limit) })
	defer a.trace.WaitsAt(nil)
	for {
		s, f := a.session(ctx, h)
		if f != nil {
			return at, f
		}
		a.record.proved(h.req, &s.evidence)
		var r transactionResult
		for more := true; more; more = r.course == courseMore && s.mayCarry() {
			r = a.send(ctx, h, s)
			a.fold(h, s, r)
		}
		if r.course != courseRenew {
			a.judgeSession(h.req, s)
		}
		s.client.SetTrace(nil)
		a.hold.waits(nil, 0) // the session may be another attempt's now
		s.spent = a.alone || r.course == courseRenew
		a.d.pool.put(s, a.d.now())
		if r.course == courseDone {
			return s.addr, r.failure
		}
		h.fresh = h.fresh || r.course == courseRenew
	}
}

// requirement is what is asked of a host for this message.
func (a *attempt) requirement(host string, plan *outbound.Plan) *security.Requirement {
	// RFC 8460, 3 lifts the recipients' policies for a report, not the operator's
	// own rules.
	req := a.to.Requirement(host, plan, a.policy.Policy, a.settings.RefusePlaintext)
	// A notice about such a message is not lost for want of REQUIRETLS (RFC 8689, 5).
	req.RequireTLS = a.claim.Envelope.RequireTLS && a.claim.Envelope.From != ""
	req.TLSOptional = a.claim.Envelope.TLSOptional || a.claim.Envelope.Kind == queue.Report
	return req
}

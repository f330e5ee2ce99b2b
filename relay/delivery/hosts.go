package delivery

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/failure"
	"github.com/stsrelay/stsrelay/relay/outbound"
	"github.com/stsrelay/stsrelay/relay/security"
)

// tryHosts tries the hosts in order until every recipient has a result, until the
// attempt has tried enough of them, or until its time is over. Then the next attempt goes on with those that
// are left, and begins with the best again after them.
func (a *attempt) tryHosts(ctx context.Context, r route) {
	now := a.d.now()
	a.hosts.passOver, a.hosts.tried, a.hosts.looked = a.d.rotation.of(a.w.Domain, now), make(tried), 0
	a.tryEach(ctx, r, true)
	switch {
	case len(a.hosts.passOver) == 0 || a.enough() || ctx.Err() != nil:
	case len(a.recipients.open) == 0:
		a.d.rotation.works(a.w.Domain, now)
		return
	default:
		a.hosts.passOver, a.hosts.tried = a.hosts.tried, make(tried)
		a.tryEach(ctx, r, false)
	}
	if (a.enough() || ctx.Err() != nil) && len(a.recipients.open) > 0 {
		a.d.rotation.set(a.w.Domain, a.hosts.passOver.and(a.hosts.tried), now)
	} else {
		a.d.rotation.set(a.w.Domain, nil, now)
	}
}

// enough reports whether the attempt has tried as many hosts or addresses as it may.
func (a *attempt) enough() bool {
	return a.hosts.dials >= outbound.MaxAddresses || a.hosts.looked >= outbound.MaxHosts
}

// tryEach tries the hosts that have not had their turn. first is false where it goes
// through them once more in the same attempt.
func (a *attempt) tryEach(ctx context.Context, r route, first bool) {
	unnamed := 0
	for _, c := range r.candidates {
		if len(a.recipients.open) == 0 || ctx.Err() != nil || a.enough() {
			return
		}
		req := a.requirement(c.host, r)
		if s, ok := errors.AsType[*security.Shortfall](req.AdmitsName()); ok {
			if unnamed++; first && unnamed <= outbound.MaxHosts { // each is counted in the commit of the result
				a.failures.add(policyFailure(s, req))
				a.noteSkipped(req, s)
			}
			continue
		}
		if a.hasHadItsTurn(ctx, c) {
			continue
		}
		a.hosts.looked++
		f := a.tryCandidate(ctx, c, req)
		if f == nil {
			continue
		}
		if f.reason == failure.Loop {
			// Hosts behind this one are ours, or lead back here (RFC 5321, 5.1).
			// Where better ones are only down, the mail waits for them.
			if a.failures.last == nil && len(a.hosts.passOver) == 0 {
				a.failures.add(f)
			}
			return
		}
		a.failures.add(f)
		if a.hosts.dials < outbound.MaxAddresses && f.reason != failure.Busy && ctx.Err() == nil { // else it may have addresses that were not tried
			a.hosts.tried[c.host] = true
		}
	}
}

// tryCandidate tries one host: its TLSA records, then a session. nil: see tryHost.
func (a *attempt) tryCandidate(ctx context.Context, c candidate, req *security.Requirement) *attemptError {
	if f := a.addTLSA(ctx, c, req); f != nil {
		return f
	}
	if err := req.Admits(); err != nil {
		s, _ := errors.AsType[*security.Shortfall](err)
		a.noteSkipped(req, s)
		return policyFailure(s, req)
	}
	return a.tryHost(ctx, c, req)
}

// hasHadItsTurn reports whether an earlier attempt has tried all that there is of a
// host.
func (a *attempt) hasHadItsTurn(ctx context.Context, c candidate) bool {
	if len(a.hosts.passOver) == 0 {
		return false
	}
	if a.hosts.passOver[c.host] {
		return true
	}
	addrs, err := a.addresses(ctx, c)
	return err == nil && !slices.ContainsFunc(addrs, func(x netip.Addr) bool { return !a.hosts.passOver[x.String()] })
}

// requirement is what is asked of host for this message.
func (a *attempt) requirement(host string, r route) *security.Requirement {
	req := &security.Requirement{
		Domain: a.policyDomain,
		Host:   host,
		Policy: a.policy.Policy,
		// A notice about such a message is not lost for want of REQUIRETLS (RFC
		// 8689, 5).
		RequireTLS:  a.w.Envelope.RequireTLS && a.w.Envelope.From != "",
		TLSOptional: a.w.Envelope.TLSOptional || a.w.Envelope.Kind == queue.Report,
		MXSecure:    r.secure,
		DomainAlias: r.alias,
	}
	if req.Domain == "" {
		req.Domain = a.w.Domain
	}
	// RFC 8460, 3 lifts the recipients' policies for a report, not the operator's
	// own rules.
	req.RefusePlaintext = a.settings.RefusePlaintext
	if a.rule != nil {
		req.Override, req.Level, req.Names = a.rule.Override, a.rule.Level, a.rule.PinnedNames(a.w.Domain)
		if a.rule.Opportunistic {
			req.RefusePlaintext, req.Level = false, security.NoLevel
		}
	}
	return req
}

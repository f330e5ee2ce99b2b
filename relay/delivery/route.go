package delivery

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/stsrelay/stsrelay/relay/failure"
	"github.com/stsrelay/stsrelay/relay/outbound"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/relay/trace"
)

// hostTry is the part of an attempt at one host.
type hostTry struct {
	outbound.Host
	req   *security.Requirement
	key   string       // of the host's sessions in the pool
	limit sessionLimit // of sessions to it
	fresh bool         // only a session that was not used before will do
	// refusedOver is an address at which the host has refused the relay (5.7.x): it is
	// asked once more over the other address family. refusals are its replies, by the
	// position of the recipient.
	refusedOver netip.Addr
	refusals    map[int]*attemptError
}

func (a *attempt) newHostTry(h outbound.Host, req *security.Requirement) *hostTry {
	t := &hostTry{Host: h, req: req, key: sessionKey(h, a.to.User()), limit: limitOf(a.settings.PerHost), fresh: a.alone}
	if r := a.to.Rule; r != nil && r.PerHost > 0 {
		t.limit = limitOf(r.PerHost)
	}
	return t
}

// mayUse reports whether the host may be contacted at an address: not over a family
// of addresses over which it has refused the relay.
func (t *hostTry) mayUse(addr netip.Addr) bool {
	return !t.refusedOver.IsValid() || t.refusedOver.Is4() != addr.Is4()
}

// refuse takes note that the host has refused the relay, for the recipient at position i.
func (t *hostTry) refuse(i int, f *attemptError) {
	if t.refusals == nil {
		t.refusals = make(map[int]*attemptError)
	}
	t.refusals[i] = f
}

// sessionKey is what sessions to a host are kept by.
func sessionKey(h outbound.Host, user string) string {
	if h.Port == smtpPort && user == "" {
		return h.Name
	}
	return fmt.Sprintf("%s:%d %s", h.Name, h.Port, user)
}

const smtpPort = 25

// findHosts finds the hosts that may take the message.
func (a *attempt) findHosts(ctx context.Context) (outbound.Plan, *attemptError) {
	a.trace.WaitsFor(trace.MailHosts, a.claim.Domain)
	plan, err := a.d.finder.Find(ctx, &a.to)
	plan.Shuffle()
	a.tracePlan(plan, err) // its text may be made later: from here on nobody changes the plan
	denied, ok := errors.AsType[*outbound.Denial](err)
	switch {
	case ok && denied.OfRoute:
		return plan, &attemptError{reason: denied.Reason, status: "4.4", text: denied.Error(), domainWide: true}
	case ok:
		return plan, &attemptError{permanent: true, reason: denied.Reason, status: denied.Status, text: denied.Error()}
	case err != nil:
		return plan, &attemptError{reason: failure.DNS, text: err.Error(), domainWide: true}
	}
	return plan, nil
}

// addresses returns the addresses of a host that may be dialed.
func (a *attempt) addresses(ctx context.Context, h outbound.Host) ([]netip.Addr, *attemptError) {
	found, err := a.d.finder.Addresses(ctx, h, a.reach())
	if err == nil {
		return found.Admitted, nil
	}
	if _, ok := errors.AsType[*outbound.LoopError](err); ok {
		return nil, &attemptError{permanent: true, reason: failure.Loop, host: h.Name,
			text: fmt.Sprintf("mail for %s leads back to this relay (%s)", a.claim.Domain, h.Name)}
	}
	f := noAddresses(h, err)
	if _, ok := errors.AsType[*outbound.NotContacted](err); ok {
		f.status = "4.4"
	}
	return nil, f
}

// hasOtherFamily reports whether the host has an address of the other family.
func (a *attempt) hasOtherFamily(ctx context.Context, h outbound.Host, used netip.Addr) bool {
	addrs, _ := a.addresses(ctx, h)
	return slices.ContainsFunc(addrs, func(x netip.Addr) bool { return x.Is4() != used.Is4() })
}

// reach restricts the addresses for this message. A session of the pool may have been
// opened for another message, with another reach.
func (a *attempt) reach() outbound.Reach {
	return a.to.Reach(a.settings.Family, a.settings.AllowPrivate)
}

func noAddresses(h outbound.Host, err error) *attemptError {
	return &attemptError{reason: failure.DNS, host: h.Name, text: err.Error(), domainWide: true}
}

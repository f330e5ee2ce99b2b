package outbound

import (
	"context"
	"errors"
	"iter"
	"net/netip"

	"github.com/stsrelay/stsrelay/relay/security"
)

// Walk is the way of one attempt through the hosts of a plan: which host is next,
// how many hosts and addresses are tried, and which reason counts where none of them
// takes the mail. One goroutine uses it.
type Walk struct {
	plan    *Plan
	earlier tried // in earlier attempts, in vain
	tried   tried // in this one
	looked  int   // hosts that were looked at
	dialed  int   // addresses
	again   bool  // those of earlier attempts have their turn
	loop    bool  // the next host is behind this relay

	complete bool // every host had its turn, in this attempt or in earlier ones

	Reasons
}

// Guide tells a walk what it cannot know itself.
type Guide struct {
	// Requirement is what is asked of a host.
	Requirement func(h Host) *security.Requirement
	// Addresses are those of a host that may be contacted; none where they cannot be
	// told now. It is asked only where earlier attempts have left something.
	Addresses func(h Host) []netip.Addr
}

// Step is a host that has its turn.
type Step struct {
	Host
	Requirement *security.Requirement
	// Refused is set where the host is not contacted, because an enforced policy does
	// not name it. It does not count as one that was looked at.
	Refused *security.Shortfall
}

// Hosts yields the hosts in the order in which they are tried: those that earlier
// attempts have not tried, then the others. It ends when the attempt has tried as
// many as it may, or when ctx ends. The caller breaks off once all is delivered.
func (w *Walk) Hosts(ctx context.Context, g Guide) iter.Seq[Step] {
	return func(yield func(Step) bool) {
		if !w.pass(ctx, g, yield) || w.Full() || ctx.Err() != nil {
			return
		}
		if w.complete = true; len(w.earlier) == 0 {
			return
		}
		w.earlier, w.tried, w.again = w.tried, nil, true
		w.pass(ctx, g, yield)
	}
}

// pass yields the hosts that have not had their turn. It reports whether the caller
// goes on.
func (w *Walk) pass(ctx context.Context, g Guide, yield func(Step) bool) bool {
	unnamed := 0
	w.loop = false
	for _, h := range w.plan.Hosts {
		if ctx.Err() != nil || w.loop || w.Full() {
			return true
		}
		req := g.Requirement(h)
		if s, ok := errors.AsType[*security.Shortfall](req.AdmitsName()); ok {
			// Each is counted in the commit of the result, and told of once.
			if unnamed++; !w.again && unnamed <= MaxHosts && !yield(Step{Host: h, Requirement: req, Refused: s}) {
				return false
			}
			continue
		}
		if len(w.earlier) > 0 && (w.earlier[h.Name] || w.earlier.has(g.Addresses(h))) {
			continue
		}
		w.looked++
		if !yield(Step{Host: h, Requirement: req}) {
			return false
		}
	}
	return true
}

// Full reports whether the attempt has tried as many hosts or addresses as it may.
func (w *Walk) Full() bool { return w.dialed >= MaxAddresses || w.looked >= MaxHosts }

// Complete reports whether every host had its turn, in this attempt or in those before
// it.
func (w *Walk) Complete() bool { return w.complete }

// Dialed is how many addresses were dialed.
func (w *Walk) Dialed() int { return w.dialed }

// Untried leaves out the addresses of a host that had their turn in earlier attempts.
func (w *Walk) Untried(addrs []netip.Addr) []netip.Addr {
	out := make([]netip.Addr, 0, len(addrs))
	for _, a := range addrs {
		if !w.earlier[a.String()] {
			out = append(out, a)
		}
	}
	return out
}

// Left is how many addresses the attempt may still dial.
func (w *Walk) Left() int { return MaxAddresses - w.dialed }

// Dial takes note of addresses that are dialed.
func (w *Walk) Dial(n int) { w.dialed += n }

// InVain takes note of addresses that were tried in vain.
func (w *Walk) InVain(addrs ...netip.AddrPort) {
	for _, a := range addrs {
		w.note(a.Addr().String())
	}
}

// Done takes note of a host of which all was tried, in vain.
func (w *Walk) Done(h Host) { w.note(h.Name) }

func (w *Walk) note(what string) {
	if w.tried == nil {
		w.tried = make(tried)
	}
	w.tried[what] = true
}

// Failed takes note of a host that could not be used. Hosts behind this relay are
// ours, or lead back here, and are not tried (RFC 5321, 5.1). That mail goes round in
// a circle counts only where no better host is down: for those it waits.
func (w *Walk) Failed(err error, kind Kind) {
	if kind == Loop {
		if w.loop = true; w.last != nil || len(w.earlier) > 0 {
			return
		}
	}
	w.Reasons.Failed(err, kind)
}

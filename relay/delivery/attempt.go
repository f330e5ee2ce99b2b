package delivery

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/failure"
	"github.com/stsrelay/stsrelay/relay/outbound"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/sts"
)

// attempt is one try to deliver the recipients of one claim.
type attempt struct {
	d        *Delivery
	w        *queue.Claim
	grace    context.Context // of its content: that of the attempt ends when the relay stops
	settings *Settings
	rule     *outbound.Rule // nil: none
	// policyDomain is whose published policies apply: the recipients' domain, or
	// the next hop that the operator set for it; "" for addresses.
	policyDomain string
	policy       sts.Result

	hold       hold
	recipients recipients
	hosts      hostsTried
	use        sessionUse
	failures   failures
	record     record
	end        ending
}

// hostsTried is how far an attempt has come through the hosts of the domain.
type hostsTried struct {
	passOver tried // in earlier attempts, in vain
	tried    tried // in this one
	looked   int   // hosts that were looked at
	dials    int
}

// sessionUse says which sessions an attempt may use.
type sessionUse struct {
	key   string // of the host that is tried
	limit int    // of sessions to it
	fresh bool   // only a session that was not used before will do
	alone bool   // the message goes alone through a session: what became of it before is not known
	// refusedOver is an address over which the host has refused the relay (5.7.x):
	// it is asked once more over the other family.
	refusedOver netip.Addr
}

// failures are why hosts could not be used.
type failures struct {
	last   *attemptError // of the last host
	policy *attemptError // of the first host that was refused by a policy
	down   *attemptError // of the last host that could not be reached
	busy   *errBusy      // too many wait for the host already
}

// add takes note of a host that could not be used.
func (f *failures) add(e *attemptError) {
	f.last = e
	switch {
	case !e.policy:
		f.down = e
	case f.policy == nil:
		f.policy = e
	}
}

// ending is what an attempt means for its claim, beside the recipients' results.
type ending struct {
	begun      time.Time
	reached    bool          // a transaction was begun with some host
	cut        bool          // the relay stops, and has cut a transaction off of which no content was sent as a whole
	retryAfter time.Duration // 0: as the schedule says
	capacity   int           // sessions that the host may have, where it took a message; else 0
}

func newAttempt(grace context.Context, d *Delivery, w *queue.Claim) *attempt {
	a := &attempt{d: d, w: w, grace: grace, settings: d.settings.Load(), recipients: newRecipients(w.States), end: ending{begun: d.now()}}
	a.rule = a.settings.Rules.For(w.Domain)
	if a.rule != nil && a.rule.Route != nil {
		a.policyDomain = a.rule.Route.PolicyDomain()
	} else if _, ok := outbound.ParseLiteral(w.Domain); !ok {
		a.policyDomain = w.Domain
	}
	a.use.alone = slices.ContainsFunc(w.States, func(s queue.RecipientState) bool { return s.ReasonCode == failure.Unknown.Code() })
	return a
}

// states gives all recipients of w the same failure.
func (f *attemptError) states(w *queue.Claim) []queue.RecipientState {
	states := make([]queue.RecipientState, len(w.States))
	for i := range states {
		states[i] = f.state(w.States[i], "")
	}
	return states
}

// run makes the attempt and ends the claim. Once ctx has ended, nothing more is
// sent but content that is on its way, which has until a.grace ends.
func (a *attempt) run(ctx context.Context) {
	err := a.policyAndHosts(ctx)
	if ctx.Err() != nil && len(a.recipients.open) > 0 && (a.end.cut || !a.end.reached) {
		a.giveBack()
		return
	}
	if wait, ok := a.waits(); ok {
		a.noAttempt()
		a.d.queue.Postpone(a.w, wait)
		return
	}
	f, _ := errors.AsType[*attemptError](err)
	if f == nil {
		f = a.reason()
	}
	a.recipients.acceptDeclined(ctx.Err() != nil || a.failures.busy != nil, a.record.tls)
	if len(a.recipients.open) > 0 {
		a.fail(f)
	}
	a.finish()
}

// giveBack ends the claim of an attempt that the stop has cut off: for the
// recipients without a result it was none.
func (a *attempt) giveBack() {
	if len(a.recipients.open) == len(a.recipients.states) {
		a.noAttempt()
		a.d.queue.Release(a.w)
		return
	}
	a.end.retryAfter = time.Millisecond // due again, with the next start
	a.finish()
}

// waits reports whether the attempt was none because too many wait for a host
// already, whatever is the matter with other ones, and for how long its message
// waits then. Where nobody could come to the host for long, that is a failure like
// others: senders are told of it, and what is too old is given up.
func (a *attempt) waits() (time.Duration, bool) {
	if a.failures.busy == nil || a.end.reached {
		return 0, false
	}
	if a.failures.busy.wait >= maxBusy && (a.late() || a.w.Expired) {
		return 0, false
	}
	// Where other hosts have taken time, at most half of it is spent with that.
	return min(max(a.failures.busy.wait, a.d.now().Sub(a.end.begun)), max(a.failures.busy.wait, maxBusy)), true
}

// reason is why recipients are without a result. Where a policy has refused a
// host, that tells more than that another host is down.
func (a *attempt) reason() *attemptError {
	switch {
	case a.failures.policy != nil && a.failures.policy.permanent && a.failures.down != nil:
		return a.failures.down // that host might do what the others cannot
	case a.failures.policy != nil && !a.end.reached:
		return a.failures.policy
	case a.failures.last != nil:
		return a.failures.last
	}
	return &attemptError{reason: failure.Connect, status: "4.4", text: "no host of " + a.w.Domain + " was tried", domainWide: true}
}

// policyAndHosts looks up what the domain requires and where it is, and tries
// the hosts. Where an enforced policy left no host, the policy is fetched once
// more whatever its id says, and the hosts are tried under the new one: many
// owners change the policy and forget the id.
func (a *attempt) policyAndHosts(ctx context.Context) error {
	ctx = a.hold.begin(ctx, &a.d.places)
	defer a.hold.end()
	if err := a.lookupPolicy(ctx); err != nil {
		return err
	}
	r, err := a.findRoute(ctx)
	if err != nil {
		return err
	}
	a.tryHosts(ctx, r)
	if a.failures.policy != nil && len(a.recipients.open) > 0 && !a.end.reached && a.enforced() && !a.policy.Fresh && a.lookAgain(ctx) {
		a.failures = failures{busy: a.failures.busy}
		a.tryHosts(ctx, r)
	}
	if f := a.homeless(ctx, r); f != nil {
		return f
	}
	return nil
}

func (a *attempt) enforced() bool {
	return a.policy.Policy != nil && a.policy.Policy.Mode == sts.ModeEnforce
}

// tryHost tries one host. It returns nil where a transaction was made, even if
// recipients were refused in it; what has no result then goes to the next host. Where
// the host refuses the relay's address, it is asked once more over the other family.
func (a *attempt) tryHost(ctx context.Context, c candidate, req *security.Requirement) *attemptError {
	addr, f := a.transact(ctx, c, req)
	if f != nil {
		return f
	}
	if a.recipients.refused != nil && a.hasOtherFamily(ctx, c, addr) {
		a.use.refusedOver = addr
		if _, f := a.transact(ctx, c, req); f != nil {
			a.failures.last = f
		}
		a.use.refusedOver = netip.Addr{}
	}
	a.recipients.acceptRefused(a.record.tls)
	return a.failures.last
}

// transact makes transactions with a host until one counts that leaves no
// recipients for another one. addr is where that was. The failure is of the host:
// there is no session.
func (a *attempt) transact(ctx context.Context, c candidate, req *security.Requirement) (addr netip.Addr, f *attemptError) {
	a.use.fresh = a.use.alone
	for {
		s, f := a.session(ctx, c, req)
		if f != nil {
			return addr, f
		}
		a.record.proved(req, &s.evidence)
		course := a.send(ctx, s)
		for course == courseMore && s.mayCarry() {
			course = a.send(ctx, s)
		}
		if course != courseRenew {
			a.noteSession(req, s)
		}
		a.hold.waits(nil, 0) // the session may be another attempt's now
		s.spent = a.use.alone || course == courseRenew
		a.d.pool.put(s, a.d.now())
		if course == courseDone {
			return s.addr, nil
		}
		a.use.fresh = a.use.fresh || course == courseRenew
	}
}

// hasOtherFamily says whether the host has an address of the other family.
func (a *attempt) hasOtherFamily(ctx context.Context, c candidate, used netip.Addr) bool {
	addrs, err := a.addresses(ctx, c)
	return err == nil && slices.ContainsFunc(addrs, func(x netip.Addr) bool { return x.Is4() != used.Is4() })
}

// fail gives the recipients without a result the failure f. That this message is
// too old by now is no matter of the domain.
func (a *attempt) fail(f *attemptError) {
	a.failures.last = f
	if a.w.Expired && !f.permanent {
		f = &attemptError{permanent: true, reason: failure.Expired, host: f.host, reply: f.reply, domainWide: f.domainWide,
			text: fmt.Sprintf("not delivered within %s; the last reason was: %s", age(a.w.Age), f.Error())}
	}
	a.recipients.failAll(f, a.record.tls)
}

// finish ends the claim with the results, and tells of them.
func (a *attempt) finish() {
	unreadable := a.w.Unreadable()
	if unreadable == nil {
		a.expire()
	}
	e := a.event(EventAttempt)
	e.Unreadable = unreadable
	c := a.d.readers.changes(e)
	if c.Delayed {
		for i := range e.States {
			e.States[i].Delayed = true
		}
	}
	a.d.readers.ended(e)
	o := queue.Outcome{
		Results: e.States, RetryAfter: a.end.retryAfter, Parallel: a.end.capacity + a.end.capacity/4, // some wait for the commit of their results
		Unreadable: unreadable, Notices: c.Notices, Also: c.Batch, Durable: a.d.readers.durable(e),
	}
	if last := a.failures.last; !a.end.reached && last != nil && last.domainWide {
		o.DomainBackoff = queue.DomainBackoff{Reason: last.queueReason(), PolicyOnly: last.policy}
	}
	a.d.queue.Finish(a.w, o)
	queue.LogNotices(a.d.log, &a.w.Envelope, c.Notices)
}

// noAttempt tells of the sessions of a claim that is given back without a result.
func (a *attempt) noAttempt() {
	e := a.event(EventNoAttempt)
	e.Sessions = a.record.made()
	c := a.d.readers.changes(e)
	a.d.readers.ended(e)
	a.d.queue.Record(c.Batch)
}

// event is what there is to be told.
func (a *attempt) event(kind EventKind) *Event {
	now := a.d.now()
	return &Event{
		Kind: kind, Claim: a.w, At: now, Took: now.Sub(a.end.begun), Late: a.late(), Policy: a.policy,
		States: a.recipients.states, Relayed: a.recipients.relayed,
		Sessions: a.record.sessions, TLS: a.record.tls, Protection: a.record.protection, contacts: a.record.contacts,
	}
}

// late reports whether the message is so old that its sender is told.
func (a *attempt) late() bool {
	notice := a.settings.DelayNotice
	return notice > 0 && a.w.Age >= notice
}

// expire gives up the recipients of an expired message that were put off.
func (a *attempt) expire() {
	if !a.w.Expired {
		return
	}
	for i := range a.recipients.states {
		if r := &a.recipients.states[i]; r.State == queue.Queued {
			r.State, r.ReasonCode, r.Status = queue.Bounced, failure.Expired.Code(), failure.Expired.Status(true, "")
			r.LastError = fmt.Sprintf("%s not delivered within %s; the last reason was: %s", r.Status, age(a.w.Age), r.LastError)
		}
	}
}

func age(d time.Duration) string { return d.Round(time.Second).String() }

package delivery

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/failure"
	"github.com/stsrelay/stsrelay/relay/outbound"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/sts"
)

// attempt is one try to deliver one unit.
type attempt struct {
	d        *Delivery
	w        *queue.Claim
	grace    context.Context // of its content: that of the attempt ends when the relay stops
	hold     hold
	settings *Settings
	start    time.Time

	rule *outbound.Rule // nil: none
	// policyDomain is whose published policies apply: the recipients' domain, or
	// the next hop that the operator set for it; "" for addresses.
	policyDomain string
	policy       sts.Result

	results []queue.RecipientState // by position in w.Recipients
	relayed []bool                 // handed to a host that does not know DSN
	open    []int                  // positions without a result yet
	last    *attemptError          // of the last host that could not be used
	held    *attemptError          // of the first host that was refused by a policy
	down    *attemptError          // of the last host that could not be reached
	tls     string                 // what the session that was used proved
	// protection is tls in one word, "" where there was no session.
	protection security.Protection
	dials      int
	retryAfter time.Duration // 0: as the schedule says
	passOver   tried         // in earlier attempts, in vain
	tried      tried         // in this one
	looked     int           // hosts that were looked at
	counts     []SessionCount
	reached    bool // a transaction was begun with some host
	room       int  // sessions that the host may have, where it took a message; else 0

	seen  []seen   // in the order of contact
	key   string   // of the host that is tried
	limit int      // of sessions to it
	fresh bool     // only a session that was not used before will do
	alone bool     // the message goes alone through a session: what became of it before is not known
	busy  *errBusy // too many wait for the host already
	cut   bool     // the relay stops, and has cut a transaction off of which no content was sent as a whole
	// refusedOver is an address over which the host has refused the relay (5.7.x):
	// it is asked once more over the other family. refusals are what it said, by
	// position.
	refusedOver netip.Addr
	refusals    map[int]*attemptError
	declined    map[int]*attemptError // what hosts have said for themselves alone, by position
}

func newAttempt(grace context.Context, d *Delivery, w *queue.Claim) *attempt {
	a := &attempt{d: d, w: w, grace: grace, settings: d.settings.Load(), start: d.now(), results: make([]queue.RecipientState, len(w.Recipients)), relayed: make([]bool, len(w.Recipients))}
	a.rule = a.settings.Rules.For(w.Domain)
	if a.rule != nil && a.rule.Route != nil {
		a.policyDomain = a.rule.Route.PolicyDomain()
	} else if _, ok := outbound.ParseLiteral(w.Domain); !ok {
		a.policyDomain = w.Domain
	}
	for i := range w.Recipients {
		a.open = append(a.open, i)
		a.alone = a.alone || w.States[i].ReasonCode == failure.Unknown.Code()
	}
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
	if ctx.Err() != nil && len(a.open) > 0 && (a.cut || !a.reached) {
		a.giveBack()
		return
	}
	if wait, ok := a.waits(); ok {
		a.d.queue.Record(a.countSessions())
		a.d.queue.Postpone(a.w, wait)
		return
	}
	f, _ := errors.AsType[*attemptError](err)
	if f == nil {
		f = a.reason()
	}
	a.acceptDeclined(ctx.Err() != nil || a.busy != nil)
	if len(a.open) > 0 {
		a.fail(f)
	}
	a.finish()
}

// giveBack ends the claim of an attempt that the stop has cut off: for the
// recipients without a result it was none.
func (a *attempt) giveBack() {
	if len(a.open) == len(a.results) {
		a.d.queue.Record(a.countSessions())
		a.d.queue.Release(a.w)
		return
	}
	a.retryAfter = time.Millisecond // due again, with the next start
	a.finish()
}

// waits reports whether the attempt was none because too many wait for a host
// already, whatever is the matter with other ones, and for how long its message
// waits then. Where nobody could come to the host for long, that is a failure like
// others: senders are told of it, and what is too old is given up.
func (a *attempt) waits() (time.Duration, bool) {
	if a.busy == nil || a.reached {
		return 0, false
	}
	notice := a.settings.DelayNotice
	if late := notice > 0 && a.w.Age >= notice; a.busy.wait >= maxBusy && (late || a.w.Expired) {
		return 0, false
	}
	// Where other hosts have taken time, at most half of it is spent with that.
	return min(max(a.busy.wait, a.d.now().Sub(a.start)), max(a.busy.wait, maxBusy)), true
}

// reason is why recipients are without a result. Where a policy has refused a
// host, that tells more than that another host is down.
func (a *attempt) reason() *attemptError {
	switch {
	case a.held != nil && a.held.permanent && a.down != nil:
		return a.down // that host might do what the others cannot
	case a.held != nil && !a.reached:
		return a.held
	case a.last != nil:
		return a.last
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
	if a.held != nil && len(a.open) > 0 && !a.reached && a.enforced() && !a.policy.Fresh && a.lookAgain(ctx) {
		a.last, a.held, a.down = nil, nil, nil
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

// failed takes note of a host that could not be used.
func (a *attempt) failed(f *attemptError) {
	a.last = f
	switch {
	case !f.policy:
		a.down = f
	case a.held == nil:
		a.held = f
	}
}

// tryHost tries one host. It returns nil where a transaction was made, even if
// recipients were refused in it; what has no result then goes to the next host.
func (a *attempt) tryHost(ctx context.Context, c candidate, req *security.Requirement) *attemptError {
	addr, f := a.transact(ctx, c, req)
	if f != nil {
		return f
	}
	if a.refusals == nil || a.refusedOver.IsValid() || !a.hasOtherFamily(ctx, c, addr) {
		a.accept(a.refusals)
		return a.last
	}
	a.refusedOver = addr
	if f := a.tryHost(ctx, c, req); f != nil {
		a.last = f
	}
	a.accept(a.refusals)
	a.refusedOver = netip.Addr{}
	return a.last
}

// transact makes transactions with a host until one counts that leaves no
// recipients for another one. addr is where that was. The failure is of the host:
// there is no session.
func (a *attempt) transact(ctx context.Context, c candidate, req *security.Requirement) (addr netip.Addr, f *attemptError) {
	a.fresh = a.alone
	for {
		s, f := a.session(ctx, c, req)
		if f != nil {
			return addr, f
		}
		a.tls, a.protection = req.Describe(&s.evidence)
		course := a.send(ctx, s)
		for course == courseMore && s.mayCarry() {
			course = a.send(ctx, s)
		}
		if course != courseRenew {
			a.countSession(req, s)
		}
		a.hold.waits(nil, 0) // the session may be another attempt's now
		s.spent = a.alone || course == courseRenew
		a.d.pool.put(s, a.d.now())
		if course == courseDone {
			return s.addr, nil
		}
		a.fresh = a.fresh || course == courseRenew
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
	a.last = f
	if a.w.Expired && !f.permanent {
		f = &attemptError{permanent: true, reason: failure.Expired, host: f.host, reply: f.reply, domainWide: f.domainWide,
			text: fmt.Sprintf("not delivered within %s; the last reason was: %s", age(a.w.Age), f.Error())}
	}
	for _, i := range a.open {
		a.results[i] = f.state(a.w.States[i], a.tls)
	}
}

// finish hands the results to the queue and writes the log line.
func (a *attempt) finish() {
	o := queue.Outcome{Results: a.results, RetryAfter: a.retryAfter, Parallel: a.room + a.room/4} // some wait for the commit of their results
	if o.Unreadable = a.w.Unreadable(); o.Unreadable == nil {
		a.expire()
	}
	if !a.reached && a.last != nil && a.last.domainWide {
		o.DomainBackoff = queue.DomainBackoff{Reason: a.last.queueReason(), PolicyOnly: a.last.policy}
	}
	if o.Unreadable == nil { // else it is held, and the administrator decides
		a.addNotices(&o)
	}
	o.Also = a.countAll()
	a.logResults()
	a.tell()
	a.d.queue.Finish(a.w, o)
	queue.LogNotices(a.d.log, &a.w.Envelope, o.Notices)
}

// countAll adds what the attempt's sessions count for TLS reports to a batch, nil
// where there is nothing. The day of now is what they count for.
func (a *attempt) countAll() func(*store.Batch) {
	if a.d.count == nil || len(a.counts) == 0 {
		return nil
	}
	end := a.d.now()
	return func(b *store.Batch) {
		for _, c := range a.counts {
			c.At = end
			a.d.count(b, c)
		}
	}
}

// countSessions is countAll for a claim that is given back: the sessions were
// made, but hosts that were passed over will be so again.
func (a *attempt) countSessions() func(*store.Batch) {
	a.counts = slices.DeleteFunc(a.counts, func(c SessionCount) bool { return c.RemoteIP == "" })
	return a.countAll()
}

// expire gives up the recipients of an expired message that were put off.
func (a *attempt) expire() {
	if !a.w.Expired {
		return
	}
	for i := range a.results {
		if r := &a.results[i]; r.State == queue.Queued {
			r.State, r.ReasonCode, r.Status = queue.Bounced, failure.Expired.Code(), failure.Expired.Status(true, "")
			r.LastError = fmt.Sprintf("%s not delivered within %s; the last reason was: %s", r.Status, age(a.w.Age), r.LastError)
		}
	}
}

func age(d time.Duration) string { return d.Round(time.Second).String() }

func (a *attempt) addNotices(o *queue.Outcome) {
	if a.d.notices == nil {
		return
	}
	if m, ok := a.d.notices.Failure(a.w, a.results); ok {
		o.Notices = append(o.Notices, m)
	}
	if m, ok := a.d.notices.Success(a.w, a.results, a.relayed); ok {
		o.Notices = append(o.Notices, m)
	}
	if s := a.settings.DelayNotice; s == 0 || a.w.Age < s {
		return
	}
	if m, ok := a.d.notices.Delay(a.w, a.results); ok {
		o.Notices = append(o.Notices, m)
		for i := range a.results {
			a.results[i].Delayed = true
		}
	}
}

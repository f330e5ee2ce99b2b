package delivery

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/failure"
	"github.com/stsrelay/stsrelay/relay/outbound"
	"github.com/stsrelay/stsrelay/relay/smtpclient"
	"github.com/stsrelay/stsrelay/relay/trace"
	"github.com/stsrelay/stsrelay/sts"
)

// attempt is one try to deliver the recipients of one claim.
type attempt struct {
	d        *Delivery
	claim    *queue.Claim
	id       string          // of the message
	grace    context.Context // of its content: that of the attempt ends when the relay stops
	settings *Settings
	to       outbound.Destination
	policy   sts.Result
	plan     outbound.Plan
	walk     *outbound.Walk // nil before the first host is tried
	busy     time.Duration  // for how long it waits as too many wait for a host already; 0: none is so
	alone    bool           // the message goes alone through a session: what became of it before is not known

	hold       hold
	recipients recipients
	record     record
	trace      *trace.Attempt          // nil: nobody is told
	recipient  [1]smtpclient.Recipient // memory for the recipients of a transaction
	end        ending
}

// ending is what the end of an attempt depends on, beside the recipients' results.
type ending struct {
	begun    time.Time
	reached  bool // a transaction was begun with some host
	cut      bool // the stop of the relay has cut off a transaction before its content was sent as a whole
	capacity int  // sessions that the host may have, where it took a message; else 0
	told     bool // the readers were given the Event
}

func newAttempt(grace context.Context, d *Delivery, claim *queue.Claim) *attempt {
	a := &attempt{d: d, claim: claim, grace: grace, settings: d.settings.Load(), id: claim.Envelope.ID.String(), end: ending{begun: d.now()}}
	a.recipients.begin(claim.States)
	a.to = destination(a.settings.Rules, claim.Domain, claim.Envelope.From)
	a.alone = slices.ContainsFunc(claim.States, func(s queue.RecipientState) bool { return s.ReasonCode == failure.Unknown.Code() })
	return a
}

// states is the failure as the state of all recipients of claim.
func (f *attemptError) states(claim *queue.Claim) []queue.RecipientState {
	states := make([]queue.RecipientState, len(claim.States))
	for i := range states {
		states[i] = f.state(claim.States[i], "")
	}
	return states
}

// run makes the attempt and ends the claim. Once ctx has ended, nothing more is
// sent but content that is on its way, which has until a.grace ends.
func (a *attempt) run(ctx context.Context) {
	ctx = a.beginTrace(ctx)
	f := a.ways(ctx)
	if ctx.Err() != nil && len(a.recipients.open) > 0 && (a.end.cut || !a.end.reached) {
		a.giveBack()
		return
	}
	if wait, ok := a.waits(); ok {
		a.noAttempt()
		a.d.queue.Postpone(a.claim, wait)
		return
	}
	a.recipients.acceptDeclined(ctx.Err() != nil || a.busy > 0, a.record.tls)
	if len(a.recipients.open) == 0 {
		f = nil
	} else {
		if f == nil {
			f = a.reason()
		}
		a.fail(f)
	}
	a.finish(f)
}

// giveBack ends the claim of an attempt that the stop has cut off: for the
// recipients without a result it was none.
func (a *attempt) giveBack() {
	if len(a.recipients.open) == len(a.recipients.states) {
		a.noAttempt()
		a.d.queue.Release(a.claim)
		return
	}
	// It is due again, with the next start.
	a.finish(&attemptError{reason: failure.Internal, text: errStopping.Error(), retryAfter: time.Millisecond})
}

// waits reports whether the attempt was none because too many wait for a host
// already, whatever is the matter with other ones, and for how long its message
// waits then. Where the host had no session free for long, that is a failure like
// others: senders are notified, and messages that are too old are given up.
func (a *attempt) waits() (time.Duration, bool) {
	if a.busy == 0 || a.end.reached {
		return 0, false
	}
	if a.busy >= maxBusy && (a.late() || a.claim.Expired) {
		return 0, false
	}
	// Where other hosts have taken time, at most half of it is spent with that.
	return min(max(a.busy, a.d.now().Sub(a.end.begun)), max(a.busy, maxBusy)), true
}

// policyAndHosts looks up what the domain requires and where it is, and tries
// the hosts. Where an enforced policy left no host, the policy is fetched once
// more whatever its id says, and the hosts are tried under the new one: many
// owners change the policy and forget the id.
func (a *attempt) policyAndHosts(ctx context.Context) *attemptError {
	ctx = a.hold.begin(ctx, &a.d.places)
	defer a.hold.end()
	if f := a.lookupPolicy(ctx); f != nil {
		return f
	}
	var f *attemptError
	if a.plan, f = a.findHosts(ctx); f != nil {
		return f
	}
	if f := a.passedOver(ctx); f != nil {
		return f
	}
	a.tryHosts(ctx, &a.plan)
	if a.walk.Held() && len(a.recipients.open) > 0 && !a.end.reached && a.enforced() && !a.policy.Fresh && a.refetchPolicy(ctx) {
		a.tryHosts(ctx, &a.plan)
	}
	return a.homeless(ctx, &a.plan)
}

func (a *attempt) enforced() bool {
	return a.policy.Policy != nil && a.policy.Policy.Mode == sts.ModeEnforce
}

// fail gives the recipients without a result the failure f. Where the message has
// expired, they are given up.
func (a *attempt) fail(f *attemptError) {
	if a.claim.Expired && !f.permanent {
		f = &attemptError{permanent: true, reason: failure.Expired, host: f.host, reply: f.reply, domainWide: f.domainWide,
			text: fmt.Sprintf("not delivered within %s; the last reason was: %s", age(a.claim.Age), f.Error())}
	}
	a.recipients.failAll(f, a.record.tls)
}

// finish ends the claim with the results, and gives the Event to its readers. f is why
// recipients had no result of their own, nil where all had.
func (a *attempt) finish(f *attemptError) {
	unreadable := a.claim.Unreadable()
	if unreadable == nil {
		a.expire()
	}
	e := a.event(EventAttempt)
	e.Unreadable = unreadable
	a.end.told = true
	c := a.d.readers.changes(e)
	if c.Delayed {
		for i := range e.States {
			e.States[i].Delayed = true
		}
	}
	a.d.readers.ended(e)
	a.traceResults(e)
	o := queue.Outcome{
		Results: e.States, Parallel: a.end.capacity + a.end.capacity/4, // some wait for the commit of their results
		Unreadable: unreadable, Notices: c.Notices, Also: c.Batch, Durable: a.d.readers.durable(e),
	}
	if f != nil {
		o.RetryAfter = f.retryAfter
	}
	// Where senders have rules of their own, other mail of the domain goes another way.
	if !a.end.reached && f != nil && f.domainWide && !a.to.BySender {
		o.DomainBackoff = queue.DomainBackoff{Reason: f.queueReason(), PolicyOnly: f.policy}
	}
	a.d.queue.Finish(a.claim, o)
	queue.LogNotices(a.d.log, &a.claim.Envelope, c.Notices)
}

// noAttempt gives the Event of a claim that is given back without a result to its readers.
func (a *attempt) noAttempt() {
	e := a.event(EventNoAttempt)
	e.Sessions = a.record.made()
	a.end.told = true
	c := a.d.readers.changes(e)
	a.d.readers.ended(e)
	a.trace.End(true, "nothing was sent: the message waits for a session, or the relay stops")
	a.d.queue.Record(c.Batch)
}

// event returns the Event of the attempt as it stands.
func (a *attempt) event(kind EventKind) *Event {
	now := a.d.now()
	return &Event{
		Kind: kind, Claim: a.claim, QueueID: a.id, At: now, Took: now.Sub(a.end.begun), Late: a.late(), Policy: a.policy,
		States: a.recipients.states, Relayed: a.recipients.relayed,
		Sessions: a.record.sessions, TLS: a.record.tls, Protection: a.record.protection, contacts: a.record.contacts,
	}
}

// late reports whether the message is so old that its sender is notified.
func (a *attempt) late() bool {
	notice := a.settings.DelayNotice
	return notice > 0 && a.claim.Age >= notice
}

// expire gives up the recipients of an expired message that were put off.
func (a *attempt) expire() {
	if !a.claim.Expired {
		return
	}
	for i := range a.recipients.states {
		if r := &a.recipients.states[i]; r.State == queue.Queued {
			r.State, r.ReasonCode, r.Status = queue.Bounced, failure.Expired.Code(), failure.Expired.Status(true, "")
			r.LastError = fmt.Sprintf("%s not delivered within %s; the last reason was: %s", r.Status, age(a.claim.Age), r.LastError)
		}
	}
}

func age(d time.Duration) string { return d.Round(time.Second).String() }

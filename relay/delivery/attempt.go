package delivery

import (
	"context"
	"fmt"
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

	to     outbound.Destination
	policy sts.Result
	walk   *outbound.Walk // nil before the first host is tried

	results []queue.RecipientState // by position in w.Recipients
	relayed []bool                 // handed to a host that does not know DSN
	open    []int                  // positions without a result yet
	tls     string                 // what the session that was used proved
	// protection is tls in one word, "" where there was no session.
	protection security.Protection
	retryAfter time.Duration // 0: as the schedule says
	counts     []SessionCount
	reached    bool // a transaction was begun with some host
	room       int  // sessions that the host may have, where it took a message; else 0

	seen     []seen                // in the order of contact
	alone    bool                  // the message goes alone through a session: what became of it before is not known
	busy     *errBusy              // too many wait for the host already
	cut      bool                  // the relay stops, and has cut a transaction off of which no content was sent as a whole
	declined map[int]*attemptError // what hosts have said for themselves alone, by position
}

func newAttempt(grace context.Context, d *Delivery, w *queue.Claim) *attempt {
	a := &attempt{d: d, w: w, grace: grace, settings: d.settings.Load(), start: d.now(), results: make([]queue.RecipientState, len(w.Recipients)), relayed: make([]bool, len(w.Recipients))}
	a.to = a.settings.Rules.Destination(w.Domain)
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
	f := a.policyAndHosts(ctx)
	if ctx.Err() != nil && len(a.open) > 0 && (a.cut || !a.reached) {
		a.giveBack()
		return
	}
	if wait, ok := a.waits(); ok {
		a.d.queue.Record(a.countSessions())
		a.d.queue.Postpone(a.w, wait)
		return
	}
	if f == nil {
		f = a.reason()
	}
	a.acceptDeclined(ctx.Err() != nil || a.busy != nil)
	if len(a.open) == 0 {
		f = nil
	} else {
		a.fail(f)
	}
	a.finish(f)
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
	a.finish(nil)
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
	plan, f := a.findHosts(ctx)
	if f != nil {
		return f
	}
	a.tryHosts(ctx, &plan)
	if a.walk.Held() && len(a.open) > 0 && !a.reached && a.enforced() && !a.policy.Fresh && a.lookAgain(ctx) {
		a.tryHosts(ctx, &plan)
	}
	return a.homeless(ctx, plan)
}

func (a *attempt) enforced() bool {
	return a.policy.Policy != nil && a.policy.Policy.Mode == sts.ModeEnforce
}

// fail gives the recipients without a result the failure f. That this message is
// too old by now is no matter of the domain.
func (a *attempt) fail(f *attemptError) {
	if a.w.Expired && !f.permanent {
		f = &attemptError{permanent: true, reason: failure.Expired, host: f.host, reply: f.reply, domainWide: f.domainWide,
			text: fmt.Sprintf("not delivered within %s; the last reason was: %s", age(a.w.Age), f.Error())}
	}
	for _, i := range a.open {
		a.results[i] = f.state(a.w.States[i], a.tls)
	}
}

// finish hands the results to the queue and writes the log line. f is why recipients
// had no result of their own, nil where all had.
func (a *attempt) finish(f *attemptError) {
	o := queue.Outcome{Results: a.results, RetryAfter: a.retryAfter, Parallel: a.room + a.room/4} // some wait for the commit of their results
	if o.Unreadable = a.w.Unreadable(); o.Unreadable == nil {
		a.expire()
	}
	if !a.reached && f != nil && f.domainWide {
		o.DomainBackoff = queue.DomainBackoff{Reason: f.queueReason(), PolicyOnly: f.policy}
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

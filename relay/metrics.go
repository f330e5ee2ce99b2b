package relay

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/delivery"
	"github.com/stsrelay/stsrelay/relay/failure"
	"github.com/stsrelay/stsrelay/relay/ingress"
	"github.com/stsrelay/stsrelay/relay/metrics"
	"github.com/stsrelay/stsrelay/relay/operator"
	"github.com/stsrelay/stsrelay/relay/security"
	"github.com/stsrelay/stsrelay/sts"
)

// openMetrics adds what is a state, not a count, and the results that alerts
// watch for: from the start on, so that the first failure is an increase.
func (r *Relay) openMetrics() {
	for _, result := range fetchResults {
		r.metrics.Fetched(result, 0)
	}
	for _, result := range []security.StartTLS{security.NotOffered, security.Refused, security.Broken, security.Established} {
		r.metrics.StartTLS(result.String(), 0)
	}
	for _, how := range []string{"mail", "https"} {
		r.metrics.Reported(how, reportResult(true), 0)
		r.metrics.Reported(how, reportResult(false), 0)
	}
	for _, result := range []string{"policy", "challenge", "not-found"} {
		r.metrics.PolicyRequest(result, 0)
	}
	r.metrics.Reported("none", reportResult(false), 0)
	r.metrics.ReceivedSessions(0, 0)
	version := func() map[string]float64 { return map[string]float64{r.o.Version: 1} }
	r.metrics.Gauges(
		metrics.Gauge{Name: "stsrelay_build_info", Help: "1, for the version that runs.", Label: "version", Read: version},
		metrics.Gauge{Name: "stsrelay_history_dropped_total", Help: "Records of the history that were not written: the disk was full, or did not keep up.", Counter: true,
			Read: func() map[string]float64 { return map[string]float64{"": float64(r.history.Dropped())} }},
		state("stsrelay_uptime_seconds", "Time since the start.", func() float64 { return time.Since(r.started).Seconds() }),
		metrics.Gauge{Name: "stsrelay_log_dropped_total", Help: "Lines of the log that were dropped, because the reader of standard error did not keep up.", Counter: true,
			Read: func() map[string]float64 { return map[string]float64{"": float64(r.o.LogDropped().Lines)} }},
		state("stsrelay_accepting", "1 while mail is taken in, 0 where it is not: /readyz and `stsrelay status` say why.",
			func() float64 { return one(r.queue.Accepting() == nil) }),
		state("stsrelay_delivering", "1 while mail is delivered, 0 while delivery is paused.",
			func() float64 { return one(!r.queue.Paused()) }),
		metrics.Gauge{Name: "stsrelay_sessions", Help: "SMTP sessions that are open, from clients (in) and to hosts (out).", Label: "direction",
			Read: func() map[string]float64 {
				return map[string]float64{"in": float64(r.ingress.Sessions()), "out": float64(r.delivery.Sessions())}
			}},
		metrics.Gauge{Name: "stsrelay_policies", Help: "Domains in the policy cache, by mode of the policy in force.", Label: "mode", Read: r.modes},
	)
	r.metrics.Gauges(r.queueGauges()...)
	r.metrics.Gauges(r.publishGauges()...)
	r.metrics.Gauges(r.storeGauges()...)
}

func (r *Relay) queueGauges() []metrics.Gauge {
	return []metrics.Gauge{
		{Name: "stsrelay_troubles", Help: "Troubles that need a person, as `stsrelay status` shows them, by kind.", Label: "kind", Read: r.alerts.Kinds},
		{Name: "stsrelay_queue_waiting", Help: "Deliveries that wait, each of a message to its recipients of one domain, by the reason of their last attempt.", Label: "why", Read: r.waiting},
		state("stsrelay_outage", "1 while every attempt fails, 0 while something is delivered.", func() float64 { return one(r.traffic.Outage() != nil) }),
		state("stsrelay_queue_messages", "Messages in the queue.", func() float64 { return float64(r.queue.Counts().Messages) }),
		state("stsrelay_queue_recipients", "Recipients in the queue that have no end yet.", func() float64 { return float64(r.queue.Counts().Recipients) }),
		state("stsrelay_queue_held", "Messages in the queue that are held.", func() float64 { return float64(r.queue.Counts().Held) }),
		state("stsrelay_queue_active", "Deliveries under way, each of a message to its recipients of one domain.", func() float64 { return float64(r.queue.Active()) }),
		state("stsrelay_queue_oldest_seconds", "Age of the oldest message that is not held, 0 where there is none.", func() float64 { return r.queue.Oldest().Seconds() }),
	}
}

// otherReason is the label of reasons that this version does not know: another version has
// put the mail off.
const otherReason = "other"

// waiting counts the deliveries that wait by the code of their reason. All codes that mail
// can wait for are there, also at 0, so that an alert sees the first one.
func (r *Relay) waiting() map[string]float64 {
	out := map[string]float64{otherReason: 0}
	for _, row := range failure.All() {
		if row.Reason != failure.Held && row.Reason != failure.Expired { // no attempt has these
			out[row.Code] = 0
		}
	}
	for code, n := range r.queue.Reasons() {
		code = cmp.Or(code, failure.New.Code())
		if _, ok := out[code]; !ok {
			code = otherReason
		}
		out[code] += float64(n)
	}
	return out
}

func (r *Relay) storeGauges() []metrics.Gauge {
	return []metrics.Gauge{
		state("stsrelay_store_size_bytes", "Disk space that the store takes, with what it has reserved.", measured(r.disk.Size)),
		state("stsrelay_store_free_bytes", "Free space of the store's file system.", measured(r.disk.Free)),
		state("stsrelay_store_free_limit_bytes", "Free space below which no mail is taken in.", func() float64 { return float64(r.disk.FreeLimit()) }),
	}
}

// state is a gauge with one value.
func state(name, help string, read func() float64) metrics.Gauge {
	return metrics.Gauge{Name: name, Help: help, Read: func() map[string]float64 { return map[string]float64{"": read()} }}
}

// measured is a value that is not a number where it cannot be had.
func measured(read func() (int64, error)) func() float64 {
	return func() float64 {
		n, err := read()
		if err != nil {
			return math.NaN()
		}
		return float64(n)
	}
}

func one(v bool) float64 {
	if v {
		return 1
	}
	return 0
}

// modes counts the policies, "missing" where none is in force.
func (r *Relay) modes() map[string]float64 {
	out := map[string]float64{string(sts.ModeEnforce): 0, string(sts.ModeTesting): 0, string(sts.ModeNone): 0, "missing": 0}
	if r.policies == nil {
		return out
	}
	for mode, n := range r.policies.Modes() {
		out[cmp.Or(string(mode), "missing")] = float64(n)
	}
	return out
}

// noHost is a policy host that does not exist. Where the record could not be
// looked up that is no failure: most domains have none.
const noHost = "no-host"

// fetchResults are what fetchResult may return.
var fetchResults = []string{"ok", string(sts.PolicyFetchError), string(sts.PolicyInvalid), string(sts.WebPKIInvalid), noHost}

// fetchResult is the result of a fetch in one word, of RFC 8460 where it has one.
func fetchResult(err error) string {
	failed, ok := errors.AsType[*sts.FetchError](err)
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, sts.ErrNoHost):
		return noHost
	case ok:
		return string(failed.Type)
	}
	return string(sts.PolicyFetchError)
}

func reportResult(sent bool) string {
	if sent {
		return "sent"
	}
	return "failed"
}

// totals count since the start, for status.
type totals struct{ accepted, delivered, deferred, bounced atomic.Int64 }

func (t *totals) read() operator.SinceStart {
	return operator.SinceStart{Accepted: t.accepted.Load(), Delivered: t.delivered.Load(), Deferred: t.deferred.Load(), Bounced: t.bounced.Load()}
}

// accepted counts a message that was taken in.
func (r *Relay) accepted(env *queue.Envelope) {
	r.totals.accepted.Add(1)
	r.metrics.Accepted(env.Size)
	r.history.AddAccepted(env)
}

// refused counts a reply that refuses a client's command.
func (r *Relay) refused(f *ingress.Refusal) {
	r.metrics.Refused(f.Code, f.Status)
	r.history.AddRefused(f.Client, f.From, f.Command, f.Status, f.Reply)
}

// countEvents returns a reader of events that counts them for the metrics and for status.
func countEvents(m *metrics.Metrics, t *totals) func(*delivery.Event) {
	return func(e *delivery.Event) {
		for i := range e.Sessions {
			s := &e.Sessions[i]
			if !s.Opened {
				continue
			}
			m.StartTLS(s.Evidence.StartTLS.String(), 1)
			if s.Usable {
				m.Session(s.Evidence.TLSName())
			}
		}
		if e.Kind != delivery.EventAttempt {
			return
		}
		for _, result := range e.Results() {
			m.Recipients(result.Verdict, result.Code, len(result.To))
			t.add(result.Verdict, int64(len(result.To)))
		}
		m.Attempt(e.Verdict(), cmp.Or(string(e.Protection), "no-session"))
		if slices.ContainsFunc(e.States, func(s queue.RecipientState) bool { return s.State == queue.Delivered }) {
			m.Delivered(e.Claim.Age + e.Took)
		}
	}
}

// add counts what became of n recipients.
func (t *totals) add(verdict string, n int64) {
	switch verdict {
	case "delivered":
		t.delivered.Add(n)
	case "deferred":
		t.deferred.Add(n)
	case "bounced":
		t.bounced.Add(n)
	}
}

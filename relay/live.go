package relay

import (
	"time"

	"github.com/stsrelay/stsrelay/relay/delivery"
	"github.com/stsrelay/stsrelay/relay/live"
)

// liveTotals returns the counters that the live view measures by.
func (r *Relay) liveTotals() live.Totals {
	n := r.totals.read()
	t := live.Totals{Accepted: n.Accepted, Delivered: n.Delivered, Deferred: n.Deferred, Bounced: n.Bounced}
	t.Commits, t.CommitTime = r.metrics.Commits()
	return t
}

// showLive returns a reader of events that shows their results in the live view.
func showLive(m *live.Meter) func(*delivery.Event) {
	return func(e *delivery.Event) {
		if e.Kind != delivery.EventAttempt {
			return
		}
		for _, r := range e.Results() {
			m.Add(&live.Result{
				At: e.At.UTC(), QueueID: e.QueueID, Domain: e.Claim.Domain, Recipients: len(r.To), Verdict: r.Verdict,
				Host: r.Host, IP: r.IP, Why: r.Code, Text: r.Text, Reply: r.Reply, Protection: string(e.Protection), Took: e.Took.Round(10 * time.Microsecond).Seconds(),
			})
		}
	}
}

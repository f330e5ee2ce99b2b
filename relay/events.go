package relay

import (
	"github.com/stsrelay/stsrelay/queue"
	"github.com/stsrelay/stsrelay/relay/alert"
	"github.com/stsrelay/stsrelay/relay/delivery"
	"github.com/stsrelay/stsrelay/relay/notify"
	"github.com/stsrelay/stsrelay/tlsrpt"
)

// eventReaders wires the readers of what becomes of attempts. Whatever else is to know of
// it is one more of them.
func (r *Relay) eventReaders(notices *notify.Reporter, reporter *tlsrpt.Reporter) delivery.Readers {
	readers := delivery.Readers{
		Commit:  []func(*delivery.Event) delivery.Changes{noticesOfEvents(notices)},
		Ended:   []func(*delivery.Event){delivery.LogEvents(r.log), countEvents(r.metrics, &r.totals), followTraffic(r.traffic), showLive(r.live)},
		Durable: []func(*delivery.Event){r.history.AddEvent},
	}
	if reporter != nil {
		readers.Commit = append(readers.Commit, countSessions(reporter.Count))
		readers.Ended = append(readers.Ended, followReports(reporter))
	}
	return readers
}

// followTraffic returns a reader of events that counts what becomes of attempts now.
func followTraffic(t *alert.Traffic) func(*delivery.Event) {
	return func(e *delivery.Event) {
		if e.Kind != delivery.EventAttempt || e.Unreadable != nil {
			return
		}
		var n alert.Counts
		domain, code := "", ""
		for i, s := range e.States {
			switch {
			case s.State == "":
				continue
			case s.State == queue.Delivered:
				n.Delivered++
			case s.State == queue.Bounced:
				n.Bounced++
				code = s.ReasonCode
			default:
				n.Deferred++
				code = s.ReasonCode
			}
			domain = e.Claim.Envelope.Recipients[i].Domain
		}
		t.Add(domain, code, n)
	}
}

// noticesOfEvents returns a reader of events that writes the notices to senders.
func noticesOfEvents(notices *notify.Reporter) func(*delivery.Event) delivery.Changes {
	return func(e *delivery.Event) (c delivery.Changes) {
		if e.Kind == delivery.EventNoAttempt || e.Unreadable != nil || e.Claim.Envelope.Kind == queue.Report {
			return c
		}
		add := func(m queue.NewMessage, ok bool) bool {
			if ok {
				c.Notices = append(c.Notices, m)
			}
			return ok
		}
		if e.Kind == delivery.EventAttempt {
			add(notices.Failure(e.Claim, e.States))
			add(notices.Success(e.Claim, e.States, e.Relayed))
		}
		if e.Late {
			c.Delayed = add(notices.Delay(e.Claim, e.States))
		}
		return c
	}
}

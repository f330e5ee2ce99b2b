package tlsrpt

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/internal/store"
)

// Status is the state of one report, for the operator.
type Status struct {
	Day    string `json:"date"`
	Domain string `json:"domain"`
	// ReportID is the id of the report, also where it is not made yet.
	ReportID string `json:"report_id"`
	// Sessions and Failures count a session once, however many policies it was
	// judged by.
	Sessions int64         `json:"sessions"`
	Failures int64         `json:"failures"`
	State    State         `json:"state"`
	Why      phrase.Phrase `json:"why,omitzero"`
	// NextAt is the time of the next attempt; nil where none is planned.
	NextAt  *time.Time `json:"next_attempt_at"`
	EndedAt *time.Time `json:"ended_at,omitempty"`
	// To has the state at each destination of the record.
	To []DestinationStatus `json:"destinations"`
}

// DestinationStatus is the state of a report at one destination.
type DestinationStatus struct {
	URI     string   `json:"uri"`
	State   Progress `json:"state"`
	Why     string   `json:"why,omitempty"`
	QueueID string   `json:"queue_id,omitempty"`
}

// Preview calls yield with the reports of a day as they would be sent now, for
// one domain or ("") for all, until it returns false. Where a day has several reports of
// a domain, it is the last.
func (r *Reporter) Preview(ctx context.Context, day, domain string, yield func(*Report) bool) error {
	if _, err := ParseDay(day); err != nil {
		return err
	}
	if err := r.countsOf(ctx, day, domain); err != nil {
		return err
	}
	identity := r.o.Identity()
	var cur *Report
	var of reportKey
	stopped := false
	err := readPolicies(r.o.Store, selection(day, domain), func(k reportKey, c *Counts) bool {
		if cur == nil || k != of {
			if cur != nil && k.Domain != of.Domain && !yield(cur) {
				stopped = true
				return false
			}
			of = k
			cur, _ = identity.newReport(k.Day, r.id(k)) // the day is one
		}
		cur.Policies = append(cur.Policies, newPolicy(k.Domain, c))
		return true
	})
	if err == nil && cur != nil && !stopped {
		yield(cur)
	}
	return err
}

// countsOf waits until the counts of a day are in the store, also those that other relays
// have counted.
func (r *Reporter) countsOf(ctx context.Context, day, domain string) error {
	r.waitForCounts(ctx)
	return r.gather(ctx, day, domain)
}

// waitForCounts waits until all results that were counted by now are written. Where they
// cannot be written, the answer lacks them.
func (r *Reporter) waitForCounts(ctx context.Context) {
	_ = store.Commit(ctx, r.o.Store, new(store.Batch))
}

func selection(day, domain string) []byte {
	if domain == "" {
		return countsPrefix(day)
	}
	return countsPrefix(day, domain)
}

// List calls yield with the states of reports, the newest day first, for one day and one
// domain or ("") for all, until it returns false.
func (r *Reporter) List(ctx context.Context, day, domain string, yield func(Status) bool) error {
	r.waitForCounts(ctx)
	all := []string{day}
	if day == "" {
		err := r.gather(ctx, DayOf(r.o.Now()), domain) // those that are over are gathered by Run
		if err != nil {
			return err
		}
		if all, err = days(r.o.Store); err != nil {
			return err
		}
		slices.Reverse(all)
	} else if _, err := ParseDay(day); err != nil {
		return err
	}
	for _, d := range all {
		if err := r.gather(ctx, d, domain); err != nil {
			return err
		}
		more, err := r.list(d, domain, yield)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

func (r *Reporter) list(day, domain string, yield func(Status) bool) (more bool, err error) {
	var k reportKey
	var cur *Status
	stopped := false
	emit := func() bool {
		if cur != nil && !stopped {
			if err = r.complete(k, cur); err == nil {
				stopped = !yield(*cur)
			}
		}
		return err == nil && !stopped
	}
	e := readPolicies(r.o.Store, selection(day, domain), func(of reportKey, c *Counts) bool {
		if cur == nil || of != k {
			if !emit() {
				return false
			}
			k, cur = of, &Status{Day: of.Day, Domain: of.Domain, ReportID: r.id(of), To: []DestinationStatus{}}
		}
		failed := c.Failed()
		cur.Sessions += c.Successes + failed - c.Again
		cur.Failures += failed - c.AgainFailed
		return true
	})
	if e != nil {
		return false, e
	}
	if err == nil && !stopped {
		emit()
	}
	return !stopped, err
}

// complete adds the state of the submission.
func (r *Reporter) complete(k reportKey, st *Status) error {
	var s submission
	found, err := load(r.o.Store, submissionKey(k), &s)
	if err != nil {
		return fmt.Errorf("the record of the TLS report to %s: %w", k.Domain, err)
	}
	if !found {
		at := r.dueAt(k)
		st.State, st.NextAt = Waiting, &at
		if k.Day >= DayOf(r.o.Now()) {
			st.State = Counting
		}
		return nil
	}
	st.State, st.Why = s.State, phrase.Quote(s.Why)
	if !s.Next.IsZero() {
		st.NextAt = &s.Next
	}
	if !s.Ended.IsZero() {
		st.EndedAt = &s.Ended
	}
	for _, d := range s.To {
		st.To = append(st.To, DestinationStatus{URI: d.URI, State: d.Progress, Why: d.Why, QueueID: d.QueueID})
		switch {
		case s.State != Waiting || d.Progress != InQueue || !st.Why.IsZero():
		case r.lost(d):
			st.Why = phrase.New("its mail is not in the queue any more; it can be sent anew: stsrelay report send")
		default:
			st.Why = phrase.New("its mail is in the queue as %s", d.QueueID)
		}
	}
	return nil
}

// NothingCountedError means that nothing was counted for a domain on a day.
type NothingCountedError struct{ Domain, Day string }

// Error implements error.
func (e *NothingCountedError) Error() string { return e.Phrase().String() }

// Phrase is the text of the error.
func (e *NothingCountedError) Phrase() phrase.Phrase {
	return phrase.New("nothing was counted for %s on %s", e.Domain, e.Day)
}

// SendNow sends the reports of a day at once, for one domain or ("") for all,
// and calls yield with the state of each. Those of today have the counts up to now;
// later counts are for another report. A report that a receiver has accepted, or that is
// in the queue, is not sent again; one that was given up is tried once more, and so is one
// whose mail is not in the queue any more. The error wraps a *NothingCountedError where there
// is nothing to send for the domain.
func (r *Reporter) SendNow(ctx context.Context, day, domain string, yield func(Status) bool) error {
	if _, err := ParseDay(day); err != nil {
		return err
	}
	if err := r.countsOf(ctx, day, domain); err != nil {
		return err
	}
	var reports []reportKey
	err := readPolicies(r.o.Store, selection(day, domain), func(k reportKey, _ *Counts) bool {
		if n := len(reports); n == 0 || reports[n-1] != k {
			reports = append(reports, k)
		}
		return true
	})
	if err != nil {
		return err
	}
	if len(reports) == 0 && domain != "" {
		return &NothingCountedError{Domain: domain, Day: day}
	}
	for i, k := range reports {
		if last := i+1 == len(reports) || reports[i+1].Domain != k.Domain; !last {
			var s submission
			if _, err := load(r.o.Store, submissionKey(k), &s); err == nil && s.State == Sent {
				continue // an earlier report of the domain that was sent
			}
		}
		if r.claim(k) {
			err := r.reopen(ctx, k)
			if err == nil {
				err = r.send(ctx, k, true)
			}
			r.release(k)
			if err != nil {
				return err
			}
		}
		more := true
		_, err := r.list(k.Day, k.Domain, func(s Status) bool {
			if s.ReportID == r.id(k) {
				more = yield(s)
			}
			return true
		})
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// reopen opens a report that was given up or skipped, or whose mail is lost.
func (r *Reporter) reopen(ctx context.Context, k reportKey) error {
	var s submission
	found, err := load(r.o.Store, submissionKey(k), &s)
	ended := s.State == Failed || s.State == Skipped
	if err != nil || !found || !ended && !(s.State == Waiting && slices.ContainsFunc(s.To, r.lost)) {
		return err
	}
	s.To = slices.DeleteFunc(s.To, func(d destination) bool { return r.lost(d) || ended && d.Progress != InQueue })
	s.State, s.First, s.Ended, s.Attempts = Waiting, r.o.Now().UTC().Truncate(time.Second), time.Time{}, 0
	return store.Put(ctx, r.o.Store, submissionKey(k), encode(s))
}

// lost reports whether the mail to a destination has left the queue without an end: the
// operator has removed it, or it was not in a backup.
func (r *Reporter) lost(d destination) bool {
	return d.Progress == InQueue && !r.o.InQueue(d.QueueID)
}

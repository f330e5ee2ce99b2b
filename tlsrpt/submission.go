package tlsrpt

import (
	"slices"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/stsrelay/stsrelay/internal/store"
)

// State is the state of a report.
type State string

// The states of a report.
const (
	// Counting: its day is not over.
	Counting State = "counting"
	// Waiting: it is due later, or tried again later, or its mail is queued.
	Waiting State = "waiting"
	// Sent: a receiver has accepted it.
	Sent State = "sent"
	// Failed: it was given up.
	Failed State = "failed"
	// Skipped: the domain wants no report.
	Skipped State = "skipped"
)

// submission is the state of a report whose counts are closed.
type submission struct {
	State State `cbor:"1,keyasint"`
	// Why explains a state other than Sent.
	Why string `cbor:"2,keyasint,omitempty"`
	// First is the time of the first attempt, Next of the next one (zero: none is
	// planned), Ended of the end.
	First    time.Time     `cbor:"3,keyasint"`
	Next     time.Time     `cbor:"4,keyasint"`
	Ended    time.Time     `cbor:"5,keyasint"`
	Attempts int           `cbor:"6,keyasint,omitempty"`
	To       []destination `cbor:"7,keyasint,omitempty"`
}

// Progress is the state of a report at one destination.
type Progress string

// The states at a destination.
const (
	Pending  Progress = "pending"  // to be tried again
	InQueue  Progress = "queued"   // its mail is in the queue
	Accepted Progress = "accepted" // by the receiver's host
	Refused  Progress = "refused"  // not tried again
)

type destination struct {
	URI      string   `cbor:"1,keyasint"`
	Progress Progress `cbor:"2,keyasint"`
	Why      string   `cbor:"3,keyasint,omitempty"`
	QueueID  string   `cbor:"4,keyasint,omitempty"`
}

func (d *destination) ended() bool { return d.Progress == Accepted || d.Progress == Refused }

// how is the way to the destination; "none" where the record could not be looked up.
func (d *destination) how() string {
	switch scheme, _, _ := strings.Cut(d.URI, ":"); Scheme(scheme) {
	case Mailto:
		return "mail"
	case HTTPS:
		return "https"
	}
	return "none"
}

// giveUp is how long a report is tried (RFC 8460, 5.5).
const giveUp = 24 * time.Hour

// waits are the times after the first, second, … attempt; the last one repeats.
var waits = [...]time.Duration{5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour}

// clone is a copy that keeps its destinations as they are.
func (s *submission) clone() submission {
	c := *s
	c.To = slices.Clone(s.To)
	return c
}

func (s *submission) ended() bool { return s.State != Waiting }

// due reports whether it is time for an attempt.
func (s *submission) due(now time.Time) bool {
	return s.Attempts == 0 || !s.Next.IsZero() && !s.Next.After(now)
}

// find returns the destination of that URI, nil where there is none.
func (s *submission) find(uri string) *destination {
	for i := range s.To {
		if s.To[i].URI == uri {
			return &s.To[i]
		}
	}
	return nil
}

// set sets the state at a destination.
func (s *submission) set(d destination) {
	if have := s.find(d.URI); have != nil {
		*have = d
	} else {
		s.To = append(s.To, d)
	}
}

func (s *submission) end(state State, why string, now time.Time) {
	s.State, s.Why, s.Next, s.Ended = state, why, time.Time{}, now
}

// merge adds the results of an attempt. A destination with a mail stays as it is, also
// where the record does not name it any more.
func (s *submission) merge(results []destination) {
	var to []destination
	for _, d := range s.To {
		if d.QueueID != "" {
			to = append(to, d)
		}
	}
	s.To = to
	for _, d := range results {
		if s.find(d.URI) == nil {
			s.To = append(s.To, d)
		}
	}
}

// evaluate sets the state from those of the destinations.
func (s *submission) evaluate(now time.Time) {
	over := !now.Before(s.First.Add(giveUp))
	var why []string
	queued, pending, accepted := 0, 0, 0
	for i := range s.To {
		d := &s.To[i]
		if over && d.Progress == Pending {
			d.Progress, d.Why = Refused, "given up after 24 hours: "+d.Why
		}
		switch d.Progress {
		case Accepted:
			accepted++
		case InQueue:
			queued++
		case Pending:
			pending++
		}
		if d.Why != "" {
			why = append(why, d.URI+": "+d.Why)
		}
	}
	s.State, s.Why = Waiting, strings.Join(why, "; ")
	switch {
	case accepted > 0:
		s.end(Sent, s.Why, now)
	case pending > 0:
		s.Next = now.Add(waits[min(max(s.Attempts-1, 0), len(waits)-1)])
		if last := s.First.Add(giveUp); s.Next.After(last) {
			s.Next = last
		}
	case queued > 0:
		s.Next = time.Time{}
	default:
		s.end(Failed, s.Why, now)
	}
}

// change adds to b a change of the submission of k. The committer calls fn with the
// stored one, perhaps more than once.
func change(b *store.Batch, k reportKey, fn func(*submission)) {
	b.Do(1, 4096, func(txn store.Txn) error {
		data, err := txn.Get(submissionKey(k))
		if err != nil || data == nil {
			return err // it was removed with its day
		}
		var s submission
		if err := cbor.Unmarshal(data, &s); err != nil {
			return nil //nolint:nilerr // a damaged record must not hold the delivery of a mail
		}
		fn(&s)
		return txn.Set(submissionKey(k), encode(s))
	})
}

package operator

import (
	"context"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/alert"
)

// Status is the state of the relay as a whole.
type Status struct {
	Version       string `json:"version"`
	UptimeSeconds int64  `json:"uptime_seconds"`
	Hostname      string `json:"hostname"`
	// Accepting reports whether the relay takes mail in, and Delivering whether it
	// delivers: it does not while delivery is paused.
	Accepting  bool `json:"accepting"`
	Delivering bool `json:"delivering"`
	// Pauses are those that the operator has ordered: of delivery as a whole, and by domain.
	Pauses []Pause `json:"pauses"`
	// Problem is why no mail is taken in, no text while it is.
	Problem phrase.Phrase `json:"problem,omitzero"`
	// Alerts are what needs a person, as of now; DKIM keys as of the last minutes.
	Alerts     []alert.Alert `json:"troubles"`
	LogDropped uint64        `json:"log_dropped"` // lines that nobody has read
	SinceStart SinceStart    `json:"since_start"`
	// Last are the results of the last 15 minutes.
	Last alert.Counts `json:"last_15_minutes"`
	// Outage is that nothing is delivered though it is tried, nil where that is not so.
	Outage   *alert.Outage `json:"outage,omitempty"`
	Queue    QueueStatus   `json:"queue"`
	Sessions SessionStatus `json:"sessions"`
}

// SinceStart counts since the start of the relay.
type SinceStart struct {
	Accepted  int64 `json:"accepted"`  // messages taken in
	Delivered int64 `json:"delivered"` // recipients
	Deferred  int64 `json:"deferred"`  // recipients, each time they were deferred
	Bounced   int64 `json:"bounced"`   // recipients
}

// QueueStatus has the totals of the queue.
type QueueStatus struct {
	Messages   int `json:"messages"`
	Recipients int `json:"recipients"`
	Held       int `json:"held"`
}

// SessionStatus counts the open SMTP sessions.
type SessionStatus struct {
	In  int `json:"in"`
	Out int `json:"out"`
}

// Status returns the state of the relay as a whole.
func (o *Operator) Status() Status {
	s := o.o.Status()
	n := o.o.Queue.Counts()
	s.Queue = QueueStatus{Messages: n.Messages, Recipients: n.Recipients, Held: n.Held}
	s.Delivering = !o.o.Queue.Paused()
	s.Pauses = o.Pauses()
	s.Accepting = true
	if err := o.o.Queue.Accepting(); err != nil {
		s.Accepting, s.Problem = false, phrase.Of(err)
	}
	if s.Alerts == nil {
		s.Alerts = []alert.Alert{}
	}
	return s
}

// Accepting returns why no mail is taken in, nil while it is.
func (o *Operator) Accepting() error { return o.o.Queue.Accepting() }

// Reloaded is the answer to a reload.
type Reloaded struct {
	Reloaded bool `json:"reloaded"`
	// Restart are the keys that have changed in the file and count from the next
	// start only.
	Restart []string `json:"restart"`
}

// Reload reads the configuration again. If it is wrong nothing changes, and the
// error says why.
func (o *Operator) Reload(ctx context.Context, actor Actor) (Reloaded, error) {
	o.log(ctx, actor, "reload requested by the operator")
	restart, err := o.o.Reload(ctx)
	if err != nil {
		return Reloaded{}, failed(rejected, err)
	}
	return Reloaded{Reloaded: true, Restart: append([]string{}, restart...)}, nil
}

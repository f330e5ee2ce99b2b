package scheduler

import "time"

// Schedule is when attempts are made.
type Schedule struct {
	// Retry are the waits after the first, second, … failed attempt; the last
	// one repeats. Each is varied by ±20 %.
	Retry []time.Duration
	// Expire is the age at which a message is given up; 0: never.
	Expire time.Duration
	// DelayWarning is the age at which the sender of a message is warned of the delay.
	// The next attempt does so; if there is none because the domain is in back-off, the
	// group is claimed for a delay notice. 0: never.
	DelayWarning time.Duration
}

// reportExpiry is how long a TLS report is tried (RFC 8460, 5.5): the next one
// is due then.
const reportExpiry = 24 * time.Hour

// Wait returns the time from the given number of failed attempts to the next one, varied.
func (s *Scheduler) Wait(attempts int) time.Duration {
	retry := s.schedule.Retry
	d := retry[min(max(attempts-1, 0), len(retry)-1)]
	return time.Duration(float64(d) * (0.8 + 0.4*s.rand()))
}

// expiry returns the age at which e is given up, 0 for never.
func (s *Scheduler) expiry(e *Entry) time.Duration {
	if e.report && (s.schedule.Expire == 0 || s.schedule.Expire > reportExpiry) {
		return reportExpiry
	}
	return s.schedule.Expire
}

// spared are messages that may be older before they are given up.
type spared struct {
	below uint64 // their numbers
	by    time.Duration
}

// Spare lets messages whose number is below a number be older by a time before they are given
// up: the time in which nobody could try them.
func (s *Scheduler) Spare(below uint64, by time.Duration) { s.spared = spared{below, by} }

// ExpiresAt returns when e is given up; ok is false if it never is.
func (s *Scheduler) ExpiresAt(e *Entry) (at Time, ok bool) {
	expire := s.expiry(e)
	at = e.ReceivedAt.Add(expire)
	if e.Seq < s.spared.below {
		at = at.Add(s.spared.by)
	}
	return at, expire > 0
}

// expired reports whether e is to be given up.
func (s *Scheduler) expired(e *Entry, now Time) bool {
	at, ok := s.ExpiresAt(e)
	return ok && now >= at
}

// Package scheduler decides what is due: which recipient group a worker gets next,
// and when the next one will be due. It knows the priorities of mail, the turns of
// domains and their back-off after a failure, the limits of claims, which senders are
// to be warned of a delay, and what the operator has held or canceled.
//
// It is pure: it has no lock, reads no clock, and knows nothing of the store, of logs
// or of goroutines. The caller passes the time to each call, and must not make two
// calls at a time.
package scheduler

import (
	"math/rand/v2"
	"time"
)

// Time is a moment: nanoseconds since an epoch of the caller.
type Time int64

// Add returns the moment that is d later.
func (t Time) Add(d time.Duration) Time { return t + Time(d) }

// Sub returns the time from u to t.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

// Never is the wake-up time if nothing will be due without another change.
const Never Time = -1

// Reason is why mail waits.
type Reason struct {
	// Code is one word of a closed vocabulary, which the caller defines.
	Code string
	// Status is the enhanced status code (RFC 3463), "" if none is known.
	Status string
	// Text is a sentence for people, "" if there is none.
	Text string
}

// Options configures New.
type Options struct {
	Schedule Schedule
	Limits   Limits
	// Paused reports whether nothing is claimed until Pause is called.
	Paused bool
	// Rand returns a number in [0, 1) for the variation of waits; nil: math/rand.
	Rand func() float64
}

// Limits bound what is claimed at a time.
type Limits struct {
	// Domain is how many groups of one domain are claimed at a time; at least 1.
	Domain int
	// Claims is how many groups are claimed at a time in all, until their results
	// are durable; 0: no bound. Claims for a delay notice do not count.
	Claims int
}

// Counts are the totals of what is in the schedule.
type Counts struct {
	Messages   int
	Recipients int // that have no end yet
	Held       int // messages that are held
}

// Scheduler has every message that waits or is being delivered.
type Scheduler struct {
	schedule Schedule
	spared   spared
	limits   Limits
	rand     func() float64

	messages entryList
	domains  map[string]*Domain
	sleeping domainHeap // domains by the time that they have something due
	rings    rings      // domains that have something due now
	proven   proven
	claims   claimCounts
	counts   Counts
	reasons  reasonCounts

	pausedUntil   Time            // in the past: it is not paused
	pausedDomains map[string]Time // also those without mail
}

// claimCounts counts the claims whose results are not durable yet.
type claimCounts struct {
	all      int
	unproven int // those of domains that were not proven at the time of the claim
}

// New returns an empty scheduler.
func New(o Options) *Scheduler {
	if o.Rand == nil {
		o.Rand = rand.Float64
	}
	s := &Scheduler{schedule: o.Schedule, limits: o.Limits, rand: o.Rand, domains: make(map[string]*Domain), pausedUntil: -Forever, reasons: newReasonCounts()}
	if o.Paused {
		s.pausedUntil = Forever
	}
	return s
}

// Counts returns the totals.
func (s *Scheduler) Counts() Counts { return s.counts }

// Claims is how many groups are claimed for an attempt, until the results are
// durable.
func (s *Scheduler) Claims() int { return s.claims.all }

// SetLimits changes the limits. Claims that exceed lower ones stay; a domain reaches a
// higher one as its groups are delivered.
func (s *Scheduler) SetLimits(l Limits) {
	if l.Domain < s.limits.Domain {
		for _, d := range s.domains {
			d.limit = min(d.limit, l.Domain)
		}
	}
	s.limits = l
}

// SetSchedule changes the schedule; due times that are set stay so.
func (s *Scheduler) SetSchedule(schedule Schedule, now Time) {
	if schedule.DelayWarning != s.schedule.DelayWarning {
		s.forgetDelays(now)
	}
	s.schedule = schedule
}

// Domain returns the domain with a name, nil if none of its mail is in the schedule.
func (s *Scheduler) Domain(name string) *Domain { return s.domains[name] }

// Domains is how many domains have something in the schedule.
func (s *Scheduler) Domains() int { return len(s.domains) }

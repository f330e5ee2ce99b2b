package alert

import (
	"sync"
	"time"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/relay/failure"
)

const (
	// Window is the time that Traffic.Last counts.
	Window = 15 * time.Minute
	// outageAfter is how long every attempt has failed before that is an outage. With
	// the time from one check to the next it is below Window.
	outageAfter = 10 * time.Minute
	// silentDomains is how many domains must fail where no host answers, and
	// refusingDomains where hosts do answer: a few that put mail off, as greylisting does,
	// are usual.
	silentDomains, refusingDomains = 2, 5
	// maxFailing bounds the domains that are remembered, failingFor the time for which
	// one is after its last failure.
	maxFailing = 10_000
	failingFor = 24 * time.Hour
)

// Counts are recipients by what attempts made of them.
type Counts struct {
	Delivered int64 `json:"delivered"`
	Deferred  int64 `json:"deferred"`
	Bounced   int64 `json:"bounced"`
}

// Outage is that nothing is delivered: since a time every attempt has failed, for several
// domains that did not fail before.
type Outage struct {
	Since    time.Time `json:"since"`
	Attempts int       `json:"attempts"`
	Domains  int       `json:"domains"`
	// Reason is the code of the reason that most of the domains have (package failure).
	Reason string `json:"reason"`
}

// Traffic knows what became of the attempts of the last minutes, and since when nothing is
// delivered. Its methods may be called from many goroutines.
type Traffic struct {
	now func() time.Time

	mu      sync.Mutex
	minutes [int(Window/time.Minute) + 1]minute // each at its number modulo the length
	// deliveries counts deliveries that came after a failure. A domain that has failed
	// before the last of them is known to be in trouble of its own.
	deliveries int
	failing    map[string]failing
	attempts   int // those that have failed since the last delivery
}

// minute counts for one minute, by its number since 1970.
type minute struct {
	number int64
	Counts
}

// failing is a domain whose last attempt failed.
type failing struct {
	code       string
	since, at  time.Time // the first failure and the last one
	deliveries int       // Traffic.deliveries when it began to fail
}

// NewTraffic returns a Traffic that knows of nothing; now is its clock.
func NewTraffic(now func() time.Time) *Traffic {
	return &Traffic{now: now, failing: make(map[string]failing)}
}

// Add counts an attempt to deliver to a domain. code is the reason of what was not
// delivered.
func (t *Traffic) Add(domain, code string, n Counts) {
	now := t.now()
	number := now.Unix() / 60
	t.mu.Lock()
	defer t.mu.Unlock()
	m := &t.minutes[number%int64(len(t.minutes))]
	if m.number != number {
		*m = minute{number: number}
	}
	m.Delivered += n.Delivered
	m.Deferred += n.Deferred
	m.Bounced += n.Bounced
	if n.Delivered > 0 {
		if t.attempts > 0 {
			t.deliveries++
			t.attempts = 0
		}
		delete(t.failing, domain)
		return
	}
	if n.Deferred+n.Bounced == 0 {
		return
	}
	f, known := t.failing[domain]
	if !known && len(t.failing) >= maxFailing {
		return
	}
	if !known || now.Sub(f.at) > failingFor {
		f.since, f.deliveries = now, t.deliveries
	}
	f.code, f.at = code, now
	t.failing[domain] = f
	t.attempts++
}

// Last returns what became of the attempts of the last Window.
func (t *Traffic) Last() (sum Counts) {
	number := t.now().Unix() / 60
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range t.minutes {
		if age := number - m.number; age >= 0 && age < int64(len(t.minutes)) {
			sum.Delivered += m.Delivered
			sum.Deferred += m.Deferred
			sum.Bounced += m.Bounced
		}
	}
	return sum
}

// Outage returns the outage of now, nil where there is none.
func (t *Traffic) Outage() *Outage {
	now := t.now()
	t.mu.Lock()
	defer t.mu.Unlock()
	out := &Outage{Since: now, Attempts: t.attempts}
	codes, silent := make(map[string]int), 0
	for domain, f := range t.failing {
		switch {
		case now.Sub(f.at) > failingFor:
			delete(t.failing, domain)
		case f.deliveries == t.deliveries:
			out.Domains++
			if f.since.Before(out.Since) {
				out.Since = f.since
			}
			codes[f.code]++
			if !failure.Of(f.code).Answered {
				silent++
			}
		}
	}
	if now.Sub(out.Since) < outageAfter || silent < silentDomains && out.Domains < refusingDomains {
		return nil
	}
	for code, n := range codes {
		if most := codes[out.Reason]; n > most || n == most && code < out.Reason {
			out.Reason = code
		}
	}
	return out
}

// outage tells that nothing is delivered.
func (c *Checks) outage() []Alert {
	o := c.Outage()
	if o == nil {
		return nil
	}
	row := failure.Of(o.Reason)
	a := say("outage", "outage", human.Span(c.Now().Sub(o.Since)), o.Attempts, o.Domains, row.Code, helpWith(&row, true))
	a.urgent = true
	return []Alert{a}
}

package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/queue/scheduler"
)

// maxPauses bounds the domains that are paused at a time.
const maxPauses = 1000

// ErrTooManyPauses is returned where no further domain can be paused.
var ErrTooManyPauses = phrase.Errorf("%d domains are paused, and no more can be: resume some, or pause delivery as a whole", maxPauses)

// Pause is a pause of delivery. While it lasts nothing is tried,
// and no message is given up or warned of.
type Pause struct {
	// Domain is the recipients' domain; "" for delivery as a whole.
	Domain string    `cbor:"1,keyasint"`
	Since  time.Time `cbor:"2,keyasint"`
	// Until is its end; zero: it lasts until Resume or, as a whole, until the next start.
	Until time.Time `cbor:"3,keyasint"`
	By    string    `cbor:"4,keyasint,omitempty"` // who ordered it, or "configuration"; "" where that is not known
}

// pauses are the pauses that were ordered; some may be over. Queue.mu guards them.
type pauses []Pause

// keyPauses has the pauses that outlive a restart: all but that of delivery as a whole
// without an end.
var keyPauses = append(append([]byte{}, store.PrefixQueue...), "pauses"...)

// Pause pauses the delivery to a domain, or ("") as a whole, for a time; 0: without an end. It
// takes the place of an earlier one.
func (q *Queue) Pause(ctx context.Context, domain string, d time.Duration, by string) (Pause, error) {
	p := Pause{Domain: domain, Since: q.clock.utc(), By: by}
	if d > 0 {
		p.Until = p.Since.Add(d)
	}
	q.mu.Lock()
	left := q.pausesLocked(domain)
	if len(left) >= maxPauses {
		q.mu.Unlock()
		return p, ErrTooManyPauses
	}
	q.pauses = append(left, p)
	q.applyPauseLocked(&p)
	q.writePausesLocked()
	q.mu.Unlock()
	return p, q.waitDurable(ctx, nil)
}

// Resume ends a pause, and reports whether there was one.
func (q *Queue) Resume(ctx context.Context, domain string) (found bool, err error) {
	q.mu.Lock()
	now := q.clock.now()
	before := len(q.pausesLocked())
	q.pauses = q.pausesLocked(domain)
	found = len(q.pauses) < before
	if domain == "" {
		q.scheduler.Pause(now)
	} else {
		q.scheduler.PauseDomain(domain, now, now)
	}
	q.writePausesLocked()
	q.mu.Unlock()
	return found, q.waitDurable(ctx, nil)
}

// Pauses returns the pauses that last: that of delivery as a whole first, then by domain.
func (q *Queue) Pauses() []Pause {
	q.mu.Lock()
	defer q.mu.Unlock()
	out := q.pausesLocked()
	slices.SortFunc(out, func(a, b Pause) int { return strings.Compare(a.Domain, b.Domain) })
	return out
}

// pausesLocked returns the pauses that last, without those of some domains.
func (q *Queue) pausesLocked(without ...string) []Pause {
	now := q.clock.utc()
	out := make([]Pause, 0, len(q.pauses)+1)
	for _, p := range q.pauses {
		if (p.Until.IsZero() || p.Until.After(now)) && !slices.Contains(without, p.Domain) {
			out = append(out, p)
		}
	}
	return out
}

// applyPauseLocked tells the scheduler of a pause. If the clock was set back, it does not become
// longer than it was.
func (q *Queue) applyPauseLocked(p *Pause) {
	now, until := q.clock.now(), scheduler.Forever
	if !p.Until.IsZero() {
		until = now.Add(min(p.Until.Sub(q.clock.wall()), p.Until.Sub(p.Since)))
	}
	if p.Domain == "" {
		q.scheduler.Pause(until)
	} else {
		q.scheduler.PauseDomain(p.Domain, until, now)
	}
}

// writePausesLocked writes the pauses that outlive a restart.
func (q *Queue) writePausesLocked() {
	kept := slices.DeleteFunc(q.pausesLocked(), func(p Pause) bool { return p.Domain == "" && p.Until.IsZero() })
	var b store.Batch
	if len(kept) == 0 {
		b.Delete(keyPauses)
	} else {
		b.Set(keyPauses, encode(kept))
	}
	q.write(&b)
}

// ReadPauses returns the pauses in the store of a queue, also of one that another process
// has open. That of delivery as a whole without an end is not among them.
func ReadPauses(st store.Reader) (list []Pause, err error) {
	err = st.View(keyPauses, func(v []byte) error {
		if err := decode(v, &list); err != nil {
			return fmt.Errorf("%w: %w", &store.ValueError{Key: keyPauses}, err)
		}
		return nil
	})
	return list, err
}

// readPauses reads the pauses when the queue is opened. paused reports whether the configuration
// has paused delivery as a whole.
func (q *Queue) readPauses(paused bool) error {
	list, err := ReadPauses(q.store)
	if _, damaged := errors.AsType[*store.ValueError](err); err != nil && !damaged {
		return err
	}
	if err != nil {
		q.log.Error("the pauses of delivery cannot be read: nothing is paused", "error", err)
		list = nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.pauses = list
	q.addPausesLocked(q.pausesLocked())
	if paused {
		q.pauseByConfigurationLocked()
	}
	return nil
}

// AddPauses adds the pauses of another queue: they count here as they do there.
func (q *Queue) AddPauses(list []Pause) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.addPausesLocked(list)
	q.writePausesLocked()
}

// addPausesLocked adds pauses; each takes the place of one of the same domain.
func (q *Queue) addPausesLocked(list []Pause) {
	for i := range list {
		q.pauses = append(q.pausesLocked(list[i].Domain), list[i])
		q.applyPauseLocked(&list[i])
	}
}

// Paused reports whether delivery as a whole is paused.
func (q *Queue) Paused() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.scheduler.Paused(q.clock.now())
}

// SetPaused pauses or resumes delivery as a whole, as the configuration says. It takes the
// place of a pause that the operator has ordered.
func (q *Queue) SetPaused(paused bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.pauses = q.pausesLocked("")
	if q.scheduler.Pause(q.clock.now()); paused {
		q.pauseByConfigurationLocked()
	}
	q.writePausesLocked()
	q.wake.raise()
}

func (q *Queue) pauseByConfigurationLocked() {
	p := Pause{Since: q.clock.utc(), By: "configuration"}
	q.pauses = append(q.pausesLocked(""), p)
	q.applyPauseLocked(&p)
}

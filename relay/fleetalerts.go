package relay

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/stsrelay/stsrelay/internal/store/postgres"
	"github.com/stsrelay/stsrelay/relay/alert"
	"github.com/stsrelay/stsrelay/relay/fleet"
)

const (
	// troublesEvery is the time between two looks at the fleet.
	troublesEvery = 20 * time.Second
	// troubleWait is how long a trouble lasts before the operator is told: a space is held
	// by nobody for a term before it is taken over.
	troubleWait = 2 * time.Minute
)

// fleetTroubles remembers the troubles of the fleet.
type fleetTroubles struct {
	mu    sync.Mutex
	at    time.Time // of the last look
	list  []postgres.Trouble
	since map[string]time.Time // by key
}

// lasting returns the troubles that have lasted for troubleWait, as of the last look.
func (t *fleetTroubles) lasting(now time.Time, look func() []postgres.Trouble) (list []postgres.Trouble) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if since := now.Sub(t.at); since >= troublesEvery || since < 0 {
		before := t.since
		t.at, t.list = now, look()
		t.since = make(map[string]time.Time, len(t.list))
		for _, trouble := range t.list {
			t.since[trouble.Key] = now
			if at, ok := before[trouble.Key]; ok {
				t.since[trouble.Key] = at
			}
		}
	}
	for _, trouble := range t.list {
		if now.Sub(t.since[trouble.Key]) >= troubleWait {
			list = append(list, trouble)
		}
	}
	return list
}

// fleetAlerts returns the troubles of the fleet that last. One relay tells of them: the one
// that makes the TLS reports, or else the first by name.
func (r *Relay) fleetAlerts() (list []alert.Alert) {
	for _, t := range r.troubles.lasting(r.now(), r.lookForTroubles) {
		list = append(list, alert.Fleet(t.Key, t.Text))
	}
	return list
}

// lookForTroubles asks PostgreSQL. While it is away, other alerts say so.
func (r *Relay) lookForTroubles() []postgres.Trouble {
	if r.space.Away() {
		return nil // to ask would hold up every other check
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	d, err := r.directory()
	if err != nil {
		return nil
	}
	defer d.Close()
	f, err := d.Fleet(ctx)
	if err != nil || teller(f.Spaces) != r.space.Space() {
		return nil
	}
	return f.Troubles(postgres.Replication(r.config.Load().Queue.Replication))
}

// teller is the relay that tells the operator of troubles of the fleet.
func teller(spaces []postgres.Space) string {
	var holders []string
	for i := range spaces {
		if s := &spaces[i]; s.Held() {
			if s.Name == fleet.ReportsSpace {
				return s.Holder
			}
			holders = append(holders, s.Holder)
		}
	}
	if holders == nil {
		return ""
	}
	return slices.Min(holders)
}

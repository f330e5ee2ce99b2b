package relay

import (
	"context"
	"sync"
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/internal/store/postgres"
	"github.com/stsrelay/stsrelay/relay/operator"
)

const (
	// fleetViewEvery is how often PostgreSQL is asked at most, however many look.
	fleetViewEvery = 2 * time.Second
	// fleetViewTime is how long its answer may take.
	fleetViewTime = 2 * time.Second
)

// fleetView is the state of the fleet for those who look at this relay.
type fleetView struct {
	directory   *postgres.Directory
	replication postgres.Replication
	away        func() bool // PostgreSQL does not answer this relay

	mu   sync.Mutex // held while PostgreSQL is asked
	at   time.Time  // of last
	last operator.FleetStatus
}

// newFleetView returns the view of a fleet that a space is part of. It connects to nothing
// before somebody looks.
func newFleetView(o *postgres.Options, away func() bool) (*fleetView, error) {
	d, err := postgres.NewDirectory(o.URL, o.Space+" view")
	if err != nil {
		return nil, err
	}
	return &fleetView{directory: d, replication: o.Replication, away: away}, nil
}

// read returns the state of the fleet, as of some seconds ago.
func (v *fleetView) read(ctx context.Context) *operator.FleetStatus {
	if v.away() {
		return &operator.FleetStatus{Problem: phrase.New("PostgreSQL does not answer"), Relays: []operator.FleetRelay{}, Standbys: []operator.FleetStandby{}, Troubles: []phrase.Phrase{}}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.at.IsZero() || time.Since(v.at) >= fleetViewEvery {
		v.last = v.ask(ctx)
		v.at = time.Now()
	}
	last := v.last
	return &last
}

func (v *fleetView) ask(ctx context.Context) operator.FleetStatus {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fleetViewTime) // others wait for the answer, too
	defer cancel()
	out := operator.FleetStatus{Relays: []operator.FleetRelay{}, Standbys: []operator.FleetStandby{}, Troubles: []phrase.Phrase{}}
	f, err := v.directory.Fleet(ctx)
	if err != nil {
		out.Problem = phrase.Of(err)
		return out
	}
	for i := range f.Spaces {
		s := &f.Spaces[i]
		r := operator.FleetRelay{Name: s.Name, Messages: s.Messages}
		if s.Held() {
			since := s.Since.UTC()
			r.Holder, r.Since = s.Holder, &since
		}
		out.Relays = append(out.Relays, r)
	}
	for _, s := range f.Standbys {
		out.Standbys = append(out.Standbys, operator.FleetStandby{Name: s.Name, State: s.State, Sync: s.Sync})
	}
	out.ClockSeconds = f.Clock.Seconds()
	for _, t := range f.Troubles(v.replication) {
		out.Troubles = append(out.Troubles, t.Text)
	}
	return out
}

// seeFleet returns the function that shows the fleet, nil where this relay is alone.
func (r *Relay) seeFleet() func(context.Context) *operator.FleetStatus {
	if r.fleetView == nil {
		return nil
	}
	return r.fleetView.read
}

// close closes the connection.
func (v *fleetView) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.directory.Close()
}

package operator

import (
	"context"
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
)

// FleetStatus is the relays that share a PostgreSQL.
type FleetStatus struct {
	// Problem is why PostgreSQL does not say more, "" where it does.
	Problem phrase.Phrase `json:"problem,omitzero"`
	Relays  []FleetRelay  `json:"relays"`
	// Standbys is empty where PostgreSQL does not show them to this user.
	Standbys []FleetStandby `json:"standbys"`
	// ClockSeconds is how far PostgreSQL's clock is ahead of this machine's.
	ClockSeconds float64 `json:"clock_seconds"`
	// Troubles are what needs a person, a sentence each.
	Troubles []phrase.Phrase `json:"troubles"`
}

// FleetRelay is a relay of the fleet, and the mail that it has left or works on.
type FleetRelay struct {
	Name string `json:"name"`
	// Holder is the relay that works on its mail: itself, or another one that has taken it
	// over; "": none.
	Holder string `json:"holder"`
	// Since is when the holder took it; null where there is none.
	Since    *time.Time `json:"since"`
	Messages int64      `json:"messages"` // that wait
}

// FleetStatus returns the relays that share a PostgreSQL with this one. It is a conflict where
// this one is alone.
func (o *Operator) FleetStatus(ctx context.Context) (*FleetStatus, error) {
	if f := o.fleetStatus(ctx); f != nil {
		return f, nil
	}
	return nil, failed(conflict, phrase.Errorf(`queue.engine is not "postgres": this relay is alone`))
}

// fleetStatus is FleetStatus, nil where this relay is alone.
func (o *Operator) fleetStatus(ctx context.Context) *FleetStatus {
	if o.o.FleetStatus == nil {
		return nil
	}
	return o.o.FleetStatus(ctx)
}

// FleetStandby is a server that follows the primary of PostgreSQL.
type FleetStandby struct {
	Name string `json:"name"`
	// State is the state of replication, such as "streaming"; Sync is "sync", "quorum",
	// "potential" or "async".
	State string `json:"state"`
	Sync  string `json:"sync"`
}

package operator

import (
	"context"
	"time"

	"github.com/stsrelay/stsrelay/relay/live"
)

// Live is what the relay does at this moment.
type Live struct {
	At      time.Time     `json:"at"`
	Status  Status        `json:"status"`
	Active  int           `json:"active"`  // deliveries under way
	Rates   []live.Rate   `json:"rates"`   // of the last 10 seconds, minute and 15 minutes
	Domains []LiveDomain  `json:"domains"` // the busiest
	Results []live.Result `json:"results"` // the last ones, the newest first
	// Fleet is the relays that share a PostgreSQL with this one, as of some seconds ago; nil
	// where it is alone.
	Fleet *FleetStatus `json:"fleet,omitempty"`
}

// LiveState is what happens to the mail of a domain.
type LiveState string

// The states.
const (
	Going   LiveState = "going"   // mail is under way
	Waiting LiveState = "waiting" // nothing is under way
	Resting LiveState = "resting" // it could not be reached, and is tried again later
	Paused  LiveState = "paused"  // by the operator
)

// LiveDomain is what happens to the mail of one domain.
type LiveDomain struct {
	Domain string `json:"domain"`
	// Deliveries is how many have no end yet, each of a message to its recipients of
	// the domain. Active is how many of these are under way, and Limit how many may be
	// at a time.
	Deliveries int       `json:"deliveries"`
	Active     int       `json:"active"`
	Limit      int       `json:"limit"`
	OldestAt   time.Time `json:"oldest_at"` // when the message came in that is longest in the queue
	State      LiveState `json:"state"`
	// Until is when a Resting domain is tried again, or a pause ends; else nil.
	Until  *time.Time `json:"until"`
	Reason Reason     `json:"why"` // of the last attempt that left recipients
}

// liveDomains is how many domains Live has.
const liveDomains = 20

// Live returns what the relay does at this moment. It takes no lock for longer than a
// look at each domain takes, so that it may be asked every second.
func (o *Operator) Live(ctx context.Context) Live {
	l := Live{At: time.Now().UTC().Truncate(time.Millisecond), Status: o.Status(), Active: o.o.Queue.Active(), Rates: o.o.Live.Rates(), Results: o.o.Live.Results(), Fleet: o.fleetStatus(ctx)}
	l.Domains = []LiveDomain{}
	ours, pauses := o.sharedWithin(time.Minute), o.pausesNow()
	for _, d := range o.o.Queue.Busiest(liveDomains) {
		row := LiveDomain{Domain: d.Domain, Deliveries: d.Groups, Active: d.Active, Limit: d.Limit, OldestAt: d.OldestAt.Truncate(time.Millisecond),
			State: Waiting, Reason: newReason(d.Last, d.Domain, "", ours)}
		switch {
		case d.Active > 0:
			row.State = Going
		case pauses.of(d.Domain) != nil:
			row.State, row.Until = Paused, pauses.of(d.Domain).Until
		case !d.RestsUntil.IsZero():
			row.State, row.Until = Resting, timePointer(d.RestsUntil)
		}
		l.Domains = append(l.Domains, row)
	}
	return l
}

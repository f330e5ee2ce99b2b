package relay

import (
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/store/postgres"
)

// A space is held by nobody for a term before it is taken over: the operator is told of
// what lasts, and once it is over no more.
func TestTheOperatorIsToldOfTroublesOfTheFleetThatLast(t *testing.T) {
	var troubles fleetTroubles
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	standby, space := postgres.Trouble{Key: "standby"}, postgres.Trouble{Key: "space-b"}
	for _, step := range []struct {
		after time.Duration
		seen  []postgres.Trouble
		want  int
	}{
		{0, []postgres.Trouble{standby, space}, 0},
		{time.Minute, []postgres.Trouble{standby}, 0},
		{time.Minute, []postgres.Trouble{standby, space}, 1}, // the space was held in between
		{time.Second, nil, 1},                                // it is not looked at so often
		{time.Minute, nil, 0},
	} {
		now = now.Add(step.after)
		if got := troubles.lasting(now, func() []postgres.Trouble { return step.seen }); len(got) != step.want {
			t.Errorf("at %s: %v; want %d", now.Format(time.TimeOnly), got, step.want)
		}
	}
}

func TestOneRelayTellsOfTroublesOfTheFleet(t *testing.T) {
	held := func(space, holder string) postgres.Space {
		return postgres.Space{Name: space, Holder: holder, Left: time.Second}
	}
	for _, row := range []struct {
		spaces []postgres.Space
		want   string
	}{
		{nil, ""},
		{[]postgres.Space{held("b", "b"), held("c", "c"), {Name: "a"}}, "b"},
		{[]postgres.Space{held("TLS reports", "c"), held("b", "b"), held("c", "c")}, "c"},
	} {
		if got := teller(row.spaces); got != row.want {
			t.Errorf("%v: %q, want %q", row.spaces, got, row.want)
		}
	}
}

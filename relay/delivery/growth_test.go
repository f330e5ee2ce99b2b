package delivery

import (
	"testing"
	"time"
)

// farHost is a host whose sessions share a way that carries so many messages a second.
// A message takes the way's time, and longer where there are more sessions than it
// can carry.
func farHost(way time.Duration, carries int, sessions int) time.Duration {
	return max(way, time.Duration(sessions)*time.Second/time.Duration(carries))
}

func TestSessionsToAFarHostGrow(t *testing.T) {
	for _, tt := range []struct {
		name       string
		way        time.Duration
		carries    int // messages a second
		limit      int // of the operator
		waiting    int
		least, max int // sessions in the end
	}{
		{"far, and takes everything", 100 * time.Millisecond, 100_000, 0, 20, 50, 50},
		{"far, and full at 20 sessions", 100 * time.Millisecond, 200, 0, 20, 18, 30},
		{"far, and full at 5 sessions", 100 * time.Millisecond, 50, 0, 20, 10, 14},
		{"nearby", time.Millisecond, 100_000, 0, 20, 10, 10},
		{"nobody waits", 100 * time.Millisecond, 100_000, 0, 0, 10, 10},
		{"the operator has set the bound", 100 * time.Millisecond, 100_000, 12, 20, 12, 12},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var g growth
			limit := limitOf(tt.limit)
			least, most := 1000, 0
			for i := range 20_000 {
				n := g.allowed(limit)
				g.took(farHost(tt.way, tt.carries, n), n, tt.waiting)
				if i > 10_000 {
					least, most = min(least, n), max(most, n)
				}
			}
			if least < tt.least || most > tt.max {
				t.Errorf("%d to %d sessions, want %d to %d", least, most, tt.least, tt.max)
			}
			g.overloaded()
			if n := g.allowed(limit); n != limit.base {
				t.Errorf("%d sessions after the host said that it has too much to do", n)
			}
		})
	}
}

// A large message now and then says nothing of the host.
func TestOneLongMessageTakesFewSessions(t *testing.T) {
	var g growth
	limit := limitOf(0)
	for i := range 10_000 {
		d := 100 * time.Millisecond
		if i%200 == 0 {
			d = 2 * time.Second
		}
		g.took(d, g.allowed(limit), 20)
	}
	if n := g.allowed(limit); n < 40 {
		t.Errorf("%d sessions", n)
	}
}

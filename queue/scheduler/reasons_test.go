package scheduler

import (
	"fmt"
	"maps"
	"math/rand"
	"testing"
	"time"
)

// The counts are those of a look at every group, whatever happened before.
func TestTheReasonsOfGroupsAreCounted(t *testing.T) {
	rnd := rand.New(rand.NewSource(1))
	s := New(Options{Schedule: Schedule{Retry: []time.Duration{time.Minute}, Expire: time.Hour}, Limits: Limits{Domain: 5}, Rand: rnd.Float64})
	codes := []string{"", "dns", "tls-none", "busy"}
	var now Time = 1
	var entries []*Entry
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for seq := range uint64(3000) {
		e := &Entry{Seq: seq}
		s.Enter(e)
		s.Accept(e, Mail{ReceivedAt: now}, 1+rnd.Intn(2), func(i int) (string, int) { return fmt.Sprintf("d%d.example", rnd.Intn(50)*2+i), 1 })
		if rnd.Intn(4) == 0 { // as after a start
			ok(s.Restore(&e.Groups[0], Saved{Attempts: 1, Left: rnd.Intn(2), Due: now, Reason: Reason{Code: codes[rnd.Intn(4)]}}))
		}
		ok(s.Start(e, now))
		entries = append(entries, e)
		if rnd.Intn(5) == 0 {
			_ = s.Hold(entries[rnd.Intn(len(entries))], now)
		}
		for range rnd.Intn(4) {
			c, _ := s.Next(now)
			if c.Group == nil {
				break
			}
			g := c.Group
			ok(s.Finish(g, Outcome{Left: rnd.Intn(2), Reason: Reason{Code: codes[rnd.Intn(4)]}}, now))
			ok(s.Recorded(g, now))
		}
		now = now.Add(20 * time.Second)
	}
	want := map[string]int{"": 0, "dns": 0, "tls-none": 0, "busy": 0}
	for _, e := range entries {
		for i := range e.Groups {
			if g := &e.Groups[i]; !g.State().Ended() {
				want[s.reasons.codes[g.reason]]++
			}
		}
	}
	if got := s.Reasons(); !maps.Equal(got, want) || want[""] == 0 || want["dns"] == 0 {
		t.Errorf("%v, want %v", got, want)
	}
	for i := range 300 { // more codes than there can be
		s.reasons.index(fmt.Sprint(i))
	}
	if n := len(s.Reasons()); n != maxReasons {
		t.Errorf("%d codes", n)
	}
}

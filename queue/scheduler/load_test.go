package scheduler

import (
	"testing"
	"time"
)

func TestTheBusiestDomains(t *testing.T) {
	w := newWorld(t, Options{Schedule: Schedule{Retry: []time.Duration{time.Minute}}})
	first := w.now
	for i, domain := range []string{"big.test", "big.test", "big.test", "small.test", "down.test", "down.test", "tiny.test"} {
		w.mail(domain)
		if i == 4 {
			w.end(w.claimOf("down.test"), unreached)
		}
		w.advance(time.Second)
	}
	w.claimOf("small.test")

	got := w.Busiest(3, w.now)
	want := []Load{
		{Domain: "small.test", Groups: 1, Claimed: 1, Limit: 20, Oldest: first.Add(3 * time.Second)},
		{Domain: "big.test", Groups: 3, Limit: 20, Oldest: first},
		{Domain: "down.test", Groups: 2, Limit: 20, Oldest: first.Add(4 * time.Second), RestsUntil: first.Add(4*time.Second + time.Minute), Last: unreached.Reason},
	}
	if len(got) != len(want) {
		t.Fatalf("%+v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%+v, want %+v", got[i], want[i])
		}
	}

	w.advance(time.Hour)
	for range 2 {
		w.end(w.claimOf("big.test"), delivered)
	}
	for _, l := range w.Busiest(10, w.now) {
		switch l.Domain {
		case "big.test":
			if l.Groups != 1 || l.Oldest != first.Add(2*time.Second) {
				t.Errorf("after two deliveries: %+v", l)
			}
		case "down.test":
			if l.RestsUntil != 0 {
				t.Errorf("after the back-off: %+v", l)
			}
		}
	}
	if got := w.Busiest(0, w.now); len(got) != 0 {
		t.Errorf("none were asked for: %+v", got)
	}
}

// claimOf claims the next group of a domain.
func (w *world) claimOf(domain string) Claim {
	w.Helper()
	c := w.NextOf(domain, w.now)
	if c.Group == nil {
		w.Fatalf("nothing of %s is due", domain)
	}
	w.consistent()
	return c
}

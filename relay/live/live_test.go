package live_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stsrelay/stsrelay/relay/live"
)

func TestRatesAreThoseOfTheLastSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var accepted atomic.Int64
		m := live.New(func() live.Totals {
			n := accepted.Load()
			return live.Totals{Accepted: n, Delivered: 2 * n, Commits: uint64(n), CommitTime: time.Duration(n) * 3 * time.Millisecond}
		})
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { m.Run(ctx) })
		defer func() { stop(); running.Wait() }()

		pass := func(seconds int, each int64) {
			for range seconds {
				time.Sleep(time.Millisecond) // between two samples
				accepted.Add(each)
				time.Sleep(999 * time.Millisecond)
			}
			synctest.Wait()
		}
		pass(5, 10)
		if r := m.Rates()[2]; r.Window != 900 || r.Seconds != 5 || r.Accepted != 10 {
			t.Errorf("after 5 seconds: %+v", r)
		}
		pass(1000, 4) // more than is remembered
		pass(50, 0)
		pass(10, 100)
		for i, want := range []live.Rate{
			{Window: 10, Seconds: 10, Accepted: 100, Delivered: 200, CommitMS: 3},
			{Window: 60, Seconds: 60, Accepted: 1000. / 60, Delivered: 2000. / 60, CommitMS: 3},
			{Window: 900, Seconds: 900, Accepted: (840*4 + 1000.) / 900, Delivered: 2 * (840*4 + 1000.) / 900, CommitMS: 3},
		} {
			if got := m.Rates()[i]; got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		}
	})
}

func TestTheLastResultsAreRemembered(t *testing.T) {
	m := live.New(func() live.Totals { return live.Totals{} })
	if len(m.Results()) != 0 {
		t.Error("there are results before the first")
	}
	for i := range 45 {
		m.Add(&live.Result{QueueID: fmt.Sprint(i)})
	}
	got := m.Results()
	if len(got) != 20 || got[0].QueueID != "44" || got[19].QueueID != "25" {
		t.Errorf("%d results, from %s to %s", len(got), got[0].QueueID, got[len(got)-1].QueueID)
	}
}

func TestResultsAreAddedAndReadAtTheSameTime(t *testing.T) {
	m := live.New(func() live.Totals { return live.Totals{} })
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 1000 {
				m.Add(&live.Result{})
				m.Rates()
				m.Results()
			}
		})
	}
	all.Wait()
	if n := len(m.Results()); n != 20 {
		t.Errorf("%d results", n)
	}
}

package scheduler

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// Of one domain the mail of users goes first, and what is bound by nothing before
// what a policy may hold.
func TestPrioritiesOrderTheMailOfADomain(t *testing.T) {
	order := []Priority{
		{Expired: true},
		{PolicyFree: true, Delayed: true},
		{PolicyFree: true},
		{Delayed: true},
		{},
		{Generated: true, PolicyFree: true},
		{Generated: true},
	}
	w := newWorld(t, Options{})
	for _, p := range slices.Backward(order) {
		w.accept(Mail{Priority: p}, "a.test")
	}
	for _, want := range order {
		if got := w.claim().Group.Priority; got != want {
			t.Errorf("claimed %+v, want %+v", got, want)
		}
	}
	for _, p := range []Priority{{Expired: true, Generated: true}, {Expired: true, PolicyFree: true, Delayed: true}} {
		if p.rank() != 0 {
			t.Errorf("%+v has rank %d", p, p.rank())
		}
	}
}

func TestRetriesFollowTheSchedule(t *testing.T) {
	const minute = time.Minute
	for _, row := range []struct {
		name    string
		mail    Mail
		expire  time.Duration
		age     time.Duration // when the first attempt is made
		outcome Outcome
		rand    float64
		waits   []time.Duration // after each attempt
	}{
		{"the last wait repeats", Mail{}, 0, 0, putOff, 0.5, []time.Duration{minute, 10 * minute, 10 * minute}},
		{"20 % less", Mail{}, 0, 0, putOff, 0, []time.Duration{48 * time.Second, 8 * minute}},
		{"20 % more", Mail{}, 0, 0, putOff, 1, []time.Duration{72 * time.Second, 12 * minute}},
		{"asked for", Mail{}, 0, 0, Outcome{Left: 1, RetryAfter: 7 * minute}, 0, []time.Duration{7 * minute, 7 * minute}},
		{"until it expires", Mail{}, 5 * minute, 0, putOff, 0.5, []time.Duration{minute, 4 * minute, 10 * minute}},
		{"asked for, until it expires", Mail{}, 5 * minute, 0, Outcome{Left: 1, RetryAfter: hour}, 0, []time.Duration{5 * minute, hour}},
		{"a report, until it expires", Mail{Report: true}, 100 * hour, 24*hour - 30*time.Second, putOff, 0.5, []time.Duration{30 * time.Second, 10 * minute}},
		{"a report, where nothing expires", Mail{Report: true}, 0, 24*hour - 30*time.Second, putOff, 0.5, []time.Duration{30 * time.Second, 10 * minute}},
		{"a report that expires sooner", Mail{Report: true}, hour, hour - 30*time.Second, putOff, 0.5, []time.Duration{30 * time.Second, 10 * minute}},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, Options{Schedule: Schedule{Retry: []time.Duration{minute, 10 * minute}, Expire: row.expire}})
			w.rand = func() float64 { return row.rand }
			w.accept(row.mail, "a.test")
			w.advance(row.age)
			for i, wait := range row.waits {
				c := w.claim()
				if int(c.Group.Attempts) != i {
					t.Errorf("attempt %d after %d", i+1, c.Group.Attempts)
				}
				expires := row.expire
				if row.mail.Report && (expires == 0 || expires > 24*hour) {
					expires = 24 * hour
				}
				if want := expires > 0 && c.Age >= expires; c.Expired != want {
					t.Errorf("at the age of %s: expired %t", c.Age, c.Expired)
				}
				w.end(c, row.outcome)
				if got := c.Group.Due.Sub(w.now); got != wait {
					t.Errorf("after attempt %d it waits %s, want %s", i+1, got, wait)
				}
				if wakeAt := w.nothing("before it is due"); wakeAt != c.Group.Due {
					t.Errorf("wakes at %d, due at %d", wakeAt, c.Group.Due)
				}
				w.advance(wait)
			}
		})
	}
}

func TestLimitsOfClaims(t *testing.T) {
	for _, row := range []struct {
		name   string
		limits Limits
		mails  int // to a.test
		want   int
	}{
		{"of a domain", Limits{Domain: 3}, 5, 3},
		{"of all", Limits{Domain: 10, Claims: 4}, 6, 4},
		{"two thirds for who is not proven", Limits{Domain: 20, Claims: 9}, 12, 6},
		{"too few to be shared", Limits{Domain: 20, Claims: 8}, 12, 8},
		{"no bound", Limits{Domain: 100}, 50, 50},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, Options{Limits: row.limits})
			for range row.mails {
				w.mail("a.test")
			}
			var claims []Claim
			for range row.want {
				claims = append(claims, w.claim())
			}
			if row.want < row.mails {
				w.nothing("beyond the limit")
				if c := w.NextOf("a.test", w.now); c.Group != nil {
					t.Error("NextOf claimed beyond the limit")
				}
			}
			if w.Claims() != row.want || w.Domain("a.test").Claimed != row.want {
				t.Errorf("%d claims, %d of the domain, want %d", w.Claims(), w.Domain("a.test").Claimed, row.want)
			}
			// The place is free when the result is recorded, and not before.
			w.ok(w.Finish(claims[0].Group, putOff, w.now))
			if row.want < row.mails {
				w.nothing("before the result is recorded")
				w.ok(w.Recorded(claims[0].Group, w.now))
				w.claim()
			}
		})
	}
}

// A result that is lost goes on counting, and leaves the domain its place.
func TestAResultThatIsLostGoesOnCounting(t *testing.T) {
	for _, o := range []Outcome{putOff, delivered} {
		w := newWorld(t, Options{Limits: Limits{Domain: 1}})
		e, other := w.mail("a.test"), w.mail("a.test")
		c := w.claim()
		w.ok(w.Finish(c.Group, o, w.now))
		w.ok(w.Unrecorded(c.Group, w.now))
		w.end(w.claim(), delivered)
		if w.Claims() != 1 {
			t.Errorf("%d claims", w.Claims())
		}
		w.advance(hour)
		w.nothing("of what is lost")
		w.ok(w.Remove(e, w.now))
		w.ok(w.Remove(other, w.now))
		if w.Domains() != 0 || w.Counts() != (Counts{}) {
			t.Errorf("%d domains, %+v", w.Domains(), w.Counts())
		}
	}
}

func TestNothingIsClaimedWhilePaused(t *testing.T) {
	w := newWorld(t, Options{Paused: true})
	w.mail("a.test")
	if wakeAt := w.nothing("while paused"); wakeAt != Never || !w.Paused(w.now) {
		t.Errorf("wakes at %d", wakeAt)
	}
	if c := w.NextOf("a.test", w.now); c.Group != nil {
		t.Error("NextOf claimed while paused")
	}
	w.Pause(w.now)
	w.claim()
}

// Domains take turns, however much of one waits; and a domain grows by what goes
// through.
func TestDomainsTakeTurns(t *testing.T) {
	w := newWorld(t, Options{})
	for range 10 {
		w.mail("many.test")
	}
	for i := range 3 {
		w.mail(fmt.Sprintf("few%d.test", i))
	}
	var first []string
	for range 8 {
		first = append(first, w.claim().Group.Domain.Name)
	}
	for i := range 3 {
		if !slices.Contains(first, fmt.Sprintf("few%d.test", i)) {
			t.Errorf("%v", first)
		}
	}
}

// Where places become few, every second fresh domain is the one that came last.
func TestTheLastFreshDomainDoesNotWaitBehindAllOthers(t *testing.T) {
	w := newWorld(t, Options{Limits: Limits{Claims: 12}})
	for i := range 20 {
		w.mail(fmt.Sprintf("d%d.test", i))
	}
	var got []string
	for range 8 {
		got = append(got, w.claim().Group.Domain.Name)
	}
	want := []string{"d0.test", "d1.test", "d2.test", "d3.test", "d19.test", "d4.test", "d18.test", "d5.test"}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestPlacesAreShort(t *testing.T) {
	for _, row := range []struct {
		name   string
		limits Limits
		paused bool
		mails  int
		want   bool
	}{
		{"no bound", Limits{}, false, 30, false},
		{"all are claimed", Limits{Claims: 9}, false, 6, false},
		{"one finds no place", Limits{Claims: 9}, false, 7, true},
		{"paused", Limits{Claims: 9}, true, 7, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, Options{Limits: row.limits})
			for i := range row.mails {
				w.mail(fmt.Sprintf("d%d.test", i))
			}
			for range min(row.mails, 6) {
				w.claim()
			}
			if row.paused {
				w.Pause(Forever)
			}
			if got := w.PlacesShort(w.now); got != row.want {
				t.Errorf("%t", got)
			}
		})
	}
}

func TestAPauseEndsByItself(t *testing.T) {
	w := newWorld(t, Options{})
	w.mail("a.test")
	w.Pause(w.now.Add(time.Hour))
	if wakeAt := w.nothing("while paused"); wakeAt != w.now.Add(time.Hour) || !w.Paused(w.now) {
		t.Errorf("wakes at %d", wakeAt)
	}
	w.advance(time.Hour)
	if w.Paused(w.now) {
		t.Error("still paused")
	}
	w.claim()
}

func TestNothingOfAPausedDomainIsClaimed(t *testing.T) {
	for _, row := range []struct {
		name string
		end  func(w *world) // ends the pause
	}{
		{"it ends by itself", func(w *world) { w.advance(time.Hour) }},
		{"it is ended", func(w *world) { w.PauseDomain("a.test", w.now, w.now) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, Options{Schedule: Schedule{DelayWarning: time.Minute}})
			w.PauseDomain("a.test", w.now.Add(time.Hour), w.now) // which has no mail yet
			first := w.mail("a.test")
			w.mail("b.test")
			w.end(w.claim(), Outcome{Delivered: true})
			w.nothing("of a paused domain")
			w.ok(w.RetryNow(first, w.now))
			w.advance(30 * time.Minute) // its sender would be warned of the delay
			w.nothing("of a paused domain after RetryNow")
			if at := first.Groups[0].StartsAt(); at != w.now.Add(30*time.Minute) || w.NextOf("a.test", w.now).Group != nil {
				t.Errorf("it starts in %s", at.Sub(w.now))
			}
			row.end(w)
			if c := w.claim(); c.Group.Entry != first {
				t.Error("another message was claimed")
			}
			w.nothing("more")
		})
	}
	w := newWorld(t, Options{})
	w.mail("a.test")
	w.PauseDomain("a.test", Forever, w.now)
	w.nothing("of a domain that was paused with mail")
	w.advance(1000 * time.Hour)
	w.nothing("of a domain that is paused without an end")
}

package scheduler

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// may says what may follow a state, as the package doc of State has it: one row a
// state, one column a state that follows.
//
//	Pending, Waiting, Held, Canceled, Claimed, Removed, Recording, Unrecorded, Closing, Done
var may = [states][states]bool{
	Pending:    {Waiting: true, Held: true, Done: true},
	Waiting:    {Held: true, Canceled: true, Claimed: true, Done: true},
	Held:       {Waiting: true, Canceled: true, Done: true},
	Canceled:   {Waiting: true, Held: true, Done: true},
	Claimed:    {Waiting: true, Held: true, Canceled: true, Removed: true, Recording: true, Closing: true},
	Removed:    {Closing: true, Done: true},
	Recording:  {Waiting: true, Held: true, Canceled: true, Unrecorded: true, Closing: true},
	Unrecorded: {Done: true},
	Closing:    {Done: true},
	Done:       {},
}

// ways lead a new group to each state.
var ways = [states][]State{
	Pending:    {},
	Waiting:    {Waiting},
	Held:       {Held},
	Canceled:   {Waiting, Canceled},
	Claimed:    {Waiting, Claimed},
	Removed:    {Waiting, Claimed, Removed},
	Recording:  {Waiting, Claimed, Recording},
	Unrecorded: {Waiting, Claimed, Recording, Unrecorded},
	Closing:    {Waiting, Claimed, Closing},
	Done:       {Done},
}

// Of two states the second follows the first or does not, and where it does not,
// nothing changes.
func TestEveryPairOfStates(t *testing.T) {
	for from := range states {
		for to := range states {
			t.Run(fmt.Sprintf("%s to %s", from, to), func(t *testing.T) {
				w := newWorld(t, Options{})
				w.mail("a.test") // another message of the domain
				w.seqs++
				e := &Entry{Seq: w.seqs}
				w.Enter(e)
				w.Accept(e, Mail{ReceivedAt: w.now}, 1, func(int) (string, int) { return "a.test", 3 })
				g := &e.Groups[0]
				for _, state := range ways[from] {
					if err := w.become(g, state); err != nil {
						t.Fatal(err)
					}
				}
				before, domain := *g, *g.Domain
				counts := w.Counts()
				err := w.become(g, to)
				if !may[from][to] {
					w.refused(err)
					if *g != before || g.Domain.Claimed != domain.Claimed || g.Domain.left != domain.left || w.Counts() != counts {
						t.Error("it was refused, and something has changed")
					}
					return
				}
				w.ok(err)
				if g.State() != to {
					t.Errorf("it is %s", g.State())
				}
			})
		}
	}
}

func TestARefusalNamesDomainAndStates(t *testing.T) {
	err := &StateError{Domain: "a.test", From: Done, To: Claimed}
	if got, want := err.Error(), "a recipient group of a.test that is done cannot become claimed"; got != want {
		t.Errorf("%q", got)
	}
	if got := State(200).String(); got != "state 200" {
		t.Errorf("%q", got)
	}
}

// A claim ends once.
func TestAClaimEndsOnce(t *testing.T) {
	ends := map[string]func(*world, *Group) error{
		"Finish":       func(w *world, g *Group) error { return w.Finish(g, putOff, w.now) },
		"Finish, done": func(w *world, g *Group) error { return w.Finish(g, delivered, w.now) },
		"FinishNotice": func(w *world, g *Group) error { return w.FinishNotice(g, true, w.now) },
		"Release":      func(w *world, g *Group) error { return w.Release(g, w.now) },
		"Postpone":     func(w *world, g *Group) error { return w.Postpone(g, 1, w.now) },
	}
	for first, end := range ends {
		for second, again := range ends {
			for _, removed := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %s, removed %t", first, second, removed), func(t *testing.T) {
					w := newWorld(t, Options{})
					e := w.mail("a.test")
					g := w.claim().Group
					if removed {
						w.ok(w.Remove(e, w.now))
					}
					w.ok(end(w, g))
					state, due, attempts := g.State(), g.Due, g.Attempts
					w.refused(again(w, g))
					if g.State() != state || g.Due != due || g.Attempts != attempts {
						t.Errorf("%s, due at %d, %d attempts", g.State(), g.Due, g.Attempts)
					}
				})
			}
		}
	}
}

// Results are recorded once, and only where there are some.
func TestOnlyResultsAreRecorded(t *testing.T) {
	for from := range states {
		w := newWorld(t, Options{})
		e := w.mail("a.test")
		g := &e.Groups[0]
		g.state = Pending
		g.Domain.waiting[g.Priority.rank()] = nil
		for _, state := range ways[from] {
			if err := w.become(g, state); err != nil {
				t.Fatal(err)
			}
		}
		err := w.Recorded(g, w.now)
		if want := from == Recording || from == Closing; (err == nil) != want {
			t.Errorf("%s: %v", from, err)
		}
		if err := w.Unrecorded(g, w.now); err == nil {
			t.Errorf("%s: recorded twice", from)
		}
	}
}

// Whatever is done in whatever order, what is kept agrees with the states, and
// nothing is claimed twice.
func TestStatesAgreeWithWhatIsKept(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, Options{Limits: Limits{Domain: 3, Claims: 12}, Schedule: Schedule{Expire: 5 * hour, DelayWarning: hour}})
		domains := []string{"a.test", "b.test", "c.test"}
		var entries []*Entry
		var claims []Claim
		var results []*Group
		rt.Repeat(map[string]func(*rapid.T){
			"": func(*rapid.T) { w.consistent() },
			"accept": func(rt *rapid.T) {
				to := rapid.SliceOfN(rapid.SampledFrom(domains), 1, 3).Draw(rt, "domains")
				p := Priority{Generated: rapid.Bool().Draw(rt, "generated"), PolicyFree: rapid.Bool().Draw(rt, "policy-free")}
				entries = append(entries, w.accept(Mail{Priority: p}, to...))
			},
			"claim": func(rt *rapid.T) {
				c, _ := w.Next(w.now)
				if rapid.Bool().Draw(rt, "of a domain") && c.Group == nil {
					c = w.NextOf("a.test", w.now)
				}
				if c.Group == nil {
					rt.Skip("nothing is due")
				}
				claims = append(claims, c)
			},
			"end a claim": func(rt *rapid.T) {
				if len(claims) == 0 {
					rt.Skip("nothing is claimed")
				}
				c := claims[0]
				claims = claims[1:]
				switch n := rapid.IntRange(0, 5).Draw(rt, "how"); {
				case c.Kind == DelayNotice && n < 4:
					record := n < 3 && c.Group.State() != Removed
					w.ok(w.FinishNotice(c.Group, record, w.now))
					if record {
						results = append(results, c.Group)
					}
				case n < 4:
					o := []Outcome{delivered, putOff, unreached, unsafe_}[n]
					o.BackoffStep = c.BackoffStep
					w.ok(w.Finish(c.Group, o, w.now))
					results = append(results, c.Group)
				case n == 4:
					w.ok(w.Release(c.Group, w.now))
				default:
					w.ok(w.Postpone(c.Group, hour, w.now))
				}
			},
			"record": func(rt *rapid.T) {
				if len(results) == 0 {
					rt.Skip("no results")
				}
				g := results[0]
				results = results[1:]
				if rapid.IntRange(0, 9).Draw(rt, "lost") == 0 {
					w.ok(w.Unrecorded(g, w.now))
				} else {
					w.ok(w.Recorded(g, w.now))
				}
			},
			"operate": func(rt *rapid.T) {
				if len(entries) == 0 {
					rt.Skip("no message")
				}
				e := rapid.SampledFrom(entries).Draw(rt, "message")
				g := &e.Groups[rapid.IntRange(0, len(e.Groups)-1).Draw(rt, "group")]
				switch rapid.IntRange(0, 6).Draw(rt, "what") {
				case 0:
					w.ok(w.Hold(e, w.now))
				case 1:
					w.ok(w.Unhold(e, w.now))
				case 2:
					if e.Left > 0 && !e.Gone {
						w.ok(w.Cancel(g, w.now))
					}
				case 3:
					w.ok(w.Uncancel(g, w.now))
				case 4:
					if g.State() == Canceled {
						w.ok(w.End(g, w.now))
					}
				case 5:
					w.ok(w.RetryNow(e, w.now))
				case 6:
					w.ok(w.Remove(e, w.now))
				}
			},
			"time": func(rt *rapid.T) {
				w.now += Time(rapid.Int64Range(1, int64(2*hour)).Draw(rt, "for"))
			},
		})
	})
}

package scheduler

import (
	"slices"
	"testing"
	"time"
)

// world is a scheduler with a clock in the hand of the test, and waits that do not
// vary.
type world struct {
	testing.TB
	*Scheduler
	now  Time
	seqs uint64
}

func newWorld(t testing.TB, o Options) *world {
	t.Helper()
	if o.Schedule.Retry == nil {
		o.Schedule.Retry = []time.Duration{10 * time.Minute}
	}
	if o.Limits.Domain == 0 {
		o.Limits.Domain = 20
	}
	o.Rand = func() float64 { return 0.5 }
	return &world{TB: t, Scheduler: New(o), now: Time(time.Hour)}
}

// accept takes in a message with one recipient in each of the domains.
func (w *world) accept(m Mail, domains ...string) *Entry {
	w.Helper()
	w.seqs++
	e := &Entry{Seq: w.seqs}
	w.Enter(e)
	if m.ReceivedAt == 0 {
		m.ReceivedAt = w.now
	}
	w.Accept(e, m, len(domains), func(i int) (string, int) { return domains[i], 1 })
	w.ok(w.Start(e, w.now))
	return e
}

func (w *world) mail(domains ...string) *Entry { w.Helper(); return w.accept(Mail{}, domains...) }

// ok is for calls that must not be refused. What hangs on states is checked after
// each of them.
func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
	w.consistent()
}

// refused is for calls that must be refused.
func (w *world) refused(err error) {
	w.Helper()
	if _, is := err.(*StateError); !is { //nolint:errorlint // exactly that
		w.Fatalf("not refused: %v", err)
	}
	w.consistent()
}

func (w *world) claim() Claim {
	w.Helper()
	c, _ := w.Next(w.now)
	if c.Group == nil {
		w.Fatal("nothing is due")
	}
	w.consistent()
	return c
}

func (w *world) nothing(when string) (wakeAt Time) {
	w.Helper()
	c, wakeAt := w.Next(w.now)
	if c.Group != nil {
		w.Fatalf("%s a group of %s was claimed, of message %d", when, c.Group.Domain.Name, c.Group.Entry.Seq)
	}
	w.consistent()
	return wakeAt
}

// end ends a claim with an outcome that is recorded at once.
func (w *world) end(c Claim, o Outcome) {
	w.Helper()
	o.BackoffStep = c.BackoffStep
	w.ok(w.Finish(c.Group, o, w.now))
	w.ok(w.Recorded(c.Group, w.now))
}

var (
	delivered = Outcome{Delivered: true}
	putOff    = Outcome{Left: 1, Reason: Reason{Code: "busy", Text: "try again"}}
	unreached = Outcome{Left: 1, Reason: Reason{Code: "connect", Text: "refused"}, Backoff: DomainBackoff{Reason: Reason{Code: "connect", Text: "refused"}}}
	unsafe_   = Outcome{Left: 1, Reason: Reason{Code: "tls-cert", Text: "self-signed"}, Backoff: DomainBackoff{Reason: Reason{Code: "tls-cert", Text: "self-signed"}, PolicyOnly: true}}
)

func (w *world) advance(d time.Duration) { w.now = w.now.Add(d) }

// consistent compares what is kept with what follows from the states.
func (w *world) consistent() {
	w.Helper()
	var counts Counts
	type place struct{ left, claimed, waiting int }
	places := make(map[*Domain]place)
	for e := w.First(); e != nil; e = e.Next() {
		if e.Gone {
			w.Errorf("message %d is gone, and in the list", e.Seq)
		}
		if !e.Accepted {
			continue
		}
		counts.Messages++
		if e.Held {
			counts.Held++
		}
		left := 0
		for i := range e.Groups {
			g := &e.Groups[i]
			p := places[g.Domain]
			if !g.state.Ended() {
				left++
				p.left++
				counts.Recipients += int(g.Recipients)
			}
			if g.state.inClaim() {
				p.claimed++
			}
			waits := slices.Contains(g.Domain.waiting[g.Priority.rank()], g)
			if waits != (g.state == Waiting) {
				w.Errorf("a group that is %s: in the heap %t", g.state, waits)
			}
			if waits {
				p.waiting++
			}
			places[g.Domain] = p
		}
		if left != int(e.Left) {
			w.Errorf("message %d: %d groups are left, not %d", e.Seq, left, e.Left)
		}
	}
	if got := w.Counts(); got != counts {
		w.Errorf("counts %+v, not %+v", got, counts)
	}
	for d, p := range places {
		waiting := 0
		for _, h := range d.waiting {
			waiting += len(h)
		}
		linked := 0
		for range d.Groups() {
			linked++
		}
		if d.Len() != p.left || linked != p.left || waiting != p.waiting || d.Claimed < p.claimed {
			w.Errorf("%s: %d left, %d linked, %d waiting, %d claimed; %+v follows from the states", d.Name, d.Len(), linked, waiting, d.Claimed, p)
		}
		if w.Domain(d.Name) != d && (p.left > 0 || p.claimed > 0) {
			w.Errorf("%s is not known", d.Name)
		}
	}
}

package queue

import (
	"slices"
	"testing"
	"time"
)

// delayBench is a queue whose domains back off for hours and whose mail is delayed after one.
func delayBench(t *testing.T) *bench {
	return newBench(t, Options{Schedule: Schedule{Retry: []time.Duration{10 * time.Hour}, Expire: 120 * time.Hour, DelayWarning: time.Hour}})
}

// delayNotices claims what is due, all of it for delay notices, in the order of the IDs.
func (b *bench) delayNotices() (claims []*Claim) {
	b.Helper()
	for w := b.try(); w != nil; w = b.try() {
		if w.BackoffReason != (Reason{Code: "connect", Text: "connection refused"}) {
			b.Fatalf("%v was claimed for an attempt: %v", w.Envelope.Recipients, w.BackoffReason)
		}
		claims = append(claims, w)
	}
	slices.SortFunc(claims, func(a, b *Claim) int { return a.Envelope.ID.Compare(b.Envelope.ID) })
	return claims
}

func (b *bench) notify(w *Claim) {
	b.DelayNotified(w, []NewMessage{{Envelope: to(w.Envelope.From), Body: []byte("delayed")}})
	b.sync()
}

func TestDelayedMailIsClaimedForANoticeDuringTheBackoff(t *testing.T) {
	t.Parallel()
	b := delayBench(t)
	probe, id := b.accept("x", to("a@x.test")), b.accept("x", to("b@x.test", "c@x.test"))
	b.fail(b.claim())
	b.advance(30 * time.Minute)
	b.accept("x", to("young@x.test"))
	b.nothing("before it is delayed")
	before := b.show(id)
	b.advance(31 * time.Minute)
	claims := b.delayNotices()
	if len(claims) != 2 || claims[0].Attempts != 1 || claims[1].Attempts != 0 || len(claims[1].Recipients) != 2 {
		t.Fatalf("claimed for notices: %+v", claims)
	}
	if b.Active() != 0 {
		t.Error("a claim for a notice counts as a delivery")
	}
	for _, w := range claims {
		b.notify(w)
	}
	for id, attempts := range map[ID]int{probe: 1, id: 0} {
		m := b.show(id)
		if m.Attempts != attempts || !m.States[0].Delayed || m.State != Queued || m.Waits[0].Backoff.Code != "connect" {
			t.Errorf("once it is told: %+v", m)
		}
	}
	if m := b.show(id); m.NextAttemptAt.Sub(before.NextAttemptAt).Abs() > time.Minute || m.States[1] != (RecipientState{State: Queued, Delayed: true}) {
		t.Errorf("it does not wait as before: %+v", m)
	}
	for range 2 { // the notices
		if w := b.claim(); w.Domain != "example.org" || w.Kind == DelayNotice {
			t.Fatalf("%s was claimed", w.Domain)
		} else {
			b.finish(w, Delivered)
		}
	}
	b.nothing("once they are told")
	b.advance(30 * time.Minute)
	if claims = b.delayNotices(); len(claims) != 1 || claims[0].Envelope.Recipients[0].Address != "young@x.test" {
		t.Errorf("of the young one: %+v", claims)
	}
}

// It is remembered which senders were told, also of recipients that were never tried.
func TestARestartTellsNobodyTwice(t *testing.T) {
	t.Parallel()
	b := delayBench(t)
	for range 3 {
		b.accept("x", to("a@x.test"))
	}
	b.fail(b.claim())
	b.advance(2 * time.Hour)
	for _, w := range b.delayNotices() {
		b.notify(w)
	}
	b.restart()
	b.advance(2 * time.Minute) // past the spread of what is overdue
	failed := false
	for w := b.try(); w != nil; w = b.try() {
		if w.Domain != "x.test" {
			b.finish(w, Delivered)
			continue
		}
		if !w.States[0].Delayed || w.Kind == DelayNotice {
			t.Errorf("after the restart: %+v, waits for %v", w.States, w.BackoffReason)
		}
		o := Outcome{Results: all(w, Queued), DomainBackoff: DomainBackoff{Reason: Reason{Code: "connect", Text: "connection refused"}}}
		o.Results[0].Delayed = true // as deliveries keep it
		b.Finish(w, o)
		failed = true
	}
	if !failed {
		t.Error("nothing was tried")
	}
	b.nothing("of those whose sender knows")
}

func TestANotifiedGroupThatWasNeverTriedLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	b := delayBench(t)
	b.accept("x", to("a@x.test"))
	id := b.accept("x", to("b@x.test"))
	b.fail(b.claim())
	b.advance(2 * time.Hour)
	for _, w := range b.delayNotices() {
		b.notify(w)
	}
	if m := b.show(id); m.Attempts != 0 || !m.States[0].Delayed {
		t.Fatalf("%+v", m.States)
	}
	b.touchedAny(b.Remove(t.Context(), Filter{}))
	b.sync()
	if n := b.keys([]byte("e")); n != 0 {
		t.Errorf("%d keys are left", n)
	}
}

// A message that came in slowly is behind others with higher numbers.
func TestASlowMessageIsToldOf(t *testing.T) {
	t.Parallel()
	b := delayBench(t)
	in, err := b.Begin()
	if err != nil {
		t.Fatal(err)
	}
	b.accept("x", to("fast@x.test"))
	b.fail(b.claim())
	b.advance(time.Minute)
	b.nothing("before it is delayed")
	if err := in.Commit(t.Context(), to("slow@x.test")); err != nil {
		t.Fatal(err)
	}
	b.advance(time.Hour)
	if n := len(b.delayNotices()); n != 2 {
		t.Errorf("%d are told of", n)
	}
}

// A sender to whom no notice is owed is asked about once.
func TestASenderWhoIsOwedNoNoticeIsAskedAboutOnce(t *testing.T) {
	t.Parallel()
	b := delayBench(t)
	null := to("a@x.test")
	null.From = ""
	b.accept("x", to("a@x.test"))
	b.accept("x", null)
	b.fail(b.claim())
	b.advance(2 * time.Hour)
	keys := b.keys([]byte("e"))
	claims := b.delayNotices()
	if len(claims) != 1 {
		t.Fatalf("%d claims for notices, and one message has a sender", len(claims))
	}
	b.DelayNotified(claims[0], nil)
	b.nothing("when it was asked about")
	if n := b.keys([]byte("e")); n != keys {
		t.Errorf("%d keys were written", n-keys)
	}
}

// An attempt at that age tells by itself.
func TestASenderToldByAnAttemptIsNotToldAgain(t *testing.T) {
	t.Parallel()
	b := delayBench(t)
	b.accept("x", to("a@x.test"))
	w := b.claim()
	b.advance(2 * time.Hour)
	b.accept("x", to("b@x.test"))
	delayed := Outcome{Results: all(w, Queued), DomainBackoff: DomainBackoff{Reason: Reason{Code: "connect", Text: "connection refused"}}}
	delayed.Results[0].Delayed = true
	b.Finish(w, delayed)
	b.sync()
	b.nothing("of what is told or young")
	// One whose attempt began in time and ended late has still to be told.
	b.touched(2)(b.Retry(t.Context(), Filter{}))
	w = b.claim()
	if w.Age > time.Hour {
		b.finish(w, Delivered)
		w = b.claim()
	}
	b.advance(2 * time.Hour)
	b.fail(w)
	for _, w := range b.delayNotices() {
		b.notify(w)
	}
	if m := b.show(w.Envelope.ID); !m.States[0].Delayed {
		t.Errorf("%+v", m.States)
	}
}

// When a back-off is over all of it may go: nobody is told before that is known.
func TestNobodyIsToldWhileTheProbeIsDueOrUnderWay(t *testing.T) {
	t.Parallel()
	b := delayBench(t)
	for range 5 {
		b.accept("x", to("a@x.test"))
	}
	b.fail(b.claim())
	b.advance(13 * time.Hour)
	probe := b.claim()
	if probe.Kind == DelayNotice {
		t.Fatal("told although the back-off is over")
	}
	b.nothing("beside the probe")
	b.fail(probe)
	if claims := b.delayNotices(); len(claims) != 5 {
		t.Errorf("%d are told during the next back-off", len(claims))
	}
}

func TestManyNoticesStarveNoOtherDomain(t *testing.T) {
	t.Parallel()
	b := delayBench(t)
	for range 200 {
		b.accept("x", to("a@x.test"))
	}
	b.fail(b.claim())
	b.advance(2 * time.Hour)
	if w := b.claim(); w.Kind != DelayNotice {
		t.Fatalf("%s was claimed for an attempt", w.Domain)
	}
	b.accept("x", to("a@fine.test"))
	if one, two := b.claim(), b.claim(); one.Domain != "fine.test" && two.Domain != "fine.test" {
		t.Errorf("%s and %s were claimed", one.Domain, two.Domain)
	}
	b.delayNotices()
	if n := b.scheduler.Domain("x.test").Claimed; n != 20 {
		t.Errorf("%d are told of at a time", n)
	}
}

func TestTheAgeForWarningsMayChange(t *testing.T) {
	t.Parallel()
	b := delayBench(t)
	b.accept("x", to("a@x.test"))
	b.accept("x", to("b@x.test"))
	b.fail(b.claim())
	warn := func(age time.Duration) {
		s := b.o.Schedule
		s.DelayWarning = age
		b.SetSchedule(s)
	}
	warn(0)
	b.advance(2 * time.Hour)
	b.nothing("where nobody is told")
	warn(time.Hour)
	b.Release(b.claim()) // both are delayed
	warn(3 * time.Hour)
	b.nothing("of what is not delayed any more")
	b.advance(time.Hour + time.Minute)
	if n := len(b.delayNotices()); n != 2 {
		t.Errorf("%d are told", n)
	}
}

// Nothing but the age wakes those who wait for a claim.
func TestAClaimWaitsForTheAge(t *testing.T) {
	t.Parallel()
	b := delayBench(t)
	id := b.accept("x", to("a@x.test"))
	b.fail(b.claim())
	c, wakeAt := b.scheduler.Next(b.clock.now())
	if want := b.byID[id].ReceivedAt.Add(time.Hour); c.Group != nil || wakeAt != want {
		t.Errorf("%v, wakes at %d, want %d", c.Group, wakeAt, want)
	}
}

// Mail that a domain's demands do not bind does not wait for them, so there is no
// delay to be told of; a host that is down is another matter.
func TestDelayedMailThatNothingBindsIsTried(t *testing.T) {
	t.Parallel()
	b := delayBench(t)
	optional := to("free@x.test")
	optional.TLSOptional = true
	b.accept("x", to("a@x.test"))
	b.accept("x", optional)
	free, bound := b.claim(), b.claim()
	if !free.Envelope.TLSOptional {
		free, bound = bound, free
	}
	b.Release(free)
	b.Finish(bound, Outcome{Results: all(bound, Queued), DomainBackoff: DomainBackoff{Reason: Reason{Code: "tls-cert", Text: "self-signed"}, PolicyOnly: true}})
	b.advance(2 * time.Hour)
	free, told := b.claim(), b.claim()
	if free.Kind == DelayNotice || told.BackoffReason != (Reason{Code: "tls-cert", Text: "self-signed"}) || !free.Envelope.TLSOptional {
		t.Fatalf("%v and %v", free.BackoffReason, told.BackoffReason)
	}
	b.notify(told)
	b.fail(free)
	w := b.claim()
	for ; w.Domain != "x.test"; w = b.claim() { // the notice
		b.finish(w, Delivered)
	}
	if !w.Envelope.TLSOptional || w.BackoffReason != (Reason{Code: "connect", Text: "connection refused"}) {
		t.Errorf("%+v waits for %v", w.Envelope, w.BackoffReason)
	}
}

// What has expired is given up, and no notice of a delay is sent.
func TestWhatIsExpiredIsTried(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{Schedule: Schedule{Retry: []time.Duration{10 * time.Hour}, Expire: time.Hour, DelayWarning: time.Hour}})
	b.accept("x", to("a@x.test"))
	b.accept("x", to("b@x.test"))
	b.fail(b.claim())
	b.advance(61 * time.Minute)
	if w := b.claim(); !w.Expired || w.Kind == DelayNotice {
		t.Errorf("expired %t, waits for %v", w.Expired, w.BackoffReason)
	}
}

func TestAnImportTellsNobodyTwice(t *testing.T) {
	t.Parallel()
	b := delayBench(t)
	b.accept("x", to("a@x.test"))
	id := b.accept("x", to("b@x.test"))
	b.fail(b.claim())
	b.advance(2 * time.Hour)
	for _, w := range b.delayNotices() {
		b.notify(w)
	}
	file := b.export()
	other := delayBench(t)
	other.step(2 * time.Hour)
	other.import_(file, "")
	if m := other.show(id); m.States[0] != (RecipientState{State: Queued, Delayed: true}) {
		t.Errorf("%+v", m.States)
	}
	if g := &other.byID[id].Groups[0]; !g.DelayNotified || g.Attempts != 0 {
		t.Errorf("told %t, %d attempts", g.DelayNotified, g.Attempts)
	}
}

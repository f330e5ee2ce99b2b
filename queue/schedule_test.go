package queue

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/queue/scheduler"
)

func TestRecipientsAreSplitByDomainAndAtAHundred(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	b.accept("x", to(append(append(numbered("x.test", 250), numbered("y.test", 3)...), "late@x.test")...))
	sizes := make(map[string][]int)
	seen := make(map[int]bool)
	for w := b.try(); w != nil; w = b.try() {
		sizes[w.Domain] = append(sizes[w.Domain], len(w.Recipients))
		if len(w.Envelope.Recipients) != len(w.Recipients) {
			t.Errorf("%d recipients are held for an attempt with %d", len(w.Envelope.Recipients), len(w.Recipients))
		}
		for i, r := range w.Recipients {
			if seen[r] || w.Envelope.Recipients[i].Domain != w.Domain {
				t.Errorf("recipient %d twice or in a wrong group", r)
			}
			seen[r] = true
		}
		b.finish(w, Delivered)
	}
	slices.Sort(sizes["x.test"])
	if !slices.Equal(sizes["x.test"], []int{51, 100, 100}) || !slices.Equal(sizes["y.test"], []int{3}) {
		t.Errorf("groups %v", sizes)
	}
	if b.Counts() != (Counts{}) {
		t.Errorf("%+v", b.Counts())
	}
}

func TestEachRecipientKeepsItsOwnResultOverARestart(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	id := b.accept("x", to("ok@x.test", "later@x.test", "never@x.test", "other@y.test"))
	w := b.claim()
	if w.Domain != "x.test" {
		b.Release(w)
		w = b.claim()
	}
	b.Finish(w, Outcome{Results: []RecipientState{
		{State: Delivered, LastReply: "250 ok", TLS: "TLS 1.3", Host: "mx.x.test"},
		{State: Queued, LastReply: "451 later", LastError: "greylisted", ReasonCode: "greylist", Delayed: true},
		{State: Bounced, LastReply: "550 no"},
	}})
	b.sync()
	check := func(when string) {
		t.Helper()
		m := b.show(id)
		var states []State
		for _, s := range m.States {
			states = append(states, s.State)
		}
		if !slices.Equal(states, []State{Delivered, Queued, Bounced, Queued}) || m.States[1].Attempts != 1 || m.States[3].Attempts != 0 ||
			m.States[0].TLS != "TLS 1.3" || m.States[1].LastReply != "451 later" || !m.States[1].Delayed || m.Attempts != 1 {
			t.Errorf("%s: %+v", when, m.States)
		}
		if c := b.Counts(); c != (Counts{Messages: 1, Recipients: 2}) {
			t.Errorf("%s: %+v", when, c)
		}
	}
	check("before the restart")
	b.restart()
	check("after the restart")
	b.touched(1)(b.Retry(t.Context(), Filter{Domain: "x.test"}))
	for range 2 {
		w := b.claim()
		if w.Domain == "x.test" && (!slices.Equal(w.Recipients, []int{1}) || w.Attempts != 1 || w.States[0].LastError != "greylisted") {
			t.Errorf("claimed %v after %d attempts, %+v", w.Recipients, w.Attempts, w.States)
		}
		b.finish(w, Delivered)
	}
	if b.Counts() != (Counts{}) || b.keys(store.PrefixMessage)+b.keys(store.PrefixBody) != 0 {
		t.Errorf("%+v, %d keys are left", b.Counts(), b.keys(store.PrefixMessage))
	}
}

func TestDomainsTakeTurns(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	for i := range 30 {
		b.accept("x", to(fmt.Sprintf("u%d@busy.test", i)))
	}
	b.accept("x", to("a@one.test"))
	b.accept("x", to("a@two.test"))
	var order []string
	for range 5 {
		order = append(order, b.claim().Domain)
	}
	if !slices.Contains(order, "one.test") || !slices.Contains(order, "two.test") {
		t.Errorf("the first five claims were %v", order)
	}
}

func TestADomainHasNoMoreUnitsActiveThanItsLimit(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{DomainLimit: 3})
	for range 5 {
		b.accept("x", to("a@x.test"))
	}
	w := []*Claim{b.claim(), b.claim(), b.claim()}
	b.nothing("above the limit")
	b.finish(w[0], Delivered)
	b.claim()
	b.nothing("above the limit again")
}

func TestRetriesFollowTheScheduleWithJitter(t *testing.T) {
	t.Parallel()
	waits := []time.Duration{time.Minute, 10 * time.Minute}
	b := newBench(t, Options{Schedule: Schedule{Retry: waits}})
	b.accept("x", to("a@x.test"))
	for attempt, wait := range []time.Duration{waits[0], waits[1], waits[1]} {
		w := b.claim()
		if w.Attempts != attempt {
			t.Errorf("%d attempts before, want %d", w.Attempts, attempt)
		}
		b.finish(w, Queued)
		b.advance(wait * 79 / 100)
		b.nothing("before 80 % of the wait")
		b.advance(wait * 42 / 100)
	}
	s := scheduler.New(scheduler.Options{Schedule: Schedule{Retry: waits}})
	low, high := time.Hour, time.Duration(0)
	for range 10_000 {
		d := s.Wait(1)
		low, high = min(low, d), max(high, d)
	}
	if low < 48*time.Second || low > 49*time.Second || high > 72*time.Second || high < 71*time.Second {
		t.Errorf("waits from %v to %v", low, high)
	}
}

func TestAWaitAskedForReplacesThatOfTheSchedule(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	b.accept("x", to("a@x.test"))
	w := b.claim()
	b.Finish(w, Outcome{Results: all(w, Queued), RetryAfter: time.Hour})
	b.advance(59 * time.Minute)
	b.nothing("before the hour")
	b.advance(2 * time.Minute)
	b.claim()
}

func TestAReleasedClaimIsDueAsBefore(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	b.accept("x", to("a@x.test"))
	b.Release(b.claim())
	if w := b.claim(); w.Attempts != 0 {
		t.Errorf("%d attempts", w.Attempts)
	}
}

func TestADomainThatFailsRestsAndOneProbeGoesFirst(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{Schedule: Schedule{Retry: []time.Duration{time.Minute, 10 * time.Minute, time.Hour}}})
	for range 10 {
		b.accept("x", to("a@x.test"))
	}
	b.accept("x", to("a@fine.test"))
	var first []*Claim
	for range 5 {
		if w := b.claim(); w.Domain == "x.test" {
			first = append(first, w)
		} else {
			b.finish(w, Delivered)
		}
	}
	for _, w := range first { // all of one moment: one failure of the domain, not several
		b.fail(w)
	}
	if _, step := b.scheduler.Domain("x.test").Backoff(); step != 1 {
		t.Errorf("the domain is at step %d", step)
	}
	b.advance(47 * time.Second)
	b.nothing("during the back-off")
	if w := b.ClaimFor("x.test"); w != nil {
		t.Error("ClaimFor passed the back-off over")
	}
	b.advance(26 * time.Second)
	probe := b.claim()
	b.nothing("beside the probe")
	b.fail(probe)
	if _, step := b.scheduler.Domain("x.test").Backoff(); step != 2 {
		t.Errorf("the domain is at step %d after the probe", step)
	}
	m := b.show(b.ids(Filter{})[9])
	if m.Waits[0].Backoff != (Reason{Code: "connect", Text: "connection refused"}) || m.Attempts != 0 || m.NextAttemptAt.Before(b.o.Now()) {
		t.Errorf("a message that waits with its domain: %+v", m)
	}
	b.touched(10)(b.Retry(t.Context(), Filter{Domain: "x.test"}))
	probe = b.claim()
	b.nothing("beside the probe of Retry")
	b.finish(probe, Delivered)
	b.claim()
	b.claim()
	b.nothing("beyond the slow start")
}

func TestARestEndsNoLaterThanTheNextAttemptThatWaits(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{Schedule: Schedule{Retry: []time.Duration{10 * time.Hour}}})
	b.accept("1", to("a@x.test"))
	b.accept("2", to("a@x.test"))
	w := b.claim()
	b.Finish(w, Outcome{Results: all(w, Queued), RetryAfter: 5 * time.Minute})
	b.fail(b.claim())
	b.advance(6 * time.Minute)
	b.claim()
}

func TestWhatIsExpiredDoesNotWaitForTheBackoff(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{Schedule: Schedule{Retry: []time.Duration{10 * time.Hour}, Expire: time.Hour}})
	b.accept("old", to("a@x.test"))
	b.SetPaused(true)
	b.advance(2 * time.Hour)
	b.accept("young", to("a@x.test"))
	b.accept("young", to("a@x.test"))
	b.SetPaused(false)
	old, young := b.claim(), b.claim()
	if !old.Expired || young.Expired {
		t.Fatalf("claimed ages %v and %v", old.Age, young.Age)
	}
	b.Release(old)
	b.fail(young)
	old = b.claim()
	if !old.Expired || old.Age < 2*time.Hour {
		t.Fatalf("claimed one of age %v", old.Age)
	}
	// Should it not be given up, it is tried again by schedule and not at once.
	b.fail(old)
	b.nothing("right after it failed")
}

func TestAMessageIsDueAtItsExpiry(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{Schedule: Schedule{Retry: []time.Duration{10 * time.Hour}, Expire: time.Hour}})
	b.accept("x", to("a@x.test"))
	b.finish(b.claim(), Queued)
	b.advance(59 * time.Minute)
	b.nothing("before the expiry")
	b.advance(61 * time.Second)
	if w := b.claim(); !w.Expired {
		t.Error("not marked as expired")
	}
}

func TestATLSReportExpiresAfterADay(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{Schedule: Schedule{Retry: []time.Duration{20 * time.Hour}, Expire: 120 * time.Hour}})
	report := to("a@x.test")
	report.Kind = Report
	if err := b.Add([]NewMessage{{Envelope: report, Body: []byte("report")}}, nil); err != nil {
		t.Fatal(err)
	}
	b.finish(b.claim(), Queued)
	b.restart()
	b.advance(24*time.Hour + time.Minute)
	if w := b.claim(); !w.Expired {
		t.Error("not marked as expired")
	}
}

func TestNoticesWaitBehindMailAndAreThereWhenTheyAreClaimed(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	b.accept("1", to("a@x.test"))
	w := b.claim()
	b.accept("2", to("a@x.test"))
	notice := to("sender@x.test")
	notice.Kind = Notice
	also := []byte("t/counted")
	b.Finish(w, Outcome{
		Results: all(w, Bounced),
		Notices: []NewMessage{{Envelope: notice, Body: []byte("sorry")}},
		Also:    func(batch *store.Batch) { batch.Set(also, []byte("1")) },
	})
	if w := b.claim(); w.Envelope.Kind != Mail {
		t.Error("the notice went before mail")
	}
	w = b.claim()
	body, err := io.ReadAll(w.Body())
	if w.Envelope.Kind != Notice || string(body) != "sorry" || err != nil {
		t.Errorf("%+v, %q, %v", w.Envelope, body, err)
	}
	if v, _ := store.Get(b.st, also); string(v) != "1" {
		t.Error("the changes of others did not ride along")
	}
	if b.logs.has("cannot be read") {
		t.Errorf("logged: %s", b.logs.buf.String())
	}
}

// A group must not be claimed on the state of before its last attempt, or what
// was delivered is delivered again.
func TestAGroupIsNotClaimableBeforeItsResultsAreWritten(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	b.accept("x", to("done@x.test", "open@x.test"))
	w := b.claim()
	entered, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	var hold store.Batch
	hold.Update([]byte("t/hold"), func([]byte) []byte {
		once.Do(func() { close(entered) })
		<-leave
		return nil
	})
	b.st.Submit(&hold, nil)
	<-entered
	b.Finish(w, Outcome{Results: []RecipientState{{State: Delivered}, {State: Queued}}, RetryAfter: time.Nanosecond})
	b.touched0(b.Queue.byID[w.Envelope.ID])
	if w := b.ClaimFor("x.test"); w != nil {
		t.Errorf("claimed %v before the commit", w.Recipients)
	}
	close(leave)
	if w := b.claim(); !slices.Equal(w.Recipients, []int{1}) || w.Attempts != 1 {
		t.Errorf("claimed %v", w.Recipients)
	}
}

// touched0 is what Retry does to one message.
func (b *bench) touched0(e *scheduler.Entry) {
	b.Queue.mu.Lock()
	defer b.Queue.mu.Unlock()
	if err := b.scheduler.RetryNow(e, b.clock.now()); err != nil {
		b.Error(err)
	}
}

func TestAPausedQueueClaimsNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{Paused: true})
	b.accept("x", to("a@x.test"))
	b.nothing("while paused")
	if w := b.ClaimFor("x.test"); w != nil || !b.Paused() {
		t.Error("ClaimFor claimed while paused")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	claimed := make(chan error)
	go func() {
		_, err := b.Claim(ctx)
		claimed <- err
	}()
	b.SetPaused(false)
	if err := <-claimed; err != nil {
		t.Error(err)
	}
}

func TestEveryWaitingClaimIsWoken(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{Paused: true})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := b.Claim(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	for i := range 8 {
		b.accept("x", to(fmt.Sprintf("a@%d.test", i)))
	}
	b.SetPaused(false) // one signal for all of them
	wg.Wait()
}

func TestClaimWaitsForWhatBecomesDueAndEndsWithItsContext(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{Schedule: Schedule{Retry: []time.Duration{20 * time.Millisecond}}})
	b.accept("x", to("a@x.test"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for attempt := range 3 {
		w, err := b.Claim(ctx)
		if err != nil || w.Attempts != attempt {
			t.Fatalf("%+v, %v", w, err)
		}
		b.finish(w, Queued)
	}
	stop := errors.New("stop")
	ended, end := context.WithCancelCause(t.Context())
	end(stop)
	b.advance(time.Hour)
	if w, err := b.Claim(ended); !errors.Is(err, stop) {
		t.Errorf("claimed %v, %v although something is due", w, err)
	}
}

func TestAcceptingClaimingAndFinishingAtOnceLosesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{DomainLimit: 8, Schedule: Schedule{Retry: []time.Duration{time.Millisecond}}})
	const writers, each = 16, 25
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var mu sync.Mutex
	delivered := make(map[string]int)
	var left atomic.Int64
	left.Store(writers * each * 2)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for n := 0; ; n++ {
				w, err := b.Claim(ctx)
				if err != nil {
					return
				}
				results := all(w, Queued)
				for i, r := range w.Envelope.Recipients {
					if (n+i)%3 > 0 {
						results[i].State = Delivered
						mu.Lock()
						delivered[w.Envelope.ID.String()+r.Address]++
						mu.Unlock()
						if left.Add(-1) == 0 {
							cancel()
						}
					}
				}
				b.Finish(w, Outcome{Results: results})
			}
		})
	}
	for i := range writers {
		wg.Go(func() {
			for range each {
				in, err := b.Begin()
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = in.Write(bytes.Repeat([]byte("x"), 3000))
				if err := in.Commit(context.Background(), to("a@x.test", fmt.Sprintf("b@%d.test", i%4))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for ctx.Err() == nil {
			_ = b.List(ctx, Filter{}, func(m Message) bool { return len(m.States) == 2 })
			b.Summary()
		}
	})
	wg.Wait()
	b.sync()
	for k, n := range delivered {
		if n != 1 {
			t.Errorf("%s was delivered %d times", k, n)
		}
	}
	if len(delivered) != writers*each*2 || b.Counts() != (Counts{}) {
		t.Errorf("%d recipients delivered of %d, %+v left", len(delivered), writers*each*2, b.Counts())
	}
}

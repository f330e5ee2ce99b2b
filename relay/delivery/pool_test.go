package delivery

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stsrelay/stsrelay/relay/smtpclient"
)

func anySession(*session) bool { return true }

// take gets a session of a host, opened by hand where there is none.
func take(t *testing.T, p *pool, key string, limit int) (s *session, opened bool) {
	t.Helper()
	s, err := p.get(t.Context(), key, limitOf(limit), anySession)
	if err != nil {
		t.Fatal(err)
	}
	if s != nil {
		return s, false
	}
	s = &session{key: key, client: new(smtpclient.Client)}
	p.add(s)
	return s, true
}

// free says how many sessions a host may open now before someone has to wait.
func free(p *pool, key string, limit int) int {
	return p.allowed(key, limitOf(limit)) - p.host(key).total()
}

func TestAHostGetsMoreSessionsWhileItTakesThem(t *testing.T) {
	p := newPool()
	if n := free(p, "mx", 10); n != firstSessions {
		t.Fatalf("%d sessions at first", n)
	}
	s, _ := take(t, p, "mx", 10)
	for range 5 {
		p.onSuccess("mx", time.Millisecond)
	}
	if n := free(p, "mx", 10); n != firstSessions+5-1 {
		t.Errorf("%d more sessions after five messages", n)
	}
	for range 50 {
		p.onSuccess("mx", time.Millisecond)
	}
	if n := free(p, "mx", 10); n != 10-1 {
		t.Errorf("%d more sessions: the limit is 10", n)
	}
	p.onOverload("mx") // with one session open
	if n := free(p, "mx", 10); n != 0 {
		t.Errorf("%d more sessions after a 421", n)
	}
	p.put(s, time.Now())
	for range 3 {
		p.onSuccess("mx", time.Millisecond)
	}
	if h := p.host("mx"); h.window < 2 || h.window > 3 {
		t.Errorf("the window is %.1f after a 421 and three messages", h.window)
	}
}

func TestASessionIsWaitedForWhereThatIsShorterThanOpeningOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool()
		a, _ := take(t, p, "mx", 10)
		b, _ := take(t, p, "mx", 10)
		for range 20 {
			p.onOpened("mx", 100*time.Millisecond)
			p.onSuccess("mx", 10*time.Millisecond)
		}
		got := make(chan bool)
		go func() { _, opened := take(t, p, "mx", 10); got <- opened }()
		synctest.Wait()
		select {
		case <-got:
			t.Fatal("it did not wait")
		default:
		}
		p.put(a, time.Now())
		if opened := <-got; opened {
			t.Error("it opened one although one was free")
		}
		// Now messages take longer than a session takes to open.
		for range 50 {
			p.onSuccess("mx", 2*time.Second)
		}
		if _, opened := take(t, p, "mx", 10); !opened {
			t.Error("it waited for a slow host")
		}
		p.put(b, time.Now())
	})
}

func TestAFewMessagesAreNotWorthAnotherSession(t *testing.T) {
	for _, tt := range []struct {
		name                   string
		message, open, pressed time.Duration
		waiting, carried       int
		opens                  bool
	}{
		{"few, and soon through", 20 * time.Millisecond, time.Millisecond, shortly, 2*fewWaiting - 1, 2*manyCarried - 1, false},
		{"more than a few", 20 * time.Millisecond, time.Millisecond, 0, 2 * fewWaiting, 0, true},
		{"few that take long", 200 * time.Millisecond, time.Millisecond, 0, fewWaiting, 0, true},
		{"many, and sooner than another session", 20 * time.Millisecond, time.Second, 0, 2 * fewWaiting, 0, false},
		{"many all the time", 20 * time.Millisecond, time.Second, 3 * time.Second, 2 * fewWaiting, 0, true},
		{"few at a time, again and again", 20 * time.Millisecond, time.Millisecond, 0, 3, 2 * manyCarried, true},
	} {
		h := hostSessions{window: 10, open: tt.open, message: tt.message, waitingSince: time.Unix(1e9, 0), sessions: []*session{{busy: true}, {busy: true}}, carried: tt.carried,
			waiting: make([]chan error, tt.waiting)}
		if h.preferWaiting(time.Unix(1e9, 0).Add(tt.pressed)) == tt.opens {
			t.Errorf("%s: another session is opened: %v", tt.name, !tt.opens)
		}
	}
}

// A host far away that has much mail gets half as many sessions more at a time: one after
// the other, it would have fifty sessions after half a minute only.
func TestSessionsToAHostWithMuchMailAreOpenedTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool()
		p.host("mx").window = 50
		for range 8 {
			take(t, p, "mx", 50)
		}
		p.onSuccess("mx", 100*time.Millisecond)
		p.onOpened("mx", 250*time.Millisecond)
		ctx, cancel := context.WithCancel(t.Context())
		opened := 0
		more := func() {
			go func() {
				if s, err := p.get(ctx, "mx", limitOf(50), anySession); s == nil && err == nil {
					opened++
				}
			}()
			synctest.Wait()
		}
		more()
		if opened != 0 {
			t.Fatal("nobody waits yet, and a session was opened")
		}
		time.Sleep(shortly + time.Millisecond)
		for range 20 {
			more()
		}
		if opened != 4 {
			t.Errorf("%d sessions are opened beside eight, want 4", opened)
		}
		for range opened {
			p.add(&session{key: "mx", client: new(smtpclient.Client), busy: true})
		}
		if more(); opened != 4 {
			t.Error("another session is opened at once, and nobody has waited again")
		}
		time.Sleep(shortly + time.Millisecond)
		for range 20 {
			more()
		}
		if opened != 4+6 {
			t.Errorf("%d sessions were opened, want 6 beside twelve", opened-4)
		}
		cancel()
		synctest.Wait()
	})
}

func TestASessionThatIsBeingOpenedIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool()
		take(t, p, "mx", 10)
		p.onOpened("mx", 100*time.Millisecond)
		p.onSuccess("mx", 10*time.Millisecond)
		if s, err := p.get(t.Context(), "mx", limitOf(10), anySession); s != nil || err != nil {
			t.Fatal("the second session is not opened:", s, err)
		}
		got := make(chan bool)
		go func() { _, opened := take(t, p, "mx", 10); got <- opened }()
		synctest.Wait()
		select {
		case <-got:
			t.Fatal("a third one was opened although the second is on its way")
		default:
		}
		second := &session{key: "mx", client: new(smtpclient.Client)}
		p.add(second)
		p.put(second, time.Now())
		if opened := <-got; opened {
			t.Error("it opened one although the second is free")
		}
	})
}

func TestTooManyWhoWaitAreSentAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool()
		s, _ := take(t, p, "mx", 1)
		ctx, cancel := context.WithCancel(t.Context())
		for range maxWaiting {
			go func() { _, _ = p.get(ctx, "mx", limitOf(1), anySession) }()
		}
		synctest.Wait()
		_, err := p.get(ctx, "mx", limitOf(1), anySession)
		if busy, ok := errors.AsType[*errBusy](err); !ok || busy.wait < minBusy {
			t.Errorf("the error is %v", err)
		}
		cancel()
		synctest.Wait()
		if n := len(p.host("mx").waiting); n != 0 {
			t.Errorf("%d still wait", n)
		}
		p.put(s, time.Now())
		if _, opened := take(t, p, "mx", 1); opened {
			t.Error("the free session was lost")
		}
	})
}

// Whether a session fits takes as long as its certificates take, which a stranger has made:
// nobody else waits for that.
func TestThePoolGoesOnWhileASessionIsLookedAt(t *testing.T) {
	p := newPool()
	for range 2 {
		s, _ := take(t, p, "mx", 10)
		defer p.put(s, time.Now())
	}
	for _, s := range p.host("mx").sessions {
		s.busy = false
	}
	looked := 0
	s, err := p.get(t.Context(), "mx", limitOf(10), func(s *session) bool {
		if looked++; !p.mu.TryLock() {
			t.Error("the pool is locked")
			return true
		}
		defer p.mu.Unlock()
		if !s.busy {
			t.Error("another attempt may take it meanwhile")
		}
		return looked == 2
	})
	if err != nil || s == nil || looked != 2 {
		t.Fatalf("%v, %v, looked at %d", s, err, looked)
	}
	if other, opened := take(t, p, "mx", 10); opened || other == s {
		t.Error("the session that did not fit was lost")
	}
}

// A host that is silent costs no worker of another domain.
func TestNobodyWaitsLongForAHostThatIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool()
		for range firstSessions {
			if s, err := p.get(t.Context(), "mx", limitOf(10), anySession); s != nil || err != nil {
				t.Fatal(s, err)
			}
		}
		begun := time.Now()
		_, err := p.get(t.Context(), "mx", limitOf(10), anySession)
		if busy, ok := errors.AsType[*errBusy](err); !ok || time.Since(begun) != patience || busy.wait != patience {
			t.Errorf("after %s: %v", time.Since(begun), err)
		}
		time.Sleep(30 * time.Second)
		_, err = p.get(t.Context(), "mx", limitOf(10), anySession)
		if busy, ok := errors.AsType[*errBusy](err); !ok || busy.wait < patience {
			t.Errorf("half a minute later: %v", err)
		}
		sent := make(chan error)
		go func() { _, err := p.get(t.Context(), "mx", limitOf(10), anySession); sent <- err }()
		synctest.Wait()
		for range firstSessions {
			p.onOverload("mx")
			p.cancel("mx", time.Now(), true)
			synctest.Wait()
		}
		if _, ok := errors.AsType[*errBusy](<-sent); !ok {
			t.Error("who waits was not sent away")
		}
	})
}

func TestWhoeverWaitsForASlowHostIsPatient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool()
		s, _ := take(t, p, "mx", 1)
		p.onOpened("mx", time.Second)
		p.onSuccess("mx", 4*time.Second)
		got := make(chan error)
		go func() { _, err := p.get(t.Context(), "mx", limitOf(1), anySession); got <- err }()
		time.Sleep(19 * time.Second)
		p.put(s, time.Now())
		if err := <-got; err != nil {
			t.Error(err)
		}
	})
}

func TestAHostIsForgottenAfterAWhile(t *testing.T) {
	p := newPool()
	now := time.Unix(1e9, 0)
	if s, err := p.get(t.Context(), "mx", limitOf(10), anySession); s != nil || err != nil {
		t.Fatal(s, err)
	}
	p.cancel("mx", now, false)
	p.closeIdle(now)
	if len(p.hosts) != 1 {
		t.Error("forgotten at once")
	}
	p.closeIdle(now.Add(hostMemory + time.Second))
	if len(p.hosts) != 0 {
		t.Error("never forgotten")
	}
}

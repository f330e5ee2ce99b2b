package queue

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
)

// applyCanceled lets the queue end now what can be ended of what was canceled.
func (b *bench) applyCanceled() {
	b.Helper()
	b.sync() // the claims whose results were submitted are over
	b.applyReady(context.Background())
	b.sync()
}

// notices makes a notice of each message and keeps what it was made of.
type notices struct {
	mu   sync.Mutex
	made []Message
}

func (n *notices) make(m Message) *NewMessage {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.made = append(n.made, m)
	return &NewMessage{Envelope: to("sender@n.test"), Body: []byte("notice")}
}

// about are the recipients that the notices name, in their order.
func (n *notices) about() (addresses []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, m := range n.made {
		for i, r := range m.Recipients {
			if m.States[i].State == Queued {
				addresses = append(addresses, r.Address)
			}
		}
	}
	return addresses
}

// lines are the messages and recipients that the notices name, sorted.
func (n *notices) lines() (lines []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, m := range n.made {
		for i, r := range m.Recipients {
			if m.States[i].State == Queued {
				lines = append(lines, m.ID.String()+" "+r.Address)
			}
		}
	}
	slices.Sort(lines)
	return lines
}

func none(Message) *NewMessage { return nil }

func TestABounceReplacesTheMessageByItsNotice(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	id := b.accept("the message", to("a@x.test", "b@x.test"))
	w := b.claim()
	b.Finish(w, Outcome{Results: []RecipientState{{State: Delivered}, {State: Queued, LastError: "put off"}}})
	b.sync()
	b.touched(1)(b.Bounce(t.Context(), Filter{}, "", func(m Message) *NewMessage {
		body, err := b.Open(m.ID) // as the notice's content does
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(body)
		if m.States[0].State != Delivered || m.States[1].LastError != "put off" || m.Attempts != 1 {
			t.Errorf("the notice was made of %+v", m.States)
		}
		return &NewMessage{Envelope: to("sender@n.test"), Body: append([]byte("about "), text...)}
	}))
	b.crash()
	if got := b.ids(Filter{}); slices.Contains(got, id) || len(got) != 1 {
		t.Errorf("queue %v", got)
	}
	body, _ := io.ReadAll(b.claim().Body())
	if string(body) != "about the message" {
		t.Errorf("the notice says %q", body)
	}
}

func TestAMessageThatIsBeingDeliveredIsBouncedWhenTheAttemptHasEnded(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		end  func(*bench, *Claim)
		want []string // of whom the notice tells
	}{
		{"put off", func(b *bench, w *Claim) { b.finish(w, Queued) }, []string{"a@x.test", "b@x.test", "c@y.test"}},
		{"the domain failed", (*bench).fail, []string{"a@x.test", "b@x.test", "c@y.test"}},
		{"given back", func(b *bench, w *Claim) { b.Release(w) }, []string{"a@x.test", "b@x.test", "c@y.test"}},
		{"postponed", func(b *bench, w *Claim) { b.Postpone(w, time.Hour) }, []string{"a@x.test", "b@x.test", "c@y.test"}},
		{"delivered in part", func(b *bench, w *Claim) {
			b.Finish(w, Outcome{Results: []RecipientState{{State: Delivered}, {State: Queued}}})
		}, []string{"b@x.test", "c@y.test"}},
		{"delivered there", func(b *bench, w *Claim) { b.finish(w, Delivered) }, []string{"c@y.test"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := newBench(t, Options{})
			id := b.accept("x", to("a@x.test", "b@x.test", "c@y.test"))
			w := b.claim()
			var n notices
			b.touched(1)(b.Bounce(t.Context(), Filter{IDs: []ID{id}}, "gone", n.make))
			if !b.logs.has("when the attempt under way has ended") || !b.logs.has(id.String()) {
				t.Error("the log does not say that it waits")
			}
			b.nothing("of what is to be given up")
			b.touched(1)(b.Retry(t.Context(), Filter{}))
			b.nothing("after a retry")
			b.applyCanceled()
			if m := b.show(id); m.State != Active || len(n.made) != 0 {
				t.Errorf("during the attempt it is %s, and %d notices were made", m.State, len(n.made))
			}
			row.end(b, w)
			b.applyCanceled()
			if got := n.about(); !slices.Equal(got, row.want) || len(n.made) != 1 {
				t.Errorf("the notice names %v, want %v", got, row.want)
			}
			b.crash()
			if _, err := b.Show(id); !errors.Is(err, ErrNotFound) || b.Counts() != (Counts{Messages: 1, Recipients: 1}) {
				t.Errorf("%v, %+v", err, b.Counts())
			}
			if w := b.claim(); w.Domain != "n.test" {
				t.Errorf("%s was claimed", w.Domain)
			}
			if n := b.keys(store.PrefixMessage); n != 1 {
				t.Errorf("%d keys", n)
			}
		})
	}
}

// The queue does it by itself: nobody calls for it.
func TestTheEndOfAnAttemptWakesTheBounce(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	b.accept("x", to("a@x.test"))
	w := b.claim()
	made := make(chan string, 1)
	b.touched(1)(b.Bounce(t.Context(), Filter{}, "", func(m Message) *NewMessage {
		made <- m.Recipients[0].Address
		return nil
	}))
	b.Release(w)
	select {
	case <-made:
	case <-time.After(time.Minute):
		t.Fatal("it was not bounced")
	}
}

func TestNothingIsBouncedThatTheAttemptHasEnded(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		end  func(*bench, *Claim)
	}{
		{"delivered", func(b *bench, w *Claim) { b.finish(w, Delivered) }},
		{"removed, then put off", func(b *bench, w *Claim) {
			b.touched(1)(b.Remove(context.Background(), Filter{}))
			b.finish(w, Queued)
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := newBench(t, Options{})
			b.accept("x", to("a@x.test"))
			w := b.claim()
			var n notices
			b.touched(1)(b.Bounce(t.Context(), Filter{}, "", n.make))
			row.end(b, w)
			b.applyCanceled()
			if len(n.made) != 0 || b.Counts() != (Counts{}) || len(b.cancellations.list) != 0 || b.keys(store.PrefixMessage) != 0 {
				t.Errorf("%d notices, %+v, %d on the list", len(n.made), b.Counts(), len(b.cancellations.list))
			}
		})
	}
}

func TestAMessageThatCannotBeReadIsNotBouncedButHeld(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name string
		end  func(*bench, *Claim)
	}{
		{"when it is claimed", func(b *bench, w *Claim) {
			if w.Load() {
				b.Error("it was read")
			}
		}},
		{"when it is to be bounced", func(b *bench, w *Claim) {
			b.Release(w)
			b.applyCanceled()
			b.nothing("whole") // it is claimed, and cannot be read
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := newBench(t, Options{})
			id := b.accept("x", to("a@x.test"))
			w, _ := b.tryClaim()
			b.touched(1)(b.Bounce(t.Context(), Filter{}, "", none))
			b.spoil(id)
			row.end(b, w)
			b.applyCanceled()
			if b.Counts().Held != 1 || !b.logs.has("cannot be removed or bounced") || len(b.cancellations.list) != 0 {
				t.Errorf("%+v, %d on the list", b.Counts(), len(b.cancellations.list))
			}
		})
	}
}

func TestAStartForgetsWhatWasToBeBouncedAfterItsAttempt(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	id := b.accept("x", to("a@x.test"))
	b.claim()
	b.touched(1)(b.Bounce(t.Context(), Filter{}, "", none))
	b.crash()
	b.advance(2 * time.Minute)
	if m := b.show(id); m.State != Queued {
		t.Errorf("it is %s", m.State)
	}
	b.claim()
}

func TestTheLastWordOfTheOperatorCounts(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	b.accept("x", to("a@x.test"))
	w := b.claim()
	var n notices
	b.touched(1)(b.Bounce(t.Context(), Filter{Domain: "x.test"}, "", n.make))
	b.touched(1)(b.Bounce(t.Context(), Filter{Domain: "x.test"}, "", n.make))
	b.touched(1)(b.Remove(t.Context(), Filter{Domain: "x.test"}))
	b.Release(w)
	b.applyCanceled()
	if len(n.made) != 0 || b.Counts() != (Counts{}) {
		t.Errorf("%d notices, %+v", len(n.made), b.Counts())
	}
}

func TestAMessageThatChangesWhileItsNoticeIsMadeIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	id := b.accept("x", to("a@x.test", "b@y.test"))
	w := b.claim()
	other := map[string]string{"x.test": "y.test", "y.test": "x.test"}[w.Domain]
	var n notices
	b.touched(1)(b.Bounce(t.Context(), Filter{Domain: other}, "", func(m Message) *NewMessage {
		if len(n.made) == 0 {
			b.finish(w, Queued)
		}
		return n.make(m)
	}))
	if len(n.made) != 2 || b.Counts() != (Counts{Messages: 2, Recipients: 2}) {
		t.Errorf("%d notices were made, %+v", len(n.made), b.Counts())
	}
	if m := b.show(id); m.States[w.Recipients[0]].Attempts != 1 {
		t.Errorf("%+v", m.States)
	}
}

func TestAMessageThatIsRemovedWhileItsNoticeIsMadeIsNotBounced(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	id := b.accept("x", to("a@x.test"))
	var n notices
	b.touched(0)(b.Bounce(t.Context(), Filter{}, "", func(m Message) *NewMessage {
		b.touched(1)(b.Remove(t.Context(), Filter{IDs: []ID{id}}))
		return n.make(m)
	}))
	if b.Counts() != (Counts{}) || b.keys(store.PrefixMessage) != 0 {
		t.Errorf("%+v", b.Counts())
	}
}

func TestADomainIsCanceledWithoutTheOtherRecipients(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name      string
		do        func(*bench, *notices) (int, error)
		lastError string
		told      []string
	}{
		{"removed", func(b *bench, _ *notices) (int, error) { return b.Remove(b.Context(), Filter{Domain: "x.test"}) },
			"5.7.0 the operator removed it", nil},
		{"bounced", func(b *bench, n *notices) (int, error) {
			return b.Bounce(b.Context(), Filter{Domain: "x.test"}, "no such company", n.make)
		}, "5.7.0 the operator gave it up: no such company", []string{"a@x.test", "c@x.test"}},
		{"bounced without a reason", func(b *bench, n *notices) (int, error) {
			return b.Bounce(b.Context(), Filter{Domain: "x.test"}, "", n.make)
		}, "5.7.0 the operator gave it up", []string{"a@x.test", "c@x.test"}},
	} {
		for _, tried := range []string{"", "x.test", "y.test"} {
			t.Run(row.name+", tried before: "+tried, func(t *testing.T) {
				b := newBench(t, Options{})
				id := b.accept("x", to("a@x.test", "b@y.test", "c@x.test"))
				attempts := 0
				if tried != "" {
					w := b.ClaimFor(tried)
					b.finish(w, Queued)
					attempts = len(w.Recipients) // of all of them
				}
				var n notices
				b.touched(1)(row.do(b, &n))
				b.touched(0)(row.do(b, &n))
				if got := n.about(); !slices.Equal(got, row.told) {
					t.Errorf("the notice names %v", got)
				}
				for _, m := range n.made {
					if len(m.Recipients) != 2 || len(m.States) != 2 || len(m.Waits) != 2 || m.ID != id {
						t.Errorf("the notice was made of %+v", m)
					}
				}
				for _, after := range []func(){func() { b.crash() }, func() {}} {
					m := b.show(id)
					for _, r := range []int{0, 2} {
						if s := m.States[r]; s.State != Bounced || s.LastError != row.lastError {
							t.Errorf("%s is %+v", m.Recipients[r].Address, s)
						}
					}
					got := 0
					for _, s := range m.States {
						got += s.Attempts
					}
					if m.States[1].State != Queued || got != attempts || b.Counts().Recipients != 1+len(n.made) {
						t.Errorf("%+v, %+v", m.States, b.Counts())
					}
					after()
				}
				b.advance(2 * time.Minute)
				for w := b.try(); w != nil; w = b.try() {
					if w.Domain == "x.test" {
						t.Errorf("%s was claimed", w.Domain)
					}
					b.finish(w, Delivered)
				}
				if n := b.keys(store.PrefixMessage) + b.keys(store.PrefixBody); n != 0 || b.Counts() != (Counts{}) {
					t.Errorf("%d keys are left, %+v", n, b.Counts())
				}
			})
		}
	}
}

func TestWhatTheOperatorEndedIsNotWhyOthersWait(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	b.accept("x", to("a@x.test"))
	id := b.accept("x", to("a@x.test", "b@y.test"))
	b.touched(1)(b.Remove(t.Context(), Filter{IDs: []ID{id}, Domain: "x.test"}))
	for range 2 {
		s := b.Summary()
		if len(s) != 2 || s[0].Last != (Reason{}) || s[1].Last != (Reason{}) {
			t.Errorf("%+v", s)
		}
		b.restart()
	}
}

func TestTheLastDomainThatIsRemovedTakesTheMessageWithIt(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	b.accept("x", to("a@x.test", "b@y.test"))
	b.touched(1)(b.Hold(t.Context(), Filter{}, "r"))
	b.touched(1)(b.Remove(t.Context(), Filter{Domain: "x.test"}))
	if c := b.Counts(); c != (Counts{Messages: 1, Recipients: 1, Held: 1}) {
		t.Errorf("%+v", c)
	}
	b.touched(1)(b.Remove(t.Context(), Filter{Domain: "y.test"}))
	if n := b.keys(store.PrefixMessage) + b.keys(store.PrefixBody); n != 0 || b.Counts() != (Counts{}) || b.scheduler.Domains() != 0 {
		t.Errorf("%d keys, %+v, %d domains", n, b.Counts(), b.scheduler.Domains())
	}
}

func TestRecipientsOfADomainThatAreBeingTriedAreRemovedAfterTheAttempt(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	id := b.accept("x", to("a@x.test", "b@y.test"))
	w := b.ClaimFor("x.test")
	b.touched(1)(b.Remove(t.Context(), Filter{Domain: "x.test"}))
	b.finish(b.claim(), Queued) // y.test goes on
	if m := b.show(id); m.States[0].State != Queued || m.States[1].Attempts != 1 {
		t.Errorf("during the attempt: %+v", m.States)
	}
	b.finish(w, Queued)
	b.applyCanceled()
	if m := b.show(id); m.States[0].State != Bounced || m.States[0].Attempts != 1 || m.States[1].State != Queued {
		t.Errorf("%+v", m.States)
	}
}

func TestTheLogSaysWhatTheOperatorDid(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	id := b.accept("x", to("a@x.test", "b@y.test", "c@z.test")).String()
	says := func(want string) {
		t.Helper()
		if !b.logs.has(want) {
			t.Errorf("%s is not in the log:\n%s", want, b.logs.buf.String())
		}
	}
	b.touched(1)(b.Hold(t.Context(), Filter{}, "odd"))
	says(`msg="held by the operator" queue_id=` + id + ` from=sender@example.org recipients=3 reason=odd to="[a@x.test b@y.test c@z.test]"`)
	b.touched(1)(b.Unhold(t.Context(), Filter{}))
	says(`msg="released by the operator" queue_id=` + id + ` from=sender@example.org recipients=3 to="[a@x.test b@y.test c@z.test]"` + "\n")
	b.touched(1)(b.Remove(t.Context(), Filter{Domain: "x.test"}))
	says(`msg="removed by the operator" queue_id=` + id + ` from=sender@example.org recipients=1 domain=x.test to=[a@x.test]` + "\n")
	w := b.ClaimFor("y.test")
	b.touched(1)(b.Bounce(t.Context(), Filter{Domain: "y.test"}, "dead", none))
	says(`msg="to be bounced by the operator when the attempt under way has ended" queue_id=` + id + ` from=sender@example.org recipients=1 domain=y.test reason=dead to=[b@y.test]`)
	b.Release(w)
	b.applyCanceled()
	says(`msg="bounced by the operator" queue_id=` + id + ` from=sender@example.org recipients=1 domain=y.test reason=dead to=[b@y.test]`)
	b.touched(1)(b.Bounce(t.Context(), Filter{}, "", func(Message) *NewMessage {
		return &NewMessage{Envelope: to("sender@example.org"), Body: []byte("notice")}
	}))
	says(`msg="bounced by the operator" queue_id=` + id + ` from=sender@example.org recipients=1 to=[c@z.test]` + "\n")
	says(`original_queue_id=` + id + ` to=sender@example.org`)
	b.touched(1)(b.Remove(t.Context(), Filter{}))
	says(`msg="removed by the operator" queue_id=`)
}

func TestARemovedMessageThatWasBeingTriedLeavesNoNotice(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	b.accept("x", to("a@x.test"))
	w := b.claim()
	b.touched(1)(b.Remove(t.Context(), Filter{}))
	notices := []NewMessage{{Envelope: to("sender@example.org"), Body: []byte("notice")}}
	b.Finish(w, Outcome{Results: all(w, Bounced), Notices: notices})
	LogNotices(b.o.Logger, &w.Envelope, notices)
	b.restart() // all is written
	if b.Counts() != (Counts{}) || b.logs.has("notice queued") {
		t.Errorf("%+v", b.Counts())
	}
}

package queue

import (
	"errors"
	"testing"

	"github.com/stsrelay/stsrelay/internal/store"
	"github.com/stsrelay/stsrelay/internal/store/memory"
	"github.com/stsrelay/stsrelay/internal/store/storetest"
)

// The queue needs nothing of its store but the contract: what it has put into one
// engine is there when it is opened on it again.
func TestTheQueueStandsOnTheContractAlone(t *testing.T) {
	t.Parallel()
	var place memory.Place
	s := place.Open()
	open := func() *Queue {
		q, err := Open(Options{Store: s})
		if err != nil {
			t.Fatal(err)
		}
		return q
	}
	q := open()
	for _, domain := range []string{"a.test", "b.test", "c.test"} {
		in, err := q.Begin()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := in.Write([]byte("Subject: " + domain + "\r\n\r\ntext\r\n")); err != nil {
			t.Fatal(err)
		}
		if err := in.Commit(t.Context(), to("kurt@"+domain)); err != nil {
			t.Fatal(err)
		}
	}
	c, err := q.Claim(t.Context())
	if err != nil || !c.Load() {
		t.Fatal(err)
	}
	delivered := c.Domain
	q.Finish(c, Outcome{Results: []RecipientState{{State: Delivered}}})
	if err := q.waitDurable(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	q.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = place.Open()
	defer s.Close()
	q = open()
	defer q.Close()
	if n := q.Counts(); n.Messages != 2 || n.Recipients != 2 {
		t.Errorf("%+v", n)
	}
	for range 2 {
		c, err := q.Claim(t.Context())
		if err != nil || !c.Load() || c.Domain == delivered {
			t.Fatalf("%+v, %v", c, err)
		}
		q.Finish(c, Outcome{Results: []RecipientState{{State: Delivered}}})
	}
	if err := q.waitDurable(t.Context(), nil); err != nil || q.Counts() != (Counts{}) {
		t.Errorf("%+v, %v", q.Counts(), err)
	}
}

// A message whose commit has an unknown outcome is refused, and nothing of it is left,
// whatever became of the commit.
func TestNothingIsLeftOfAMessageWithAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	for _, imported := range []bool{false, true} {
		for _, written := range []bool{true, false} {
			place := new(memory.Place)
			b := newBenchOn(t, func() (storetest.Engine, error) { return place.Open(), nil }, Options{})
			in, err := b.Begin()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := in.Write([]byte("Subject: x\r\n\r\ntext\r\n")); err != nil {
				t.Fatal(err)
			}
			var m *exportedMessage
			if imported {
				m = &exportedMessage{HeldFor: "the operator", HeldAt: b.o.Now()}
			}
			b.sync()
			place.LoseAnswer(written)
			env := to("kurt@a.test")
			answer := make(chan error, 1)
			if err := in.submit(&env, m, func(err error) { answer <- err }); err != nil {
				t.Fatal(err)
			}
			if err := <-answer; !errors.Is(err, store.ErrUnknown) {
				t.Errorf("answered with %v", err)
			}
			b.sync()
			for _, prefix := range [][]byte{store.PrefixMessage, store.PrefixBody} {
				if err := b.st.ScanKeys(prefix, nil, func(k []byte) error { t.Errorf("%q is left", k); return nil }); err != nil {
					t.Error(err)
				}
			}
			b.restart()
			if n := b.Counts().Messages; n != 0 {
				t.Errorf("%d messages after a restart", n)
			}
		}
	}
}

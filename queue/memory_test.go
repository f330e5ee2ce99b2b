package queue

import (
	"testing"

	"github.com/stsrelay/stsrelay/internal/store/memory"
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

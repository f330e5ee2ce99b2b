package postgres_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/store/postgres"
)

// An order is executed once, and one that nobody begins is withdrawn.
func TestAnOrderIsAnsweredOrWithdrawn(t *testing.T) {
	space := newSpace()
	if _, err := openSpace(t, postgres.Options{Space: space, Holder: "the relay"}); err != nil {
		t.Fatal(err)
	}
	directory := func() *postgres.Directory {
		d, err := postgres.NewDirectory(cluster.URL(), "test")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(d.Close)
		return d
	}
	asker, relay, second := directory(), directory(), directory()
	ask := func(wait time.Duration) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		defer cancel()
		text, err := asker.Ask(ctx, postgres.Order{Space: space, Content: []byte("do it")})
		return string(text), err
	}
	if _, err := ask(300 * time.Millisecond); !errors.Is(err, postgres.ErrWithdrawn) {
		t.Errorf("nobody answers: %v", err)
	}
	if list, err := relay.Orders(t.Context(), "the relay"); err != nil || len(list) != 0 {
		t.Errorf("after the withdrawal: %v, %v", list, err)
	}
	if err := relay.WaitForOrder(t.Context(), time.Millisecond); err != nil { // it listens from now on
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	work.Go(func() {
		for {
			err := relay.WaitForOrder(ctx, 10*time.Second)
			var list []postgres.Order
			if err == nil {
				list, err = relay.Orders(ctx, "the relay")
			}
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
			for _, o := range list {
				mine, err := relay.Begin(ctx, o)
				again, err2 := second.Begin(ctx, o)
				if !mine || again || err != nil || err2 != nil {
					t.Errorf("begun %v, %v; again %v, %v", mine, err, again, err2)
				}
				if err := relay.Answer(ctx, o, append(o.Content, " done"...)); err != nil {
					t.Error(err)
				}
				return
			}
		}
	})
	began := time.Now()
	if text, err := ask(5 * time.Second); text != "do it done" || err != nil {
		t.Errorf("the answer: %q, %v", text, err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("it took %s: no notification came", took)
	}
	if n := query(t, "select count(*) from stsrelay.orders"); n != "0" {
		t.Errorf("%s orders are left", n)
	}
}

// A notification that comes while something is asked counts, too: the order may not have been
// there yet when that was read.
func TestANotificationThatComesWithAnAnswerCounts(t *testing.T) {
	relay, err := postgres.NewDirectory(cluster.URL(), "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(relay.Close)
	if err := relay.WaitForOrder(t.Context(), time.Millisecond); err != nil { // it listens from now on
		t.Fatal(err)
	}
	query(t, "select pg_notify('stsrelay_orders', '')")
	if _, err := relay.Orders(t.Context(), "the relay"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := relay.WaitForOrder(t.Context(), 10*time.Second); err != nil || time.Since(began) > 5*time.Second {
		t.Errorf("%v, after %s", err, time.Since(began))
	}
}

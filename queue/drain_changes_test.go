package queue

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// What a request of a drain has in it may be at the other relay already: nothing is changed
// about it before the answer, except that it is removed here. A release would deliver it
// twice.
func TestWhatIsBeingHandedOverIsNotChanged(t *testing.T) {
	for _, row := range []struct {
		name    string
		held    bool
		change  func(q *Queue, f Filter) (int, error)
		touched int
		// taken reports whether the other relay takes the message.
		taken       bool
		there, here int
	}{
		{name: "release", change: unhold, taken: true, there: 1},
		{name: "release of a held one", held: true, change: unhold, taken: true, there: 1},
		{name: "release, and it is not taken", held: true, change: unhold, here: 1},
		{name: "hold", change: hold, taken: true, there: 1},
		{name: "bounce", change: bounce, touched: 1, taken: true, there: 1},
		{name: "bounce, and it is not taken", change: bounce, touched: 1},
		{name: "remove", change: remove, touched: 1, taken: true, there: 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			from, to, _ := two(t)
			from.SetPaused(false)
			id := accept(t, from, "anna", "text")
			f := Filter{IDs: []ID{id}}
			if row.held {
				touched(t, 1)(hold(from, f))
			}
			o := drainTo(to)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			o.Send = func(ctx context.Context, run string, r io.Reader) (Taken, error) {
				sent, err := io.ReadAll(r)
				if err != nil {
					t.Error(err)
				}
				touched(t, row.touched)(row.change(from, f))
				if c, _ := from.tryClaim(); c != nil {
					t.Error("it is delivered here as well")
				}
				if row.taken {
					return to.Take(ctx, run, bytes.NewReader(sent))
				}
				return Taken{}, errors.New("no answer")
			}
			o.Progress = func(int, error) { cancel() }
			if _, err := from.Drain(ctx, o); err != nil && !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			from.applyReady(t.Context())
			if here, there := from.Counts().Messages, to.Counts().Messages; here != row.here || there != row.there {
				t.Errorf("%d are here, and %d there; want %d and %d", here, there, row.here, row.there)
			}
			if row.held && row.here == 1 && from.Counts().Held != 1 {
				t.Error("it is not held any more")
			}
			for _, trashed := range trashOf(t, from) {
				if !trashed.Active {
					t.Error("the trash does not say that it may have been delivered")
				}
			}
		})
	}
}

// While the other relay is away, what the drain keeps from being tried can be held and
// bounced, and a release of what nobody has held is none.
func TestWhatADrainKeepsCanBeChangedBetweenItsRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to, _ := two(t)
		from.SetPaused(false)
		from.bounceDelay = time.Minute
		held, bounced, released := accept(t, from, "anna", "text"), accept(t, from, "bert", "text"), accept(t, from, "carl", "text")
		o := drainTo(to)
		take, tries := o.Send, 0
		o.Send = func(ctx context.Context, run string, r io.Reader) (Taken, error) {
			if tries++; tries == 1 {
				return Taken{}, errors.New("away")
			}
			return take(ctx, run, r)
		}
		o.Progress = func(_ int, err error) {
			if err != nil {
				touched(t, 1)(from.Hold(t.Context(), Filter{IDs: []ID{held}}, "look at it"))
				touched(t, 1)(bounce(from, Filter{IDs: []ID{bounced}}))
				touched(t, 0)(unhold(from, Filter{IDs: []ID{released}}))
			}
		}
		if handed, err := from.Drain(t.Context(), o); handed != 2 || err != nil {
			t.Errorf("%d were handed over, %v", handed, err)
		}
		if m, err := to.Show(held); err != nil || m.HeldFor != "look at it" {
			t.Errorf("the held one: %v, held for %q", err, m.HeldFor)
		}
		if _, err := to.Show(bounced); !errors.Is(err, ErrNotFound) {
			t.Errorf("what was bounced here is there: %v", err)
		}
	})
}

// What the operator holds while a drain keeps it stays held after the drain.
func TestAHoldOutlivesADrain(t *testing.T) {
	q, _, _ := two(t)
	id := accept(t, q, "anna", "text")
	ctx, cancel := context.WithCancel(t.Context())
	_, err := q.Drain(ctx, DrainOptions{
		Send:   func(context.Context, string, io.Reader) (Taken, error) { return Taken{}, errors.New("away") },
		Forget: func(context.Context, string) error { return nil },
		Progress: func(int, error) {
			touched(t, 1)(hold(q, Filter{IDs: []ID{id}}))
			cancel()
		},
	})
	if !errors.Is(err, context.Canceled) || q.Counts().Held != 1 {
		t.Errorf("%v, %d held", err, q.Counts().Held)
	}
}

func hold(q *Queue, f Filter) (int, error)   { return q.Hold(context.Background(), f, "why") }
func unhold(q *Queue, f Filter) (int, error) { return q.Unhold(context.Background(), f) }
func remove(q *Queue, f Filter) (int, error) { return q.Remove(context.Background(), f) }
func bounce(q *Queue, f Filter) (int, error) {
	return q.Bounce(context.Background(), f, "", func(Message) *NewMessage { return nil })
}

func touched(t *testing.T, want int) func(int, error) {
	return func(n int, err error) {
		t.Helper()
		if n != want || err != nil {
			t.Errorf("%d touched, %v; want %d", n, err, want)
		}
	}
}

func trashOf(t *testing.T, q *Queue) (list []Trashed) {
	t.Helper()
	if err := q.Trash(t.Context(), func(i Trashed) bool { list = append(list, i); return true }); err != nil {
		t.Fatal(err)
	}
	return list
}

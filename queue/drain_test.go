package queue

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stsrelay/stsrelay/internal/store/memory"
)

// two are two queues in memory, of which one is drained to the other.
func two(t *testing.T) (from, to *Queue, toPlace *memory.Place) {
	t.Helper()
	toPlace = new(memory.Place)
	for i, place := range []*memory.Place{new(memory.Place), toPlace} {
		st := place.Open()
		q, err := Open(Options{Store: st, Paused: true, TrashSize: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { q.Close(); _ = st.Close() })
		if i == 0 {
			from = q
		} else {
			to = q
		}
	}
	return from, to, toPlace
}

func accept(t *testing.T, q *Queue, to, body string) ID {
	t.Helper()
	in, err := q.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte(body)); err != nil {
		t.Fatal(err)
	}
	if err := in.Commit(t.Context(), Envelope{From: "s@a.example", Recipients: []Recipient{{Address: to + "@b.example", Domain: "b.example"}}}); err != nil {
		t.Fatal(err)
	}
	return in.ID()
}

func drainTo(to *Queue) DrainOptions {
	return DrainOptions{To: "https://other.example", Send: to.Take, Forget: to.ForgetTaken, Progress: func(int, error) {}}
}

func TestADrainHandsEverythingOverAsItWas(t *testing.T) {
	from, to, _ := two(t)
	long := strings.Repeat("A long body.\r\n", 50_000)
	ids := map[ID]string{accept(t, from, "anna", "short"): "", accept(t, from, "bert", long): "", accept(t, from, "carl", "held"): "why"}
	if _, err := from.Hold(t.Context(), Filter{To: "carl@b.example"}, "why"); err != nil {
		t.Fatal(err)
	}
	handed, err := from.Drain(t.Context(), drainTo(to))
	if err != nil || handed != 3 || from.Counts().Messages != 0 {
		t.Fatalf("%d were handed over, %d are left: %v", handed, from.Counts().Messages, err)
	}
	for id, held := range ids {
		m, err := to.Show(id)
		if err != nil || m.HeldFor != held {
			t.Errorf("%s: %v, held for %q", id, err, m.HeldFor)
		}
		if m.Recipients[0].Address != "bert@b.example" {
			continue
		}
		body, err := to.Open(id)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(body); err != nil || string(text) != long {
			t.Errorf("the long body has %d octets: %v", len(text), err)
		}
	}
}

// An answer that is lost makes the same message come again. It is not taken again, even if
// the other relay has delivered it meanwhile; in another run it is.
func TestNothingIsTakenTwiceInARun(t *testing.T) {
	from, to, _ := two(t)
	id := accept(t, from, "anna", "text")
	o := drainTo(to)
	ctx, cancel := context.WithCancel(t.Context())
	lost := errors.New("the answer is lost")
	o.Send = func(ctx context.Context, run string, r io.Reader) (Taken, error) {
		_, err := to.Take(ctx, run, r)
		cancel()
		return Taken{}, errors.Join(err, lost)
	}
	if _, err := from.Drain(ctx, o); !errors.Is(err, context.Canceled) || from.Counts().Held != 0 {
		t.Fatalf("the first drain: %v, %+v", err, from.Counts())
	}
	if n, err := to.Remove(t.Context(), Filter{}); n != 1 || err != nil { // as if it were delivered
		t.Fatalf("%d removed, %v", n, err)
	}
	if handed, err := from.Drain(t.Context(), drainTo(to)); handed != 1 || err != nil || to.Counts().Messages != 0 || from.Counts().Messages != 0 {
		t.Errorf("again: %d handed over, %v; %d there, %d here", handed, err, to.Counts().Messages, from.Counts().Messages)
	}
	if found, err := to.tookBefore("", id); found || err != nil {
		t.Errorf("what was taken is still remembered: %v, %v", found, err)
	}
}

// What the other relay cannot take now is tried again; a refusal ends the drain, and mail is
// due as it was.
func TestADrainTriesAgain(t *testing.T) {
	from, to, place := two(t)
	accept(t, from, "anna", "text")
	o := drainTo(to)
	place.Fill(true)
	var failures int
	o.Progress = func(_ int, err error) {
		if err != nil {
			failures++
			place.Fill(false)
		}
	}
	if handed, err := from.Drain(t.Context(), o); handed != 1 || err != nil || failures != 1 {
		t.Errorf("%d handed over, %v, %d failures", handed, err, failures)
	}
	accept(t, from, "bert", "text")
	o.Send = func(context.Context, string, io.Reader) (Taken, error) { return Taken{}, ErrDrainRefused }
	if _, err := from.Drain(t.Context(), o); !errors.Is(err, ErrDrainRefused) || from.Counts().Held != 0 || from.Counts().Messages != 1 {
		t.Errorf("refused: %v, %+v", err, from.Counts())
	}
}

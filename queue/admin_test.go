package queue

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
)

func TestHeldMessagesStayHeldOverRestartsAndRetriesUntilTheyAreReleased(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	id := b.accept("x", to("a@x.test"))
	b.touched(1)(b.Hold(t.Context(), Filter{IDs: []ID{id}}, "suspicious"))
	b.touched(0)(b.Hold(t.Context(), Filter{IDs: []ID{id}}, "again"))
	b.restart()
	if m := b.show(id); m.State != Held || m.HeldFor != "suspicious" || !m.NextAttemptAt.IsZero() {
		t.Errorf("%s for %q, next attempt at %v", m.State, m.HeldFor, m.NextAttemptAt)
	}
	b.touched(0)(b.Retry(t.Context(), Filter{}))
	b.nothing("while held")
	if c := b.Counts(); c != (Counts{Messages: 1, Recipients: 1, Held: 1}) {
		t.Errorf("%+v", c)
	}
	b.touched(1)(b.Unhold(t.Context(), Filter{State: Held}))
	b.restart()
	b.finish(b.claim(), Delivered)
	if b.Counts() != (Counts{}) || b.keys(store.PrefixMessage) != 0 {
		t.Errorf("%+v", b.Counts())
	}
}

func TestAMessageHeldDuringItsDeliveryIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	b.accept("x", to("a@x.test"))
	w := b.claim()
	b.touched(1)(b.Hold(t.Context(), Filter{}, "wait"))
	b.Finish(w, Outcome{Results: all(w, Queued), RetryAfter: time.Nanosecond})
	b.nothing("while held")
	b.touched(1)(b.Unhold(t.Context(), Filter{}))
	if w := b.claim(); w.Attempts != 1 {
		t.Errorf("%d attempts", w.Attempts)
	}
}

func TestAMessageRemovedDuringItsDeliveryIsGone(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	id := b.accept(strings.Repeat("x", 3*chunkSize), to("a@x.test", "b@y.test"))
	w := b.claim()
	body := w.Body()
	if _, err := io.CopyN(io.Discard, struct{ io.Reader }{body}, 10); err != nil {
		t.Fatal(err)
	}
	b.touched(1)(b.Remove(t.Context(), Filter{IDs: []ID{id}}))
	if _, err := io.Copy(io.Discard, body); !errors.Is(err, ErrBodyGone) {
		t.Errorf("its body: %v", err)
	}
	b.finish(w, Queued)
	b.nothing("of it")
	if _, err := b.Show(id); !errors.Is(err, ErrNotFound) {
		t.Errorf("Show: %v", err)
	}
	if _, err := b.Open(id); !errors.Is(err, ErrNotFound) {
		t.Errorf("Open: %v", err)
	}
	if n := b.keys(store.PrefixMessage) + b.keys(store.PrefixBody); n != 0 || b.Counts() != (Counts{}) {
		t.Errorf("%d keys, %+v", n, b.Counts())
	}
	if b.scheduler.Domains() != 0 {
		t.Errorf("%d domains stay in memory", b.scheduler.Domains())
	}
}

func TestFiltersSelectWhatTheySay(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	old := b.accept("x", to("a@x.test"))
	b.advance(time.Hour)
	two := b.accept("x", to("a@x.test", "b@y.test"))
	bounce := to("sender@z.test")
	bounce.From = ""
	null := b.accept("x", bounce)
	held := b.accept("x", to("h@h.test"))
	b.touched(1)(b.Hold(t.Context(), Filter{To: "h@h.test"}, "r"))
	b.Retry(t.Context(), Filter{})
	var active ID
	if w := b.ClaimFor("z.test"); w != nil {
		active = w.Envelope.ID
	}
	everything := []ID{old, two, null, held}
	unknown := ID{1, 2, 3}
	for _, row := range []struct {
		name string
		f    Filter
		want []ID
	}{
		{"nothing said", Filter{}, everything},
		{"a domain", Filter{Domain: "y.test"}, []ID{two}},
		{"a domain that is not there", Filter{Domain: "no.test"}, nil},
		{"a sender", Filter{From: "sender@example.org"}, []ID{old, two, held}},
		{"the null sender", Filter{From: "<>"}, []ID{null}},
		{"a sender, the domain in another case", Filter{From: "sender@Example.ORG"}, []ID{old, two, held}},
		{"a sender, the local part in another case", Filter{From: "Sender@example.org"}, nil},
		{"a recipient", Filter{To: "a@x.test"}, []ID{old, two}},
		{"a recipient, the domain in another case", Filter{To: "a@X.test"}, []ID{old, two}},
		{"a recipient, the local part in another case", Filter{To: "A@x.test"}, nil},
		{"a recipient without a domain", Filter{To: "a"}, nil},
		{"held", Filter{State: Held}, []ID{held}},
		{"active", Filter{State: Active}, []ID{active}},
		{"queued", Filter{State: Queued}, []ID{old, two}},
		{"age", Filter{OlderThan: 30 * time.Minute}, []ID{old}},
		{"IDs, in the order of age, one unknown and one twice", Filter{IDs: []ID{null, unknown, old, null}}, []ID{old, null}},
		{"no IDs of many", Filter{IDs: []ID{}}, nil},
		{"IDs and a domain", Filter{IDs: everything, Domain: "x.test"}, []ID{old, two}},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := b.ids(row.f); !slices.Equal(got, row.want) {
				t.Errorf("got %v, want %v", got, row.want)
			}
		})
	}
}

func TestAListingGoesOnWhileMessagesComeAndGo(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	var stay []ID
	for i := range 400 {
		id := b.accept("x", to("a@x.test"))
		if i%4 == 0 {
			stay = append(stay, id)
		}
	}
	seen := make(map[ID]int)
	n := 0
	err := b.List(t.Context(), Filter{}, func(m Message) bool {
		seen[m.ID]++
		n++
		if n == 10 { // all but every fourth goes, also the one where the listing stands
			for _, id := range b.ids(Filter{}) {
				if !slices.Contains(stay, id) {
					if _, err := b.Remove(t.Context(), Filter{IDs: []ID{id}}); err != nil {
						t.Fatal(err)
					}
				}
			}
			b.accept("new", to("a@x.test"))
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range stay {
		if seen[id] != 1 {
			t.Fatalf("%s was listed %d times", id, seen[id])
		}
	}
}

func TestAListingEndsWithItsContextOrItsReader(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	for range 3 {
		b.accept("x", to("a@x.test"))
	}
	n := 0
	if err := b.List(t.Context(), Filter{}, func(Message) bool { n++; return n < 2 }); err != nil || n != 2 {
		t.Errorf("%d rows, %v", n, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.List(ctx, Filter{}, func(Message) bool { return true }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestTheSummaryCountsByDomain(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	start := b.o.Now()
	b.accept("x", to(numbered("x.test", 150)...)) // two groups, one message
	b.advance(time.Hour)
	b.accept("x", to("a@x.test", "a@y.test"))
	b.accept("x", to("h@h.test"))
	b.touched(1)(b.Hold(t.Context(), Filter{Domain: "h.test"}, "r"))
	s := b.Summary()
	if len(s) != 3 || s[0].Domain != "x.test" || s[0].Messages != 2 || s[0].Recipients != 151 || s[0].OldestAt.Sub(start).Abs() > time.Second {
		t.Errorf("%+v", s)
	}
	if s[1].Domain != "h.test" || !s[1].NextAttemptAt.IsZero() || s[2].Domain != "y.test" || s[2].NextAttemptAt.IsZero() {
		t.Errorf("%+v", s)
	}
}

func TestAnIDMayBeShortenedWhereItStaysClear(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	id := b.accept("x", to("a@x.test"))
	b.advance(time.Hour)
	other := b.accept("x", to("a@x.test"))
	common := 0
	for id.String()[common] == other.String()[common] {
		common++
	}
	for _, row := range []struct {
		name, s string
		want    ID
		err     error
	}{
		{"whole", id.String(), id, nil},
		{"lower case", strings.ToLower(other.String()), other, nil},
		{"the beginning of one", other.String()[:common+1], other, nil},
		{"the beginning of two", id.String()[:common], ID{}, ErrAmbiguous},
		{"of none", "7ZZZZ", ID{}, ErrNotFound},
		{"whole, of none", "7ZZZZZZZZZZZZZZZZZZZZZZZZZ", ID{}, ErrNotFound},
		{"beyond all IDs", "8", ID{}, ErrNotFound},
		{"empty", "", ID{}, ErrNotFound},
		{"too long", id.String() + "0", ID{}, ErrNotFound},
		{"not of the alphabet", "01-u*", ID{}, ErrNotFound},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got, err := b.Resolve(row.s); got != row.want || !errors.Is(err, row.err) {
				t.Errorf("%s, %v", got, err)
			}
		})
	}
}

func TestAddIsOneCommitOfItsMessagesAndTheChangesOfOthers(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	mark := []byte("t/mark")
	err := b.Add([]NewMessage{{Envelope: to("r@r.test"), Body: []byte("report")}}, func(batch *store.Batch) { batch.Set(mark, []byte("sent")) })
	if err != nil {
		t.Fatal(err)
	}
	b.crash()
	if v, _ := store.Get(b.st, mark); string(v) != "sent" {
		t.Errorf("mark %q", v)
	}
	if w := b.claim(); w.Domain != "r.test" {
		t.Errorf("%+v", w)
	}
}

func TestAScheduleWithoutTimesIsTheDefault(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	b.SetSchedule(Schedule{})
	b.accept("x", to("a@x.test"))
	b.finish(b.claim(), Queued)
	b.advance(73 * time.Second)
	b.claim()
}

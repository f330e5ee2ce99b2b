package queue

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stsrelay/stsrelay/internal/store"
)

// inTrash is what lies in the trash.
func (b *bench) inTrash() (list []Trashed) {
	b.Helper()
	if err := b.Trash(b.Context(), func(t Trashed) bool { list = append(list, t); return true }); err != nil {
		b.Fatal(err)
	}
	return list
}

func addresses(list []Recipient) (out []string) {
	for _, r := range list {
		out = append(out, r.Address)
	}
	return out
}

const trashSize = 64 << 20

// What is removed comes back as it was, over restarts too: a whole message, its
// recipients of one domain, one that is held, one of several chunks.
func TestWhatIsRemovedCanBeRestored(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("0123456789abcde\n", 80<<10) // 1.25 MiB
	for _, restart := range []bool{false, true} {
		b := newBench(t, Options{TrashSize: trashSize})
		whole := b.accept(long, to("a@x.test", "b@y.test"))
		held := b.accept("held", to("c@x.test"))
		b.touched(1)(b.Hold(t.Context(), Filter{IDs: []ID{held}}, "odd"))
		b.touched(2)(b.Remove(t.Context(), Filter{IDs: []ID{whole, held}}))
		part := b.accept(long+"part", to("a@x.test", "b@y.test", "c@x.test"))
		b.touched(1)(b.Remove(t.Context(), Filter{Domain: "x.test"}))
		b.applyCanceled()
		if restart {
			b.crash()
		}
		list := b.inTrash()
		if len(list) != 3 {
			t.Fatalf("%d in the trash", len(list))
		}
		if got := addresses(list[2].Recipients); list[2].ID != part || !slices.Equal(got, []string{"a@x.test", "c@x.test"}) {
			t.Errorf("a part: %s %v", list[2].ID, got)
		}
		if n := b.Counts(); n.Messages != 1 || n.Held != 0 {
			t.Errorf("%+v in the queue", n)
		}
		if got := b.content(part); got != long+"part" {
			t.Errorf("the body that the others need: %d octets", len(got))
		}
		ids := make(map[ID]ID)
		for _, id := range []ID{whole, held, part} {
			back, err := b.Restore(t.Context(), strings.ToLower(id.String()), time.Time{})
			if err != nil || len(back) != 1 {
				t.Fatal(back, err)
			}
			ids[id] = back[0]
		}
		if ids[whole] != whole || ids[held] != held || ids[part] == part {
			t.Errorf("restored as %v", ids)
		}
		if got := b.content(whole); got != long {
			t.Errorf("%d octets of %d", len(got), len(long))
		}
		if got := b.content(ids[part]); got != long+"part" {
			t.Errorf("%d octets of the part", len(got))
		}
		if m := b.show(held); m.State != Held || m.HeldFor != "odd" {
			t.Errorf("%+v", m)
		}
		if m := b.show(ids[part]); !slices.Equal(addresses(m.Recipients), []string{"a@x.test", "c@x.test"}) || m.From != "sender@example.org" {
			t.Errorf("%+v", m.Envelope)
		}
		if l := b.inTrash(); len(l) != 0 {
			t.Errorf("%d are left in the trash", len(l))
		}
		for range 4 { // whole: x and y; part: y; its removed recipients: x
			b.finish(b.claim(), Delivered)
		}
		b.restart()
		if n := b.Counts(); n.Messages != 1 || n.Held != 1 {
			t.Errorf("after the deliveries: %+v", n)
		}
		if n := b.chunks(); n != 1 {
			t.Errorf("%d chunks are left, want that of the held message", n)
		}
	}
}

// Time and space bound the trash, and nothing of it stays behind.
func TestTheTrashIsBounded(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{TrashSize: 1000})
	body := strings.Repeat("x", 400)
	var ids []ID
	for range 3 {
		ids = append(ids, b.accept(body, to("a@x.test")))
	}
	large := b.accept(strings.Repeat("x", 1001), to("a@x.test"))
	b.touched(4)(b.Remove(t.Context(), Filter{}))
	if l := b.inTrash(); len(l) != 2 || l[0].ID != ids[1] || l[1].ID != ids[2] {
		t.Errorf("%d are kept", len(l))
	}
	for _, id := range []ID{ids[0], large} {
		if _, err := b.Restore(t.Context(), id.String(), time.Time{}); !errors.Is(err, ErrNotInTrash) {
			t.Errorf("%s: %v", id, err)
		}
	}
	b.step(TrashTime - time.Minute)
	if n := b.emptyTrash(b.o.Now().Add(-TrashTime)); n != 0 {
		t.Errorf("%d went before their time", n)
	}
	b.step(2 * time.Minute)
	if n := b.emptyTrash(b.o.Now().Add(-TrashTime)); n != 2 {
		t.Errorf("%d went", n)
	}
	b.restart()
	if l, n := b.inTrash(), b.chunks(); len(l) != 0 || n != 0 {
		t.Errorf("%d in the trash, %d chunks", len(l), n)
	}
}

func TestWithoutATrashRemovedIsGone(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	b.accept("one", to("a@x.test", "b@y.test"))
	b.touched(1)(b.Remove(t.Context(), Filter{Domain: "x.test"}))
	b.touched(1)(b.Remove(t.Context(), Filter{}))
	b.applyCanceled()
	if l, n := b.inTrash(), b.chunks(); len(l) != 0 || n != 0 {
		t.Errorf("%d in the trash, %d chunks", len(l), n)
	}
}

// What is delivered while it is removed says so, and a bounce leaves nothing in
// the trash: the sender was told.
func TestWhatTheTrashSaysOfDeliveries(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{TrashSize: trashSize})
	b.accept("x", to("a@x.test"))
	w := b.claim()
	b.touched(1)(b.Remove(t.Context(), Filter{}))
	b.finish(w, Delivered)
	if l := b.inTrash(); len(l) != 1 || !l[0].Active {
		t.Errorf("%+v", l)
	}
	n, err := b.EmptyTrash(t.Context())
	if err != nil || n != 1 {
		t.Error(n, err)
	}
	b.accept("y", to("a@x.test"))
	b.touched(1)(b.Bounce(t.Context(), Filter{}, "", none))
	b.applyCanceled()
	if l := b.inTrash(); len(l) != 0 {
		t.Errorf("%+v", l)
	}
}

// A recipient that has an end already is not delivered to a second time.
func TestWhatWasDeliveredIsNotRestored(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{TrashSize: trashSize})
	id := b.accept("x", to("a@x.test", "b@y.test"))
	b.finish(b.ClaimFor("x.test"), Delivered)
	b.touched(1)(b.Remove(t.Context(), Filter{}))
	if _, err := b.Restore(t.Context(), id.String()[:12], time.Time{}); err != nil {
		t.Fatal(err)
	}
	if got := addresses(b.show(id).Recipients); !slices.Equal(got, []string{"b@y.test"}) {
		t.Errorf("%v", got)
	}
}

// A message that was removed in parts comes back without what was removed before a time. When
// it was tried last is not known any more, and not said.
func TestOnlyWhatWasRemovedSinceATimeIsRestored(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{TrashSize: trashSize})
	id := b.accept("x", to("a@x.test", "b@y.test"))
	b.finish(b.ClaimFor("y.test"), Queued)
	b.touched(1)(b.Remove(t.Context(), Filter{Domain: "x.test"}))
	b.applyCanceled()
	b.step(time.Hour)
	b.touched(1)(b.Remove(t.Context(), Filter{Domain: "y.test"}))
	b.applyCanceled()
	back, err := b.Restore(t.Context(), id.String(), b.o.Now().Add(-10*time.Minute))
	if err != nil || len(back) != 1 {
		t.Fatal(back, err)
	}
	m := b.show(back[0])
	if got := addresses(m.Recipients); !slices.Equal(got, []string{"b@y.test"}) {
		t.Errorf("restored for %v", got)
	}
	if at := m.Waits[0].LastAttemptAt; m.Attempts != 1 || !at.IsZero() {
		t.Errorf("after %d attempts, the last one at %v", m.Attempts, at)
	}
	if l := b.inTrash(); len(l) != 1 || l[0].Recipients[0].Address != "a@x.test" {
		t.Errorf("in the trash: %+v", l)
	}
}

// What was removed while the clock was ahead is deleted, too, when the trash is emptied.
func TestTheTrashIsEmptiedAfterTheClockWasAhead(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{TrashSize: trashSize})
	b.accept("x", to("a@x.test"))
	b.step(365 * 24 * time.Hour)
	b.touched(1)(b.Remove(t.Context(), Filter{}))
	b.step(-365 * 24 * time.Hour)
	if n, err := b.EmptyTrash(t.Context()); n != 1 || err != nil || b.chunks() != 0 {
		t.Errorf("%d deleted, %v; %d chunks are left", n, err, b.chunks())
	}
}

// chunks counts the chunks of bodies in the store.
func (b *bench) chunks() int {
	b.Helper()
	b.sync()
	return b.keys(store.PrefixBody)
}

package history

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestMailNeverWaitsForTheHistory(t *testing.T) {
	c := newClock()
	block, blocked := make(chan struct{}), make(chan struct{})
	var once sync.Once
	l := open(t, t.TempDir(), c, func(o *Options) {
		o.CheckSpace = func(int64) error { once.Do(func() { close(blocked); <-block }); return nil }
	})
	l.Add(attempt("01A", "anna@sender.example", "kurt@a.example", "delivered"))
	done := make(chan error)
	go func() { done <- l.Sync(context.Background()) }()
	<-blocked
	for range queueLength + 7 {
		l.Add(attempt("01B", "anna@sender.example", "kurt@a.example", "delivered"))
	}
	if n := l.Dropped(); n != 7 {
		t.Errorf("%d dropped", n)
	}
	close(block)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := find(t, l, Query{}); len(got) != queueLength+1 {
		t.Errorf("%d records", len(got))
	}
}

func TestAFullDiskIsSaidAndEnds(t *testing.T) {
	c := newClock()
	full := errors.New("the disk is full")
	var mu sync.Mutex
	var space error
	set := func(err error) { mu.Lock(); space = err; mu.Unlock() }
	l := open(t, t.TempDir(), c, func(o *Options) {
		o.CheckSpace = func(int64) error { mu.Lock(); defer mu.Unlock(); return space }
	})
	l.Add(attempt("01A", "anna@sender.example", "kurt@a.example", "delivered"))
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	set(full)
	c.advance(time.Minute)
	for range 2 {
		l.Add(attempt("01B", "anna@sender.example", "kurt@a.example", "delivered"))
		if err := l.Sync(t.Context()); !errors.Is(err, full) {
			t.Fatal(err)
		}
		c.advance(time.Minute)
	}
	if l.Dropped() != 2 || l.Failure() != full.Error() {
		t.Errorf("%d dropped, failure %q", l.Dropped(), l.Failure())
	}
	set(nil)
	l.Add(attempt("01C", "anna@sender.example", "kurt@a.example", "delivered"))
	got := find(t, l, Query{OldestFirst: true})
	if ids(got) != "01A  01C" || l.Failure() != "" {
		t.Fatalf("%q, failure %q", ids(got), l.Failure())
	}
	if gap := got[1]; gap.Kind != Gap || gap.Lines != 2 || gap.MissingTo.Sub(*gap.MissingFrom) != time.Minute {
		t.Errorf("%+v", gap)
	}
}

func TestOldDaysGo(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	l := open(t, dir, c, func(o *Options) { o.Keep = 72 * time.Hour })
	tidy := func() (names []string) {
		t.Helper()
		if err := l.order(t.Context(), func(w *writer) error { w.drain(); _ = w.flush(); w.nextTidy = time.Time{}; w.tidy(); return nil }); err != nil {
			t.Fatal(err)
		}
		list, err := days(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range list {
			names = append(names, d.day)
		}
		return names
	}
	for range 6 {
		l.Add(attempt("01A", "anna@sender.example", "kurt@a.example", "delivered"))
		tidy()
		c.advance(24 * time.Hour)
	}
	if got := tidy(); !slices.Equal(got, []string{"2026-11-30", "2026-12-01", "2026-12-02"}) {
		t.Errorf("%v", got)
	}
	if !l.Shortened().IsZero() {
		t.Errorf("shortened: %v", l.Shortened())
	}
	l.Set(Settings{Keep: 720 * time.Hour, Size: 1})
	l.Add(attempt("01A", "anna@sender.example", "kurt@a.example", "delivered"))
	if got := tidy(); !slices.Equal(got, []string{"2026-12-03"}) || !l.Shortened().Equal(time.Date(2026, 12, 3, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("%v, shortened %v", got, l.Shortened())
	}
}

func BenchmarkAdd(b *testing.B) {
	l, err := Open(Options{Dir: b.TempDir(), Key: []byte("k"), Settings: Settings{Keep: time.Hour, Addresses: AddressesFull}})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	b.ReportAllocs()
	for i := range b.N {
		l.Add(attempt(fmt.Sprint("01", i), "anna@sender.example", fmt.Sprintf("kurt%d@a.example", i), "delivered"))
		if i%1000 == 0 {
			_ = l.Sync(b.Context())
		}
	}
}

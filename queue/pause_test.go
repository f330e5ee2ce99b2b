package queue

import (
	"errors"
	"slices"
	"testing"
	"time"
)

// pausedDomains are the domains of the pauses that last, "" for delivery as a whole.
func (b *bench) pausedDomains() (domains []string) {
	for _, p := range b.Pauses() {
		domains = append(domains, p.Domain)
	}
	return domains
}

func (b *bench) pause(domain string, d time.Duration) {
	b.Helper()
	p, err := b.Pause(b.Context(), domain, d, "socket 0")
	if err != nil || p.Domain != domain || p.By != "socket 0" || !p.Since.Equal(b.o.Now()) || d > 0 && p.Until.Sub(p.Since) != d {
		b.Fatalf("%+v, %v", p, err)
	}
}

func TestAPauseSurvivesARestartAndEndsByItself(t *testing.T) {
	t.Parallel()
	for _, domain := range []string{"", "x.test"} {
		b := newBench(t, Options{})
		b.accept("1", to("a@x.test"))
		b.pause(domain, 2*time.Hour)
		b.advance(time.Hour)
		b.restart()
		b.nothing("while " + domain + " is paused")
		if got := b.pausedDomains(); !slices.Equal(got, []string{domain}) || b.Paused() != (domain == "") {
			t.Errorf("%q is paused: %q", domain, got)
		}
		if m := b.show(b.ids(Filter{})[0]); domain != "" && m.NextAttemptAt.Sub(b.o.Now()).Round(time.Minute) != time.Hour {
			t.Errorf("the next attempt is at %s, now it is %s", m.NextAttemptAt, b.o.Now())
		}
		b.advance(time.Hour + time.Second)
		b.claim()
		if got := b.pausedDomains(); len(got) != 0 || b.Paused() {
			t.Errorf("after its end: %q", got)
		}
	}
}

func TestAPausedDomainLetsOtherMailGo(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	id := b.accept("1", to("a@x.test", "b@y.test"))
	b.pause("x.test", 0)
	b.pause("x.test", 0) // again: it stays one
	if w := b.claim(); w.Domain != "y.test" {
		t.Fatalf("%s was claimed", w.Domain)
	} else {
		b.finish(w, Delivered)
	}
	b.touched(1)(b.Retry(t.Context(), Filter{IDs: []ID{id}}))
	b.nothing("of a paused domain")
	if m := b.show(id); !m.NextAttemptAt.IsZero() || !b.Summary()[0].NextAttemptAt.IsZero() {
		t.Errorf("a pause without an end ends at %s", m.NextAttemptAt)
	}
	b.restart()
	b.nothing("of a paused domain after a restart")
	if found, err := b.Resume(t.Context(), "y.test"); found || err != nil {
		t.Errorf("a domain that is not paused was resumed: %v", err)
	}
	if found, err := b.Resume(t.Context(), "x.test"); !found || err != nil || len(b.Pauses()) != 0 {
		t.Errorf("it was not paused: %v", err)
	}
	b.claim()
	b.restart()
	b.claim() // the end of the pause was stored, too
}

func TestAPauseOfAllWithoutAnEndLastsUntilTheNextStart(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	b.accept("1", to("a@x.test"))
	b.pause("", 0)
	b.nothing("while paused")
	b.restart()
	b.claim()
	b.pause("", time.Hour)
	if found, err := b.Resume(t.Context(), ""); !found || err != nil || b.Paused() {
		t.Errorf("it goes on: %v", err)
	}
}

func TestNoMoreDomainsArePausedThanAreKept(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	for i := range maxPauses {
		b.Queue.pauses = append(b.Queue.pauses, Pause{Domain: numbered("x", i+1)[i]})
	}
	if _, err := b.Pause(t.Context(), "one.more", 0, ""); !errors.Is(err, ErrTooManyPauses) {
		t.Errorf("%v", err)
	}
}

package trace

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// texts are those of the events that w has been given.
func texts(w *Watcher) (out []string) {
	for {
		select {
		case e, ok := <-w.Events():
			if !ok {
				return append(out, "closed")
			}
			out = append(out, e.Text)
		default:
			return out
		}
	}
}

func TestAWatcherGetsTheAttemptsThatItAsksFor(t *testing.T) {
	for _, row := range []struct {
		filter Filter
		want   string
	}{
		{Filter{}, "begin 1, begin 2, mx1, other, mx2, end 1, begin 3, end 2"},
		{Filter{ID: "1"}, "begin 1, mx1, other, mx2, end 1"},
		{Filter{Domain: "b.test"}, "begin 2, end 2"},
		{Filter{Host: "mx2"}, "begin 1, other, mx2, end 1"},
		{Filter{Attempts: 1}, "begin 1, mx1, other, mx2, end 1, closed"},
		{Filter{Domain: "b.test", Attempts: 1}, "begin 2, end 2, closed"},
		{Filter{ID: "9"}, ""},
	} {
		tracer := new(Tracer)
		w, err := tracer.Watch(row.filter)
		if err != nil {
			t.Fatal(err)
		}
		one, two := begin(tracer, "1", "a.test", "begin 1"), begin(tracer, "2", "b.test", "begin 2")
		one.Add("mx1", Sent, "mx1")
		one.Add("", DNS, "other")
		one.Add("mx2", Sent, "mx2")
		one.End(true, "end 1")
		begin(tracer, "3", "c.test", "begin 3")
		two.End(false, "end 2")
		if got := strings.Join(texts(w), ", "); got != row.want {
			t.Errorf("%+v: %s, want %s", row.filter, got, row.want)
		}
		w.Close()
		w.Close()
		if tracer.watchers.Load() != nil {
			t.Error("a watcher is left")
		}
	}
}

func TestAWatcherComesInTheMiddleOfAnAttempt(t *testing.T) {
	tracer := new(Tracer)
	a := begin(tracer, "1", "a.test", "begin")
	w, _ := tracer.Watch(Filter{ID: "1"})
	defer w.Close()
	a.Add("", DNS, "dns")
	if got := strings.Join(texts(w), ", "); got != "begin, dns" {
		t.Error(got)
	}
}

func TestAtMostFourWatch(t *testing.T) {
	tracer := new(Tracer)
	var last *Watcher
	for range 4 {
		last, _ = tracer.Watch(Filter{})
	}
	if _, err := tracer.Watch(Filter{}); !errors.Is(err, ErrTooMany) {
		t.Errorf("a fifth: %v", err)
	}
	last.Close()
	if _, err := tracer.Watch(Filter{}); err != nil {
		t.Errorf("after one has ended: %v", err)
	}
}

func TestAnAttemptDoesNotWaitForAWatcher(t *testing.T) {
	tracer := new(Tracer)
	w, _ := tracer.Watch(Filter{})
	defer w.Close()
	a := begin(tracer, "1", "a.test", "begin")
	for i := range buffered + 10 {
		a.Add("", Sent, fmt.Sprint(i))
	}
	for range buffered {
		<-w.Events()
	}
	a.Add("", Sent, "last")
	if e := <-w.Events(); e.Text != "last" || e.Dropped != 11 {
		t.Errorf("%+v", e)
	}
	a.Add("", Sent, "next")
	if e := <-w.Events(); e.Dropped != 0 {
		t.Errorf("%+v", e)
	}
}

func TestTranscriptsAreBounded(t *testing.T) {
	tracer := new(Tracer)
	for i := range maxTranscripts + 5 {
		a := begin(tracer, fmt.Sprint(i), "a.test", "begin")
		for range 100 {
			a.Add("mx", Received, strings.Repeat("x\xff", 1000))
		}
		a.End(true, "the end")
	}
	if len(tracer.kept) != maxTranscripts || len(tracer.order) != maxTranscripts || len(tracer.Transcripts("4")) != 0 {
		t.Errorf("%d and %d are kept", len(tracer.kept), len(tracer.order))
	}
	got := tracer.Transcripts("5")
	if len(got) != 1 || got[0].Dropped == 0 {
		t.Fatalf("%+v", got)
	}
	size := 0
	for _, e := range got[0].Events {
		size += len(e.Text)
	}
	if last := got[0].Events[len(got[0].Events)-1]; size > maxTranscript || last.Text != "the end" || last.Step != Ended {
		t.Errorf("%d octets, the last event is %+v", size, last)
	}

	begin(tracer, "5", "b.test", "begin").End(true, "other")
	begin(tracer, "5", "a.test", "begin").End(true, "again")
	if got := tracer.Transcripts("5"); len(got) != 2 || len(got[0].Events) != 2 || got[1].Domain != "b.test" {
		t.Errorf("%+v", got)
	}
	begin(tracer, "5", "a.test", "begin").End(false, "delivered")
	if got := tracer.Transcripts("5"); len(got) != 1 || got[0].Domain != "b.test" {
		t.Errorf("after a delivery: %+v", got)
	}
}

func TestNothingIsCollectedWithoutATracer(t *testing.T) {
	var tracer *Tracer
	a := begin(tracer, "1", "a.test", "begin")
	a.Add("mx", Sent, "x")
	a.End(true, "end")
	if a != nil {
		t.Error("there is an attempt")
	}
}

func TestWatchersComeAndGoWhileAttemptsRun(t *testing.T) {
	tracer := new(Tracer)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for range 200 {
				a := begin(tracer, fmt.Sprint(i), "a.test", "begin")
				a.Add("mx", Sent, "line")
				a.End(true, "end")
				tracer.Transcripts("1")
			}
		})
		all.Go(func() {
			for range 200 {
				w, err := tracer.Watch(Filter{Attempts: 1})
				if err == nil {
					texts(w)
					w.Close()
				}
			}
		})
	}
	all.Wait()
}

// Texts that cost something are made for those who watch, and for an attempt that fails.
func TestTextsAreMadeWhereSomebodyReadsThem(t *testing.T) {
	for _, row := range []struct {
		name            string
		before, between bool // when somebody begins to watch
		failed          bool
		made            int
	}{
		{"nobody reads them", false, false, false, 0},
		{"the attempt fails", false, false, true, 1},
		{"somebody watches", true, false, false, 1},
		{"somebody watches, and it fails", true, false, true, 1},
		{"somebody comes later", false, true, true, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			tracer, made, asked := new(Tracer), 0, 0
			watch := func() *Watcher {
				w, err := tracer.Watch(Filter{})
				if err != nil {
					t.Fatal(err)
				}
				return w
			}
			var w *Watcher
			if row.before {
				w = watch()
			}
			a := begin(tracer, "1", "a.test", "begin")
			a.AddLate("mx", LateFunc(func() []Said { made++; return []Said{{TLS, "tls"}, {Judge, "judge"}} }))
			a.AddLate("", LateFunc(func() []Said { asked++; return []Said{{DNS, "dns"}} }))
			if row.between {
				w = watch()
			}
			a.Add("mx", Sent, "sent")
			a.End(row.failed, "end")
			if made != row.made || asked != row.made {
				t.Errorf("made %d and %d times, want %d", made, asked, row.made)
			}
			const want = "begin, tls, judge, dns, sent, end"
			if w != nil {
				if got := strings.Join(texts(w), ", "); got != want {
					t.Errorf("watched: %s", got)
				}
			}
			var kept []string
			for _, transcript := range tracer.Transcripts("1") {
				for _, e := range transcript.Events {
					kept = append(kept, e.Text)
				}
			}
			if got := strings.Join(kept, ", "); row.failed && got != want || !row.failed && got != "" {
				t.Errorf("kept: %s", got)
			}
		})
	}
}

// begin begins an attempt, with an event.
func begin(t *Tracer, id, domain, text string) *Attempt {
	a := t.Begin(id, domain)
	a.Add("", Began, text)
	return a
}

package trace

import (
	"slices"
	"sync"

	"github.com/stsrelay/stsrelay/internal/phrase"
)

const (
	maxWatchers = 4
	buffered    = 1000 // events that a watcher has not taken yet
)

// ErrTooMany is returned where as many watch as may.
var ErrTooMany = phrase.Errorf("4 traces run already; end one of them")

// Filter selects attempts. What is "" selects all.
type Filter struct {
	ID     string // the queue ID of the message
	Domain string // of the recipients
	Host   string // of which events are about; those about no host are selected with them
	// Attempts is how many attempts are watched; 0: all that begin.
	Attempts int
}

// Watcher gets the events of attempts. Close must be called.
type Watcher struct {
	t      *Tracer
	filter Filter
	ch     chan Event

	mu      sync.Mutex
	follows map[*Attempt]bool
	begun   int // attempts
	ended   int
	dropped int // events since the last one that was taken
	closed  bool
}

// Watch returns a Watcher. The error is ErrTooMany.
func (t *Tracer) Watch(f Filter) (*Watcher, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []*Watcher
	if p := t.watchers.Load(); p != nil {
		all = *p
	}
	if len(all) >= maxWatchers {
		return nil, ErrTooMany
	}
	w := &Watcher{t: t, filter: f, ch: make(chan Event, buffered), follows: make(map[*Attempt]bool)}
	all = append(slices.Clone(all), w)
	t.watchers.Store(&all)
	return w, nil
}

// Events returns the events. The channel is closed once all attempts that were asked
// for have ended, and by Close.
func (w *Watcher) Events() <-chan Event { return w.ch }

// Close ends the watch.
func (w *Watcher) Close() {
	w.t.mu.Lock()
	if p := w.t.watchers.Load(); p != nil {
		left := slices.DeleteFunc(slices.Clone(*p), func(x *Watcher) bool { return x == w })
		if w.t.watchers.Store(&left); len(left) == 0 {
			w.t.watchers.Store(nil)
		}
	}
	w.t.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closeLocked()
}

func (w *Watcher) closeLocked() {
	if !w.closed {
		w.closed = true
		close(w.ch)
	}
}

// offer gives e, an event of a, to w if it is selected. The lock of a is held.
func (w *Watcher) offer(a *Attempt, e Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	if !w.follows[a] {
		if !w.selects(a, e) || e.Step == Ended {
			return
		}
		w.begun++
		w.follows[a] = true
		for _, earlier := range a.allLocked() {
			w.sendLocked(earlier)
		}
	}
	w.sendLocked(e)
	if e.Step != Ended {
		return
	}
	delete(w.follows, a)
	if w.ended++; w.ended == w.filter.Attempts {
		w.closeLocked()
	}
}

// selects reports whether an attempt is to be followed from e on.
func (w *Watcher) selects(a *Attempt, e Event) bool {
	f := &w.filter
	return (f.Attempts == 0 || w.begun < f.Attempts) && (f.ID == "" || f.ID == a.unit.id) &&
		(f.Domain == "" || f.Domain == a.unit.domain) && (f.Host == "" || f.Host == e.Host)
}

// sendLocked sends an event of an attempt that is followed.
func (w *Watcher) sendLocked(e Event) {
	if w.filter.Host != "" && e.Host != "" && e.Host != w.filter.Host {
		return
	}
	e.Dropped = w.dropped
	select {
	case w.ch <- e:
		w.dropped = 0
	default:
		w.dropped++
	}
}

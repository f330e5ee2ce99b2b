// Package trace has what attempts to deliver say and hear, step by step: for those who
// watch the next attempt, for those who ask afterwards why the last one failed, and for
// those who ask what an attempt waits for now.
//
// Everything is in memory, and bounded. An attempt waits for nobody who watches: events
// that a watcher does not take in time are dropped, and counted. There is no content
// and no password in an event: package smtpclient does not tell them.
package trace

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Step is what an event is about.
type Step string

// The steps.
const (
	Began    Step = "attempt"  // the attempt begins
	DNS      Step = "dns"      // an answer of the resolver
	Policy   Step = "policy"   // the MTA-STS policy in force, and its origin
	Host     Step = "host"     // a host is taken or passed over, and why
	Connect  Step = "connect"  // a connection
	Sent     Step = "sent"     // a line to the host
	Received Step = "received" // a line from the host
	TLS      Step = "tls"      // what the handshake showed
	Judge    Step = "judge"    // what one source of demands says of the session
	Result   Step = "result"   // what became of recipients
	Ended    Step = "end"      // the attempt ends
)

const (
	maxTranscripts = 1000    // that are kept
	maxTranscript  = 4 << 10 // octets of its texts
	maxText        = 600     // octets of the text of an event
)

// Event is one step of an attempt.
type Event struct {
	At      time.Time `json:"at"`
	QueueID string    `json:"queue_id"`
	Domain  string    `json:"domain"` // of the recipients
	Host    string    `json:"host"`   // "" where it is about none
	Step    Step      `json:"step"`
	Text    string    `json:"text"`
	// Dropped is how many events were dropped before this one, since nobody took them
	// in time.
	Dropped int `json:"dropped,omitempty"`
}

// Transcript is what the last attempt at the recipients of one domain said and heard.
type Transcript struct {
	QueueID string  `json:"queue_id"`
	Domain  string  `json:"domain"`
	Events  []Event `json:"events"`
	// Dropped is how many events at the beginning there was no room for.
	Dropped int `json:"dropped"`
}

// Tracer has the attempts of a relay. The zero value is ready.
type Tracer struct {
	watchers atomic.Pointer[[]*Watcher] // a list that is never changed; nil: there are none

	mu       sync.Mutex
	underWay map[*Attempt]struct{}
	kept     map[unit]*Transcript
	order    []unit // of kept, the oldest first
}

// unit is what one attempt is about.
type unit struct{ id, domain string }

// Attempt collects the events of one attempt. A nil Attempt collects nothing.
type Attempt struct {
	t    *Tracer
	unit unit

	mu      sync.Mutex
	events  []entry
	size    int // octets of their texts
	dropped int
	wait    wait
	unread  [4]string // memory of wait.unread
}

// entry is an event, or a place for events whose texts nobody has asked for yet.
type entry struct {
	at   time.Time
	host string
	Said
	late Late // nil: it is an event
}

// Said is a step and its text.
type Said struct {
	Step Step
	Text string
}

// Late is what makes texts where somebody reads them. Where it is a pointer to what is there
// already, an event that nobody reads needs no memory of its own.
type Late interface{ Said() []Said }

// LateFunc is a function that makes texts.
type LateFunc func() []Said

// Said implements Late.
func (f LateFunc) Said() []Said { return f() }

// Begin begins an attempt at the recipients in a domain of the message with an ID. It
// returns nil if t is nil. End must follow.
func (t *Tracer) Begin(id, domain string) *Attempt {
	if t == nil {
		return nil
	}
	a := &Attempt{t: t, unit: unit{id, domain}, events: make([]entry, 0, 24)}
	a.wait.unread = a.unread[:0]
	t.mu.Lock()
	if t.underWay == nil {
		t.underWay = make(map[*Attempt]struct{})
	}
	t.underWay[a] = struct{}{}
	t.mu.Unlock()
	return a
}

// Watched reports whether anybody watches attempts now.
func (a *Attempt) Watched() bool { return a != nil && a.t.watchers.Load() != nil }

// Add adds an event about a host, "" for none.
func (a *Attempt) Add(host string, step Step, text string) {
	if a == nil {
		return
	}
	e := entry{at: time.Now(), host: host, Said: Said{step, clipped(text)}}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.addLocked(e)
}

// AddLate adds events about a host whose texts cost something to make. They are made for
// those who watch, and for an attempt that fails.
func (a *Attempt) AddLate(host string, texts Late) {
	if a == nil {
		return
	}
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.t.watchers.Load() == nil {
		a.events = append(a.events, entry{at: now, host: host, late: texts})
		return
	}
	for _, s := range texts.Said() {
		a.addLocked(entry{at: now, host: host, Said: Said{s.Step, clipped(s.Text)}})
	}
}

func (a *Attempt) event(e *entry) Event {
	return Event{At: e.at.UTC(), QueueID: a.unit.id, Domain: a.unit.domain, Host: e.host, Step: e.Step, Text: e.Text}
}

// clipped is a text as an event has it.
func clipped(text string) string {
	if len(text) > maxText {
		return strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

func (a *Attempt) addLocked(e entry) {
	if watchers := a.t.watchers.Load(); watchers != nil {
		for _, w := range *watchers {
			w.offer(a, a.event(&e))
		}
	}
	switch e.Step {
	case Sent:
		a.wait.sent(e.host, e.Text, e.at)
	case Received:
		a.wait.received(e.host, e.Text, e.at)
	}
	a.events = append(a.events, e)
	a.size += len(e.Text)
	a.trimLocked()
}

// allLocked returns all events so far. Texts that were left for later are made now.
func (a *Attempt) allLocked() []Event {
	late := slices.ContainsFunc(a.events, func(e entry) bool { return e.late != nil })
	if late {
		var all []entry
		for _, e := range a.events {
			if e.late == nil {
				all = append(all, e)
				continue
			}
			for _, s := range e.late.Said() {
				said := entry{at: e.at, host: e.host, Said: Said{s.Step, clipped(s.Text)}}
				all = append(all, said)
				a.size += len(said.Text)
			}
		}
		a.events = all
		a.trimLocked()
	}
	out := make([]Event, len(a.events))
	for i := range a.events {
		out[i] = a.event(&a.events[i])
	}
	return out
}

// trimLocked drops the first events where there is no room for all.
func (a *Attempt) trimLocked() {
	for a.size > maxTranscript {
		a.size -= len(a.events[0].Text)
		a.events = a.events[1:]
		a.dropped++
	}
}

// End ends the attempt. The transcript is kept if it has failed; one that did not
// removes that of an attempt before.
func (a *Attempt) End(failed bool, text string) {
	if a == nil {
		return
	}
	if failed || a.Watched() {
		a.Add("", Ended, text)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.t.keep(a, failed)
}

func (t *Tracer) keep(a *Attempt, failed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.underWay, a)
	if _, ok := t.kept[a.unit]; ok {
		delete(t.kept, a.unit)
		t.order = slices.DeleteFunc(t.order, func(u unit) bool { return u == a.unit })
	}
	if !failed {
		return
	}
	if len(t.order) == maxTranscripts {
		delete(t.kept, t.order[0])
		t.order = slices.Delete(t.order, 0, 1)
	}
	if t.kept == nil {
		t.kept = make(map[unit]*Transcript)
	}
	events := a.allLocked() // which may drop some
	t.kept[a.unit] = &Transcript{QueueID: a.unit.id, Domain: a.unit.domain, Events: events, Dropped: a.dropped}
	t.order = append(t.order, a.unit)
}

// Transcripts returns those of the attempts that have failed last, at the message with
// an ID, by domain. They must not be changed.
func (t *Tracer) Transcripts(id string) []Transcript {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := []Transcript{}
	for _, u := range t.order {
		if u.id == id {
			out = append(out, *t.kept[u])
		}
	}
	slices.SortFunc(out, func(a, b Transcript) int { return strings.Compare(a.Domain, b.Domain) })
	return out
}

// Package trace has what attempts to deliver say and hear, step by step: for those who
// watch the next attempt, and for those who ask afterwards why the last one failed.
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
	"unicode/utf8"
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

	mu    sync.Mutex
	kept  map[unit]*Transcript
	order []unit // of kept, the oldest first
}

// unit is what one attempt is about.
type unit struct{ id, domain string }

// Attempt collects the events of one attempt. A nil Attempt collects nothing.
type Attempt struct {
	t    *Tracer
	unit unit

	mu      sync.Mutex
	events  []Event
	size    int // octets of their texts
	dropped int
}

// Begin begins an attempt at the recipients in a domain of the message with an ID. It
// returns nil if t is nil.
func (t *Tracer) Begin(id, domain, text string) *Attempt {
	if t == nil {
		return nil
	}
	a := &Attempt{t: t, unit: unit{id, domain}, events: make([]Event, 0, 16)}
	a.Add("", Began, text)
	return a
}

// Add adds an event about a host, "" for none.
func (a *Attempt) Add(host string, step Step, text string) {
	if a == nil {
		return
	}
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	} else if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "\uFFFD")
	}
	e := Event{At: time.Now().UTC(), QueueID: a.unit.id, Domain: a.unit.domain, Host: host, Step: step, Text: text}
	a.mu.Lock()
	defer a.mu.Unlock()
	if watchers := a.t.watchers.Load(); watchers != nil {
		for _, w := range *watchers {
			w.offer(a, e)
		}
	}
	a.events = append(a.events, e)
	a.size += len(text)
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
	a.Add("", Ended, text)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.t.keep(a, failed)
}

func (t *Tracer) keep(a *Attempt, failed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
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
	t.kept[a.unit] = &Transcript{QueueID: a.unit.id, Domain: a.unit.domain, Events: slices.Clone(a.events), Dropped: a.dropped}
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

package operator

import (
	"fmt"
	"slices"
	"time"

	"github.com/stsrelay/stsrelay/internal/human"
	"github.com/stsrelay/stsrelay/internal/mailbox"
	"github.com/stsrelay/stsrelay/internal/phrase"
	"github.com/stsrelay/stsrelay/relay/trace"
)

// Trace watches attempts that begin from now on. The ID of the filter may be the
// beginning of one. The caller closes what it returns.
func (o *Operator) Trace(f trace.Filter) (*trace.Watcher, error) {
	if f.ID == "" && f.Domain == "" && f.Host == "" {
		return nil, failed(invalid, phrase.Errorf("say what to trace: a message, a domain or a host"))
	}
	if f.ID != "" {
		m, err := o.find(f.ID)
		if err != nil {
			return nil, err
		}
		f.ID = m.ID.String()
	}
	for _, name := range []*string{&f.Domain, &f.Host} {
		if *name == "" {
			continue
		}
		parsed, err := mailbox.ParseName(*name)
		if err != nil {
			return nil, failed(invalid, err)
		}
		*name = parsed
	}
	w, err := o.o.Trace.Watch(f)
	if err != nil {
		return nil, failed(conflict, err)
	}
	return w, nil
}

// Awaited is what an attempt under way waits for.
type Awaited struct {
	Domain string `json:"domain"` // of the recipients
	// For is what it waits for, such as "the greeting of mx1.example".
	For   phrase.Phrase `json:"for"`
	Since time.Time     `json:"since"`
	// Sessions is how many sessions with the host are open or being opened, and Limit how
	// many may be; 0 where it does not wait for a host.
	Sessions int `json:"sessions,omitempty"`
	Limit    int `json:"sessions_limit,omitempty"`
}

// String returns what it waits for, for how long, and how many sessions the host has.
func (w Awaited) String() string {
	s := w.For.String() + ", " + human.Span(time.Since(w.Since))
	if w.Limit > 0 {
		s += fmt.Sprintf(", %d of %s", w.Sessions, human.Plural(w.Limit, "session"))
	}
	return s
}

// underWay returns what the attempts under way wait for, by the ID of the message.
func (o *Operator) underWay() map[string][]Awaited {
	if o.o.Trace == nil {
		return nil
	}
	out := make(map[string][]Awaited)
	for _, w := range o.o.Trace.UnderWay() {
		if !w.For.IsZero() {
			out[w.QueueID] = append(out[w.QueueID], Awaited{Domain: w.Domain, For: w.For, Since: w.Since.UTC().Truncate(time.Millisecond), Sessions: w.Sessions, Limit: w.Limit})
		}
	}
	for _, list := range out {
		slices.SortFunc(list, func(a, b Awaited) int { return a.Since.Compare(b.Since) })
	}
	return out
}

// Transcripts returns what the last failed attempts at a message said and heard, by
// domain. Only the last ones of all mail are in memory.
func (o *Operator) Transcripts(id string) ([]trace.Transcript, error) {
	m, err := o.find(id)
	if err != nil {
		return nil, err
	}
	return o.o.Trace.Transcripts(m.ID.String()), nil
}

package check

import (
	"fmt"
	"time"

	"github.com/stsrelay/stsrelay/internal/human"
)

// published writes what this relay publishes for the domain.
func (t *text) published(p *Published) {
	t.head("Published by this relay", "")
	kind, served := "ok", "the running relay serves it"
	if !p.Served {
		kind, served = "note", "no running relay serves it"
	}
	t.mark(kind, fmt.Sprintf("mode %s, id %s; %s", p.Mode, p.ID, served))
	t.problems(p.Problems)
}

// waiting writes what waits in the running relay's queue.
func (t *text) waiting(w *Waiting, now time.Time) {
	t.head("In the queue of the running relay", "")
	line := human.Plural(w.Messages, "message") + ", the oldest for " + human.Span(now.Sub(w.OldestAt))
	if w.NextAttemptAt != nil && w.NextAttemptAt.After(now) {
		line += "; next attempt in " + human.Span(w.NextAttemptAt.Sub(now))
	}
	t.line("  %s", line)
	if w.FailingSince != nil {
		t.line("  every attempt has failed since %s UTC, for %s", w.FailingSince.UTC().Format(time.DateTime), human.Span(now.Sub(*w.FailingSince)))
	}
	t.problems(w.Problems)
}

package history

import (
	"testing"
	"time"
)

func TestWhatWasAddedIsFoundAtOnceAndNewestFirst(t *testing.T) {
	c := newClock()
	l := open(t, t.TempDir(), c)
	l.Add(attempt("01A", "anna@sender.example", "Kurt@A.example", "delivered"))
	c.advance(time.Hour)
	l.Add(attempt("01B", "anna@sender.example", "lisa@b.example", "deferred"))
	c.advance(20 * time.Hour) // another day
	l.Add(attempt("01C", "otto@sender.example", "kurt@a.example", "delivered"))
	yesterday := time.Date(2026, 11, 27, 0, 0, 0, 0, time.UTC)
	for _, row := range []struct {
		name string
		q    Query
		want string
	}{
		{"all", Query{}, "01C 01B 01A"},
		{"oldest first", Query{OldestFirst: true}, "01A 01B 01C"},
		{"recipient, in other letters", Query{To: "KURT@a.example"}, "01C 01A"},
		{"sender", Query{From: "anna@sender.example"}, "01B 01A"},
		{"domain", Query{Domain: "A.EXAMPLE"}, "01C 01A"},
		{"message ID with brackets", Query{MessageID: "<01B@sender.example>"}, "01B"},
		{"message ID without", Query{MessageID: "01b@sender.example"}, "01B"},
		{"beginning of a queue ID", Query{QueueID: "01"}, "01C 01B 01A"},
		{"verdict", Query{Verdict: "deferred"}, "01B"},
		{"proof", Query{Proof: ProofDANE}, ""},
		{"kind", Query{Kinds: []Kind{Accepted}}, ""},
		{"yesterday", Query{Since: yesterday, Until: yesterday.AddDate(0, 0, 1)}, "01B 01A"},
		{"from a time on", Query{Since: yesterday.Add(10 * time.Hour)}, "01C 01B"},
		{"limit", Query{Limit: 2}, "01C 01B"},
		{"all of it", Query{From: "anna@sender.example", Domain: "a.example", Verdict: "delivered"}, "01A"},
	} {
		if got := ids(find(t, l, row.q)); got != row.want {
			t.Errorf("%s: %q, not %q", row.name, got, row.want)
		}
	}
}

package postgres

import (
	"fmt"
	"strings"
	"time"

	"github.com/stsrelay/stsrelay/internal/phrase"
)

// Trouble is something about a fleet that needs a person.
type Trouble struct {
	// Key is the same for the same trouble. It has no blanks.
	Key string
	// Text says what it is and what helps.
	Text phrase.Phrase
}

// Troubles are what an operator should know of.
func (f *Fleet) Troubles(replication Replication) (list []Trouble) {
	say := func(key string, text phrase.Phrase) { list = append(list, Trouble{Key: key, Text: text}) }
	for i := range f.Spaces {
		if s := &f.Spaces[i]; !s.Held() && s.Messages > 0 {
			say("space-"+strings.ReplaceAll(s.Name, " ", "-"), phrase.New("nobody holds the messages of %s: %d wait; start it, or another relay, which takes them over", s.Name, s.Messages))
		}
	}
	if replication == Required && !f.inStep() {
		say("standby", phrase.New("no standby is in step: no mail is accepted until one is (standbys: %s)", f.standbyNames()))
	}
	if d := f.Clock.Abs(); d > 2*time.Second {
		say("clock", phrase.New("the clock of PostgreSQL differs from this machine's by %s; set both by NTP", d.Round(time.Millisecond)))
	}
	if f.OldestTransaction > time.Hour {
		say("transaction", phrase.New("a transaction of PostgreSQL is open for %s: deleted messages are not cleaned up meanwhile; pg_stat_activity names it", f.OldestTransaction.Round(time.Minute)))
	}
	if f.Dead > f.Live && f.Dead > 100000 {
		say("dead-rows", phrase.New("the table of entries has %d dead rows and %d live ones: is autovacuum on?", f.Dead, f.Live))
	}
	return list
}

// inStep reports whether commits wait for a standby that follows.
func (f *Fleet) inStep() bool {
	for _, s := range f.Standbys {
		if s.State == "streaming" && (s.Sync == "sync" || s.Sync == "quorum") {
			return true
		}
	}
	return false
}

func (f *Fleet) standbyNames() phrase.Phrase {
	var names []string
	for _, s := range f.Standbys {
		names = append(names, fmt.Sprintf("%s %s %s", s.Name, s.State, s.Sync))
	}
	if names == nil {
		return phrase.New("none that this user can see")
	}
	return phrase.Quote(strings.Join(names, ", "))
}

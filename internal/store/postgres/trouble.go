package postgres

import (
	"fmt"
	"strings"
	"time"
)

// Trouble is something about a fleet that needs a person.
type Trouble struct {
	// Key is the same for the same trouble. It has no blanks.
	Key string
	// Text says in English what it is and what helps, German in German.
	Text, German string
}

// Troubles are what an operator should know of.
func (f *Fleet) Troubles(replication Replication) (list []Trouble) {
	say := func(key, english, german string, args ...any) {
		list = append(list, Trouble{Key: key, Text: fmt.Sprintf(english, args...), German: fmt.Sprintf(german, args...)})
	}
	for i := range f.Spaces {
		if s := &f.Spaces[i]; !s.Held() && s.Messages > 0 {
			say("space-"+strings.ReplaceAll(s.Name, " ", "-"), "nobody holds the messages of %s: %d wait; start it, or another relay, which takes them over",
				"Niemand arbeitet an den Nachrichten von %s: %d warten; starten Sie es oder ein anderes Relay, das sie übernimmt", s.Name, s.Messages)
		}
	}
	if replication == Required && !f.inStep() {
		say("standby", "no standby is in step: no mail is accepted until one is (standbys: %s)",
			"Kein Standby hält Schritt: Bis einer es tut, wird keine Mail angenommen (Standbys: %s)", f.standbyNames())
	}
	if d := f.Clock.Abs(); d > 2*time.Second {
		say("clock", "the clock of PostgreSQL differs from this machine's by %s; set both by NTP",
			"Die Uhr von PostgreSQL weicht von der dieser Maschine um %s ab; stellen Sie beide mit NTP", d.Round(time.Millisecond))
	}
	if f.OldestTransaction > time.Hour {
		say("transaction", "a transaction of PostgreSQL is open for %s: deleted messages are not cleaned up meanwhile; pg_stat_activity names it",
			"Eine Transaktion in PostgreSQL ist seit %s offen: Solange wird nicht aufgeräumt, was gelöscht ist; pg_stat_activity nennt sie", f.OldestTransaction.Round(time.Minute))
	}
	if f.Dead > f.Live && f.Dead > 100000 {
		say("dead-rows", "the table of entries has %d dead rows and %d live ones: is autovacuum on?",
			"Die Tabelle entries hat %d tote Zeilen und %d lebende: Läuft autovacuum?", f.Dead, f.Live)
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

func (f *Fleet) standbyNames() string {
	var names []string
	for _, s := range f.Standbys {
		names = append(names, fmt.Sprintf("%s %s %s", s.Name, s.State, s.Sync))
	}
	if names == nil {
		return "none that this user can see"
	}
	return strings.Join(names, ", ")
}
